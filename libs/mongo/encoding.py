"""Documents encoded before they are sent, so that the driver has only to copy them while the server waits."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import bson
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument

Encoded: TypeAlias = RawBSONDocument


def encoded(documents: Sequence[dict[str, Any]]) -> list[Encoded]:
    """The documents as BSON; together, since to encode each by itself takes twice as long."""
    whole = bson.encode({"documents": documents})
    found: list[Encoded] = bson.decode(whole, DEFAULT_RAW_BSON_OPTIONS)["documents"]
    return found
