"""Finds the quality that a size or a likeness asks for."""

import io
from collections.abc import Callable

from PIL import Image

from libs.imaging import likeness
from libs.imaging.encoding import Form, encode
from libs.imaging.options import QUALITIES
from libs.imaging.picture import Picture

_LARGE_AREA = 2 << 20  # twice a sample


def highest_within(picture: Picture, form: Form, most_bytes: int) -> tuple[bytes, int]:
    """The file of the highest quality that has at most `most_bytes`, or else of the lowest there is, and its quality.

    Bytes grow with quality, but for steps too small to matter. The files of a sample tell about where to look, so that
    of a large picture three or four files are made and not seven.
    """
    files: dict[int, bytes] = {}

    def fits(quality: int) -> bool:
        files.clear()  # one at a time: they may be large
        files[quality] = encode(picture, form, quality)
        return len(files[quality]) <= most_bytes

    tiles = likeness.sample(picture.image()) if picture.area > _LARGE_AREA else None
    if tiles is None:
        best = _bisected(fits, *QUALITIES)
    else:
        part = Picture(tiles)
        share = (most_bytes - len(picture.profile or b"") - len(picture.exif)) * part.area / picture.area
        best = _around(_bisected(lambda quality: len(encode(part, form, quality)) <= share, *QUALITIES), fits)
    file = files[best] if best in files else encode(picture, form, best)
    return file, best


def lowest_alike(picture: Picture, form: Form) -> int:
    """The lowest quality at which a sample of `picture` differs from it by no more than `likeness.BOUND`.

    95 where none is that good. What is transparent is not looked at.
    """
    tiles = likeness.sample(picture.image())
    wanted = likeness.luma(tiles)
    part = Picture(tiles)

    def differs(quality: int) -> bool:
        with Image.open(io.BytesIO(encode(part, form, quality)), formats=[form.upper()]) as image:
            return likeness.dissimilarity(wanted, likeness.luma(image)) > likeness.BOUND

    lowest, highest = QUALITIES
    if not differs(lowest):
        return lowest
    return min(highest, _bisected(differs, lowest, highest) + 1)


def _around(guess: int, holds: Callable[[int], bool]) -> int:
    """As `_bisected` over all qualities, in few steps where `guess` is close."""
    lowest, highest = QUALITIES
    step = 1
    if holds(guess):
        while guess + step <= highest and holds(guess + step):
            guess, step = guess + step, 2 * step
        return _bisected(holds, guess, min(highest, guess + step - 1))
    above = guess
    while above > lowest:
        below = max(lowest, above - step)
        if holds(below):
            return _bisected(holds, below, above - 1)
        above, step = below, 2 * step
    return lowest


def _bisected(holds: Callable[[int], bool], lowest: int, highest: int) -> int:
    """The highest of a range for which `holds` is true, if it is true up to there; `lowest` where it never is."""
    while lowest < highest:
        middle = (lowest + highest + 1) // 2
        if holds(middle):
            lowest = middle
        else:
            highest = middle - 1
    return lowest
