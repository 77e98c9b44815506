"""What an image takes of a worker: memory and time, by its header, its format and what is asked for.

The figures are the worst of `python -m tests.bench.codec_costs` (2 cores of an AMD EPYC, Pillow 13.0, simplejpeg 1.9)
and a fifth more: CMYK that is turned, progressive JPEG without subsampling, transparency in 16 bits, lossless WebP.
"""

from typing import Final

from libs.imaging import geometry, header
from libs.imaging.limits import MAX_AVIF_PIXELS
from libs.imaging.options import Options
from libs.imaging.sniff import SourceFormat

_BASE_BYTES = 64 << 20  # tables of the codecs, and the sample that `quality="auto"` works on
_FILES = 4  # as it came, cut into segments, put together, and in a decoder's buffer

# Decoded, converted, resized and turned, without the encoder: bytes and nanoseconds of CPU for each pixel.
_DECODE: Final = {
    SourceFormat.JPEG: (14, 45),
    SourceFormat.PNG: (14, 60),
    SourceFormat.WEBP: (24, 70),
    SourceFormat.GIF: (12, 30),
    SourceFormat.BMP: (14, 30),
    SourceFormat.TIFF: (18, 30),
    SourceFormat.AVIF: (22, 70),
}

_DECODE_INKS: Final = (20, 45)

# What an encoder adds for each pixel of the output: of an opaque picture, and of one with transparency.
_ENCODE: Final = {
    "jpeg": ((2, 20), (2, 20)),
    "png": ((8, 800), (8, 800)),
    "webp": ((6, 130), (30, 700)),
    "avif": ((28, 700), (28, 1200)),
}
_OPAQUE: Final = frozenset({SourceFormat.JPEG})

_KEPT_FORMS: Final = {SourceFormat.JPEG: "jpeg", SourceFormat.WEBP: "webp", SourceFormat.AVIF: "avif"}

# Encoders run for a target of bytes, and on a megapixel for a likeness (`libs.imaging.search`).
_TRIES = 8
_SAMPLE_PIXELS, _SAMPLE_NANOSECONDS = 1 << 20, 80

# Other machines are slower, and share their cores; but an image that takes eight times as long will not end.
_LEAST_SECONDS, _SLOWER = 5.0, 8


def cost_bytes(data: bytes, options: Options) -> int:
    """How much memory compressing `data` takes at the most, in bytes.

    Read off the header in microseconds. It is the address space that a worker gets for the image, and what the image
    counts for where the images in work are limited by their bytes.
    """
    known = header.read(data)
    if known is None:  # no image: found out by its first bytes
        return _BASE_BYTES
    pixels, written = _sizes(known, options)
    (extra, _) = _encoder(known.source, options)
    return _BASE_BYTES + _FILES * len(data) + pixels * _decoder(known)[0] + written * extra


def cost_seconds(data: bytes, options: Options) -> float:
    """How long compressing `data` may take: CPU time, and wall-clock time with a core for itself."""
    known = header.read(data)
    if known is None:
        return _LEAST_SECONDS
    pixels, written = _sizes(known, options)
    (_, nanoseconds) = _encoder(known.source, options)
    total = pixels * _decoder(known)[1] + written * nanoseconds
    if options.quality == "auto":
        total += _TRIES * min(written, _SAMPLE_PIXELS) * (nanoseconds + _SAMPLE_NANOSECONDS)
    elif options.target_ratio is not None or options.max_bytes is not None:
        total += (_TRIES - 1) * written * nanoseconds
    return _LEAST_SECONDS + _SLOWER * total / 1e9


def _sizes(known: header.Header, options: Options) -> tuple[int, int]:
    """The pixels that will be decoded and those that will be written; what is too many is refused before."""
    pixels = known.pixels
    if pixels == 0:
        return options.max_pixels, options.max_pixels
    if pixels > options.max_pixels:
        return 0, 0
    # Either way round: the estimate does not know how the picture is turned.
    written = max(_area(geometry.fitted(size, options)) for size in _ways(known))
    return pixels, min(written, MAX_AVIF_PIXELS) if options.format == "avif" else written


def _ways(known: header.Header) -> tuple[geometry.Size, geometry.Size]:
    return (known.width, known.height), (known.height, known.width)


def _area(size: geometry.Size) -> int:
    return size[0] * size[1]


def _decoder(known: header.Header) -> tuple[int, int]:
    return _DECODE_INKS if known.inks else _DECODE[known.source]


def _encoder(source: SourceFormat, options: Options) -> tuple[int, int]:
    form = _KEPT_FORMS.get(source, "png") if options.format == "keep" else options.format
    return _ENCODE[form][0 if source in _OPAQUE else 1]
