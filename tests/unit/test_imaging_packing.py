from collections.abc import Callable

import pytest
from PIL import Image, ImageDraw

from libs.imaging import Options, compress
from tests.unit.pictures import encoded, opened, photograph

SIZE = (400, 300)


def soft() -> Image.Image:
    """A photograph out of focus, as it comes out of a JPEG."""
    image = photograph(100, 75).resize(SIZE, Image.Resampling.BICUBIC)
    return opened(encoded(image, "JPEG", quality=88))


def drawing() -> Image.Image:
    """Plain shapes and letters."""
    image = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(image)
    for step in range(0, 300, 20):
        draw.rectangle((step, step // 2, step + 60, step + 10), fill=(step // 2, 200, 255 - step // 2))
        draw.text((5, step), "letters and letters and letters", fill="black")
    return image


def pattern() -> Image.Image:
    """A piece of a photograph, again and again: no runs, and nothing but repetitions."""
    image = Image.new("RGB", SIZE)
    for left in range(0, SIZE[0], 40):
        for top in range(0, SIZE[1], 30):
            image.paste(photograph(40, 30), (left, top))
    return image


def on_white() -> Image.Image:
    """A photograph in the midst of white."""
    image = Image.new("RGB", SIZE, "white")
    image.paste(photograph(200, 150), (100, 75))
    return image


def gradient() -> Image.Image:
    """Smooth tones."""
    return Image.radial_gradient("L").resize(SIZE).convert("RGB")


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "photograph": lambda: photograph(*SIZE),
    "soft photograph": soft,
    "small photograph": lambda: photograph(120, 90),
    "drawing": drawing,
    "pattern": pattern,
    "on white": on_white,
    "gradient": gradient,
}


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """`image` in a mode; half transparent towards its corners where the mode has that."""
    made = image.convert(mode)
    if "A" in mode:
        made.putalpha(Image.radial_gradient("L").resize(image.size).point([255 - tone // 2 for tone in range(256)]))
    return made


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("kind", PICTURES)
def test_a_png_has_the_same_pixels_in_no_more_bytes_than_pillow_takes(kind: str, mode: str) -> None:
    """Within the 2 % of `tests.bench.imaging`, whatever the picture; and made again, it is the same file."""
    image = in_mode(PICTURES[kind](), mode)
    result = compress(encoded(image, "PNG", compress_level=1), Options(format="png"))
    assert opened(result.data).tobytes() == image.tobytes()
    assert len(result.data) <= 1.02 * len(encoded(image, "PNG"))
    assert compress(result.data, Options(format="png")).data == result.data


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_soft_photograph_takes_fewer_bytes_as_png_than_by_pillow(mode: str) -> None:
    """It is packed by runs, which is faster, too."""
    image = soft().convert(mode)
    result = compress(encoded(image, "BMP"), Options(format="png"))
    assert opened(result.data).tobytes() == image.tobytes()
    assert len(result.data) < 0.97 * len(encoded(image, "PNG"))
