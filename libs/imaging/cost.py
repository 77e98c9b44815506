"""What an image takes of a worker: memory and time, by its header, its format and what is asked for.

The figures are the worst of `python -m tests.bench.codec_costs` (2 cores of an AMD EPYC, Pillow 13.0, simplejpeg 1.9)
and a fifth more: CMYK that is turned, progressive JPEG without subsampling, transparency in 16 bits, lossless WebP.
"""

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Cost:
    """What compressing an image takes at the most.

    `memory_bytes` is the address space that a worker gets for it, and what it counts for among the images in work.
    `work_seconds` is CPU time, where it was measured.
    """

    memory_bytes: int
    work_seconds: float

    @property
    def seconds(self) -> float:
        """CPU time that it may take anywhere."""
        return _LEAST_SECONDS + _SLOWER * self.work_seconds


def cost_of(data: bytes, options: Options) -> Cost:
    """What compressing `data` takes, read off its header in microseconds and without a decoder.

    An image whose size cannot be told costs as much as any that is let in.
    """
    known = header.read(data)
    if known is None:  # no image: found out by its first bytes
        return Cost(_BASE_BYTES, 0.0)
    pixels, written = _sizes(known, options)
    decode_bytes, decode_nanoseconds = _decoder(known)
    encode_bytes, encode_nanoseconds = _encoder(known.source, options)
    memory_bytes = _BASE_BYTES + _FILES * len(data) + pixels * decode_bytes + written * encode_bytes
    nanoseconds = pixels * decode_nanoseconds + written * encode_nanoseconds
    if options.quality == "auto":
        nanoseconds += _TRIES * min(written, _SAMPLE_PIXELS) * (encode_nanoseconds + _SAMPLE_NANOSECONDS)
    elif options.target_ratio is not None or options.max_bytes is not None:
        nanoseconds += (_TRIES - 1) * written * encode_nanoseconds
    return Cost(memory_bytes, nanoseconds / 1e9)


def cost_bytes(data: bytes, options: Options) -> int:
    """How much memory compressing `data` takes at the most, in bytes."""
    return cost_of(data, options).memory_bytes


def cost_seconds(data: bytes, options: Options) -> float:
    """How much CPU time compressing `data` may take."""
    return cost_of(data, options).seconds


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
