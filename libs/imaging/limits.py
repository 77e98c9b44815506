"""Limits that are checked on a header, before anything is decoded."""

from libs.imaging.reasons import ImageError

# libjpeg's JPEG_MAX_DIMENSION; it neither reads nor writes more, although the format's fields would hold 65,535.
MAX_SIDE = 65_500

# Every scan walks over the whole image again. Encoders make about ten, jpegtran scripts some dozens, bombs thousands.
MAX_SCANS = 100

# Headers are walked in Python: microseconds for each part. Real files have tens of segments and thousands of chunks.
MAX_SEGMENTS = 10_000
MAX_CHUNKS = 100_000


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
