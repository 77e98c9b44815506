"""Compresses one image."""

import io

from libs.imaging import jpeg
from libs.imaging.decode import Picture, decode, decode_jpeg
from libs.imaging.options import Options
from libs.imaging.result import Compressed
from libs.imaging.sniff import SourceFormat, sniff


def compress(data: bytes, options: Options) -> Compressed:
    """Makes a JPEG of `options.quality` from an image in any supported format.

    A JPEG that gains nothing by it is kept: its own compressed data, without its metadata. Compressing an output again
    therefore gives the same bytes. Never kept is what must be turned upright, has four colours, or is coded as browsers
    cannot read it.

    Meant for a worker process: it holds the GIL for long, changes Pillow's global limit and takes the memory it needs.

    Raises:
        ImageError: with the reason.
        MemoryError: there was not enough of it.
    """
    source = sniff(data)
    if source is SourceFormat.JPEG:
        return _from_jpeg(data, options)
    picture = decode(data, source, options.max_pixels)
    encoded = _encode(picture, options.quality)
    return Compressed.jpeg(encoded, picture.image.size, source_bytes=len(data), animated=picture.animated)


def _from_jpeg(data: bytes, options: Options) -> Compressed:
    structure = jpeg.parse(data, options.max_pixels)
    clean = structure.without_metadata()
    picture = decode_jpeg(structure, clean, options.max_pixels)
    if structure.is_portable and structure.is_quality_at_most(options.quality):
        return Compressed.jpeg(clean, picture.image.size, source_bytes=len(data), kept=True)
    encoded = _encode(picture, options.quality)
    # Measured against the cleaned source, which is what a second run would see.
    if structure.is_portable and len(encoded) >= len(clean):
        return Compressed.jpeg(clean, picture.image.size, source_bytes=len(data), kept=True)
    return Compressed.jpeg(encoded, picture.image.size, source_bytes=len(data))


def _encode(picture: Picture, quality: int) -> bytes:
    output = io.BytesIO()
    # Huffman tables of its own save a photograph 2 % and a thumbnail far more, for 5 % of the time.
    picture.image.save(output, "JPEG", quality=quality, optimize=True, icc_profile=picture.profile)
    return output.getvalue()
