"""What came of one image, as a codec process tells it.

Plain JSON and bytes: a picture may have taken the process over, and what is unpickled can run code in the service.
"""

import json
import traceback
from collections.abc import Callable
from typing import Any, get_args

from pydantic import TypeAdapter

from libs.imaging.frames import Frame
from libs.imaging.reasons import Code, ImageError
from libs.imaging.result import Compressed

_COMPRESSED = TypeAdapter(Compressed)
_CODES = get_args(Code)
_DETAIL_CHARACTERS = 2000


class MistakeError(Exception):
    """A codec process raised what is no reason of an image; `traceback` is of there."""

    def __init__(self, what: str, traceback: str) -> None:
        super().__init__(what)
        self.traceback = traceback


def reply_of(work: Callable[[], Compressed]) -> Frame:
    """Does the work and gives what is to be told of it."""
    said: dict[str, Any]
    try:
        result = work()
    except ImageError as error:
        said = {"refused": {"code": error.code, "detail": error.detail, "retryable": error.retryable}}
    except Exception as error:  # noqa: BLE001 (it is told to the service)
        said = {"mistake": [f"{type(error).__name__}: {error}", traceback.format_exc()]}
    else:
        return Frame(b'{"made":%b}' % _COMPRESSED.dump_json(result, exclude={"data"}), result.data)
    return Frame(json.dumps(said).encode())


def result_of(reply: Frame) -> Compressed:
    """The result that a reply tells of.

    Raises:
        ImageError: the image's own reason.
        MistakeError: the codec did not expect this.
        ValueError: that is no reply.
    """
    try:
        said = json.loads(reply.head)
    except RecursionError as error:
        raise ValueError("a reply of many brackets") from error
    match said:
        case {"made": {**facts}}:
            result = _COMPRESSED.validate_python({**facts, "data": reply.body})
            _ = result.name  # taken here, which is a thread where the data are large
            return result
        case {"refused": {"code": code, "detail": str(detail), "retryable": bool(retryable)}} if code in _CODES:
            raise ImageError(code, _plain(detail), retryable=retryable)
        case {"mistake": [str(what), str(where)]}:
            raise MistakeError(_plain(what), where)
        case other:
            raise ValueError(f"no reply: {str(other)[:100]}")


def _plain(text: str) -> str:
    """As much of a text as is wanted, without halves of characters, which no document takes."""
    return text[:_DETAIL_CHARACTERS].encode(errors="replace").decode()
