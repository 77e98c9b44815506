"""Places in a list of deliveries as text that clients pass back and need not understand."""

import base64
import struct
from datetime import UTC, datetime, timedelta

from libs.documents import Place

_PREFIX = "msg_"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BYTES = struct.Struct(">q16s")  # 24 bytes, so that base64 has 32 characters and no padding


def cursor_of(place: Place | None) -> str | None:
    """The text that stands for `place`."""
    if place is None:
        return None
    digest = bytes.fromhex(place.webhook_id.removeprefix(_PREFIX))
    return base64.urlsafe_b64encode(_BYTES.pack((place.moment - _EPOCH) // _MILLISECOND, digest)).decode()


def place_of(cursor: str | None) -> Place | None:
    """The place that `cursor` stands for; all text of its shape stands for one."""
    if cursor is None:
        return None
    milliseconds, digest = _BYTES.unpack(base64.urlsafe_b64decode(cursor))
    try:
        moment = _EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC) if milliseconds > 0 else datetime.min.replace(tzinfo=UTC)
    return Place(moment, _PREFIX + digest.hex())
