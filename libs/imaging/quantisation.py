"""JPEG quantisation tables as a measure of quality."""

from functools import cache

# ITU-T T.81, Annex K, tables K.1 and K.2, which libjpeg scales by its quality. The order does not matter here.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip


@cache
def coarseness(quality: int) -> tuple[int, int]:
    """The sums of the steps of libjpeg's two tables, luminance and chrominance, at a quality (1 to 100)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality

    def total(table: tuple[int, ...]) -> int:
        return sum(min(max((step * scale + 50) // 100, 1), 255) for step in table)

    return total(_LUMINANCE), total(_CHROMINANCE)


def at_most(quality: int, sums: tuple[int, ...]) -> bool:
    """Whether tables with these sums, one for each component, are at least as coarse as libjpeg's at `quality`.

    Sums, because encoders with tables of their own (mozjpeg, Photoshop, cameras) spread the same loss differently.
    """
    luminance, chrominance = coarseness(quality)
    return sums[0] >= luminance and all(found >= chrominance for found in sums[1:])
