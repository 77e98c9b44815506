from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from libs.imaging import Options, compress, likeness
from tests.unit.pictures import encoded, opened, photograph


def test_equal_pictures_do_not_differ_and_worse_ones_differ_more() -> None:
    """Zero for the picture itself, and more the coarser it was compressed."""
    image = photograph()
    source = likeness.luma(image)
    assert likeness.dissimilarity(source, source) == pytest.approx(0, abs=1e-6)
    differences = [
        likeness.dissimilarity(source, likeness.luma(opened(encoded(image, "JPEG", quality=quality))))
        for quality in (90, 70, 50, 30, 10)
    ]
    assert differences == sorted(differences)
    assert 0 < differences[0] < differences[-1] < 1


def test_the_measure_is_that_of_its_paper() -> None:
    """Flat pictures differ by their brightness alone, and an inverted one is as unlike as can be (formula 13)."""
    one, other = np.full((32, 32), 100, np.float32), np.full((32, 32), 120, np.float32)
    c1 = (0.01 * 255) ** 2
    wanted = (1 - (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)) / 2
    assert likeness.dissimilarity(one, other) == pytest.approx(wanted, rel=1e-4)
    board = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((4, 4))).astype(np.float32) * 200 + 27
    assert likeness.dissimilarity(board, 254 - board) > 0.9


def test_white_around_a_product_does_not_make_up_for_it() -> None:
    """The same loss counts the same, however much of one colour lies about it."""
    product = photograph(240, 160)
    alone = likeness.dissimilarity(likeness.luma(product), likeness.luma(opened(encoded(product, "JPEG", quality=30))))
    framed = Image.new("RGB", (960, 640), "white")
    framed.paste(product, (352, 240))
    among = likeness.dissimilarity(likeness.luma(framed), likeness.luma(opened(encoded(framed, "JPEG", quality=30))))
    assert among > 0.8 * alone


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 900), (256, 4), (5000, 100), (2500, 1900), (9000, 300)])
def test_a_sample_is_never_more_than_a_megapixel_of_the_picture(size: tuple[int, int]) -> None:
    """Any shape gives something to be measured, and small pictures are their own sample."""
    image = Image.linear_gradient("L").resize(size)
    tiles = likeness.sample(image)
    assert tiles.width * tiles.height <= max(1 << 20, min(size) * max(size) if min(size) < 256 else 0)
    luma = likeness.luma(tiles)
    assert likeness.dissimilarity(luma, luma) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("form", ["jpeg", "webp", "avif"])
@pytest.mark.parametrize("radius", [0, 3])
def test_auto_leaves_its_own_output_alone(form: Any, radius: int) -> None:
    """A little less would always do; but each output would then be the source of a worse one."""
    source = encoded(photograph(480, 320).filter(ImageFilter.GaussianBlur(radius)), "PNG")
    options = Options(quality="auto", format=form)
    first = compress(source, options)
    second = compress(first.data, options)
    assert first.quality in range(1, 96)
    assert (second.data, second.kept, second.quality) == (first.data, True, None)
    assert likeness.dissimilarity(likeness.luma(opened(source)), likeness.luma(opened(first.data))) <= likeness.BOUND
