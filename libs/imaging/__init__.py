"""Compresses images: bytes in, a smaller JPEG and its facts out, safe for bytes from strangers.

`CodecPool` runs `compress` in worker processes with limits; nothing else decodes what came from outside.
"""

from libs.imaging.compression import compress
from libs.imaging.options import Options
from libs.imaging.pool import CodecPool
from libs.imaging.reasons import ImageError
from libs.imaging.result import Compressed

__all__ = ["CodecPool", "Compressed", "ImageError", "Options", "compress"]
