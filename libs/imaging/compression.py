"""Compresses one image."""

import time
from dataclasses import dataclass

from libs.imaging import jpeg, search
from libs.imaging.decode import Decoded, decode
from libs.imaging.encoding import EXTENSIONS, LOSSLESS, Form, encode
from libs.imaging.lanes import decode_jpeg
from libs.imaging.options import Options
from libs.imaging.result import Compressed
from libs.imaging.sniff import SourceFormat, sniff

_FORMS: dict[SourceFormat, Form] = {
    SourceFormat.JPEG: "jpeg",
    SourceFormat.WEBP: "webp",
    SourceFormat.AVIF: "avif",
}

# How much smaller than the source a file must be to be worth another loss. A JPEG tells its quality by its tables, and
# PNG loses nothing; of WebP and AVIF one can only see that the last compression left nothing to be gained: a second one
# at the same quality saves some per cent at the most.
_WORTH: dict[Form, float] = {"jpeg": 1.0, "png": 1.0, "webp": 0.9, "avif": 0.9}

# `quality="auto"` finds of any source that a little less would still look like it, so that each run would lose a little
# more. Measured, a second run would save up to a tenth of a JPEG of the first, and a quarter of a WebP or AVIF.
_WORTH_ALIKE: dict[Form, float] = {"jpeg": 0.85, "png": 1.0, "webp": 0.7, "avif": 0.7}


def compress(data: bytes, options: Options) -> Compressed:
    """Makes a smaller picture from an image in any supported format, by `options`.

    A source in the format that is asked for is kept where nothing is gained by encoding it again: its own compressed
    data, without its metadata. Compressing an output again with the same options therefore gives the same bytes (but
    `target_ratio`, which asks for less than whatever it is given). Never kept is what must be turned, resized, changed
    in format or colours, or is coded as browsers cannot read it.

    Meant for a worker process: it holds the GIL for long, changes Pillow's global limit and takes the memory it needs.

    Raises:
        ImageError: with the reason.
        MemoryError: there was not enough of it.
    """
    began = time.perf_counter()
    source = sniff(data)
    form = _form(source, options)
    if source is SourceFormat.JPEG:
        structure = jpeg.parse(data, options.max_pixels)
        decoded = decode_jpeg(structure, form, options)
        coarse = isinstance(options.quality, int) and structure.is_quality_at_most(options.quality)
    else:
        decoded = decode(data, source, form, options)
        coarse = False
    decoded_at = time.perf_counter()
    choice = _chosen(decoded, form, options, len(data), coarse=coarse)
    return Compressed(
        data=choice.data,
        format=form,
        extension=EXTENSIONS[form],
        width=decoded.picture.size[0],
        height=decoded.picture.size[1],
        kept=choice.kept,
        animated=decoded.animated,
        larger_than_source=len(choice.data) > len(data),
        quality=choice.quality,
        target_missed=choice.target_missed,
        source_bytes=len(data),
        source_format=source.lower(),
        source_width=decoded.size[0],
        source_height=decoded.size[1],
        decode_seconds=decoded_at - began,
        encode_seconds=time.perf_counter() - decoded_at,
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """The file that is given, and why."""

    data: bytes
    kept: bool = False
    quality: int | None = None
    target_missed: bool = False


def _form(source: SourceFormat, options: Options) -> Form:
    if options.format != "keep":
        return options.format
    return _FORMS.get(source, "png")


def _chosen(decoded: Decoded, form: Form, options: Options, source_bytes: int, *, coarse: bool) -> _Choice:
    own = decoded.clean if _FORMS.get(decoded.source, "png") == form else None
    if decoded.source in {SourceFormat.GIF, SourceFormat.BMP, SourceFormat.TIFF}:
        own = None
    most = _most_bytes(options, source_bytes)
    if most is not None:
        return _within(decoded, form, own, most)
    if own is not None and coarse:
        return _Choice(own, kept=True)
    quality = None if form in LOSSLESS else _quality(decoded, form, options)
    encoded = encode(decoded.picture, form, quality or 0)
    # Measured against the cleaned source, which is what a second run would see.
    worth = _WORTH_ALIKE if options.quality == "auto" else _WORTH
    if own is not None and len(encoded) >= len(own) * worth[form]:
        return _Choice(own, kept=True)
    return _Choice(encoded, quality=quality)


def _most_bytes(options: Options, source_bytes: int) -> int | None:
    if options.target_ratio is not None:
        return int(source_bytes * options.target_ratio)
    return options.max_bytes


def _within(decoded: Decoded, form: Form, own: bytes | None, most: int) -> _Choice:
    """A file of at most `most` bytes: the source if it is small enough, else the best there is, or the smallest."""
    if own is not None and len(own) <= most:
        return _Choice(own, kept=True)
    if form in LOSSLESS:
        encoded, quality = encode(decoded.picture, form, 0), None
    else:
        encoded, quality = search.highest_within(decoded.picture, form, most)
    if own is not None and len(encoded) >= len(own):
        return _Choice(own, kept=True, target_missed=True)
    return _Choice(encoded, quality=quality, target_missed=len(encoded) > most)


def _quality(decoded: Decoded, form: Form, options: Options) -> int:
    return search.lowest_alike(decoded.picture, form) if options.quality == "auto" else options.quality
