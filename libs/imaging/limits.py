"""Limits that are checked on a header, before anything is decoded."""

from libs.imaging.reasons import ImageError

# libjpeg's JPEG_MAX_DIMENSION; it neither reads nor writes more, although the format's fields would hold 65,535.
MAX_SIDE = 65_500

# Every scan walks over the whole image again. Encoders make about ten, jpegtran scripts some dozens, bombs thousands.
MAX_SCANS = 100

# Twenty scans of the largest picture that is taken by default; a scan of 12 megapixels takes 20 ms.
MAX_SCANNED_PIXELS = 1_000_000_000

# Headers are walked in Python: microseconds for each part. Real files have tens of segments and thousands of chunks.
MAX_SEGMENTS = 10_000
MAX_CHUNKS = 100_000

# The largest side that a format can hold: libjpeg's own limit, and 14 bits for WebP. AVIF has room for more, and what
# writes it does so, but libavif reads no more (its AVIF_DEFAULT_IMAGE_DIMENSION_LIMIT).
_MAX_OUTPUT_SIDE = {"jpeg": MAX_SIDE, "webp": 16_383, "avif": 32_768}

# An AVIF encoder takes twenty times the time of a JPEG encoder and eight times the memory (see `libs.imaging.cost`).
MAX_AVIF_PIXELS = 12_000_000


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuses a picture by the size that its header states.

    Raises:
        ImageError: `corrupt` without any area, `too_many_pixels` beyond what may be decoded or a JPEG can hold.
    """
    if width < 1 or height < 1:
        raise ImageError("corrupt", f"the header says {width}x{height}")
    if width * height > max_pixels:
        raise ImageError("too_many_pixels", f"{width}x{height} is more than {max_pixels} pixels")
    if max(width, height) > MAX_SIDE:
        raise ImageError("too_many_pixels", f"{width}x{height}: a JPEG has at most {MAX_SIDE} pixels on a side")


def check_output(width: int, height: int, form: str) -> None:
    """Refuses a picture that the output format cannot hold, or not at a bearable cost.

    Raises:
        ImageError: `too_many_pixels`.
    """
    side = _MAX_OUTPUT_SIDE.get(form)
    if side is not None and max(width, height) > side:
        raise ImageError("too_many_pixels", f"{width}x{height}: {form} holds at most {side} pixels on a side")
    if form == "avif" and width * height > MAX_AVIF_PIXELS:
        raise ImageError("too_many_pixels", f"{width}x{height}: AVIF is made of at most {MAX_AVIF_PIXELS} pixels")
