"""Compresses images: bytes in, a smaller picture and its facts out, safe for bytes from strangers.

`CodecPool` runs `compress` in worker processes with limits; nothing else decodes what came from outside. `cost_bytes`
says from the header what an image will take.

What needs the codecs is imported when it is asked for, so that `Options` serves where no codec is installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from libs.imaging.cost import cost_bytes, cost_seconds
from libs.imaging.options import REVISION, Options, RequestOptions
from libs.imaging.reasons import ImageError
from libs.imaging.result import Compressed

if TYPE_CHECKING:
    from libs.imaging.compression import compress
    from libs.imaging.pool import CodecPool

__all__ = [
    "REVISION",
    "CodecPool",
    "Compressed",
    "ImageError",
    "Options",
    "RequestOptions",
    "compress",
    "cost_bytes",
    "cost_seconds",
]

_LATER = {"CodecPool": "libs.imaging.pool", "compress": "libs.imaging.compression"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
