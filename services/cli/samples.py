"""Sample photographs for the demo, made on the fly: scenery with haze, texture and grain."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

from PIL import Image, ImageChops, ImageDraw, ImageOps

_QUALITY = 95
_GRAIN_SIGMA = 10
_TURNED_RIGHT = 6  # EXIF orientation: what is stored as its left edge is the top of the picture
_ORIENTATION_TAG = 0x0112
# One texture does for all mountain ranges of a picture when each shows it from another side.
_TURNS = (
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
)

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image file, and the width and height it has when it is looked at upright."""

    name: str
    content_type: str
    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Scene:
    name: str
    size: tuple[int, int]
    sky: tuple[Colour, Colour]
    near: Colour
    far: Colour


_SCENES = (
    _Scene(
        "coast.jpg",
        (1600, 1000),
        ((38, 92, 160), (255, 214, 170)),
        (30, 52, 44),
        (120, 150, 170),
    ),
    _Scene("dunes.jpg", (1400, 1000), ((90, 140, 200), (250, 235, 205)), (150, 96, 48), (226, 190, 140)),
    _Scene("forest.jpg", (1200, 900), ((130, 165, 190), (225, 230, 215)), (16, 44, 22), (110, 140, 120)),
    _Scene("dusk.jpg", (1500, 1000), ((28, 20, 66), (250, 130, 80)), (18, 14, 30), (96, 60, 100)),
)
_UPRIGHT = _Scene("tower.jpg", (1000, 1400), ((60, 120, 190), (240, 240, 235)), (60, 70, 50), (140, 160, 170))


def samples() -> Iterator[Sample]:
    """Four photographs, one that a camera held on its side has stored turned, and a cut-out with transparency."""
    for number, scene in enumerate(_SCENES):
        yield _sample(scene, _jpeg(_landscape(scene, number)), "image/jpeg")
    yield _sample(_UPRIGHT, _turned_jpeg(_landscape(_UPRIGHT, len(_SCENES))), "image/jpeg")
    cut_out = _cut_out(1000)
    data = BytesIO()
    cut_out.save(data, "PNG", compress_level=1)
    yield Sample("vase.png", "image/png", data.getvalue(), *cut_out.size)


def _sample(scene: _Scene, data: bytes, content_type: str) -> Sample:
    return Sample(scene.name, content_type, data, *scene.size)


def _jpeg(image: Image.Image) -> bytes:
    data = BytesIO()
    image.save(data, "JPEG", quality=_QUALITY, subsampling=0)
    return data.getvalue()


def _turned_jpeg(upright: Image.Image) -> bytes:
    data = BytesIO()
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = _TURNED_RIGHT
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.save(data, "JPEG", quality=_QUALITY, subsampling=0, exif=exif)
    return data.getvalue()


def _landscape(scene: _Scene, seed: int) -> Image.Image:
    rng = random.Random(seed)  # noqa: S311 (scenery, no secrets)
    size = scene.size
    texture = _clouds(size, rng, coarsest=4, finest=256)
    gradient = Image.linear_gradient("L").resize(size)
    picture = ImageOps.colorize(gradient, scene.sky[0], scene.sky[1])
    wisps = texture.point(lambda value: max(0, value - 120) * 2)
    picture.paste((255, 252, 246), mask=wisps)
    for number in range(len(_TURNS)):
        nearness = number / (len(_TURNS) - 1)
        colour = tuple(round(far + (near - far) * nearness) for near, far in zip(scene.near, scene.far, strict=True))
        light = tuple(min(255, part + 70) for part in colour)
        slope = texture.transpose(_TURNS[number])
        picture.paste(ImageOps.colorize(slope, colour, light), mask=_ridge(size, rng, 0.4 + 0.16 * number))
    return _grainy(picture)


def _clouds(size: tuple[int, int], rng: random.Random, *, coarsest: int, finest: int) -> Image.Image:
    """Noise with as much change at each scale as nature has: every octave has half the weight of the coarser one."""
    cells, picture = finest, None
    while cells >= coarsest:
        height = max(2, cells * size[1] // size[0])
        octave = Image.frombytes("L", (cells, height), rng.randbytes(cells * height))
        octave = octave.resize(size, Image.Resampling.BICUBIC)
        picture = Image.blend(picture, octave, 0.5) if picture else octave
        cells //= 2
    if picture is None:
        raise ValueError("finest is below coarsest")
    return ImageOps.autocontrast(picture)


def _ridge(size: tuple[int, int], rng: random.Random, level: float) -> Image.Image:
    """A mask of a mountain range whose crest is at about `level` of the height, by midpoint displacement."""
    width, height = size
    crest = [level * height + rng.uniform(-0.1, 0.1) * height for _ in range(3)]
    roughness = 0.08 * height
    while len(crest) < width // 2:
        between = [(a + b) / 2 + rng.uniform(-roughness, roughness) for a, b in pairwise(crest)]
        crest = [point for pair in zip(crest, between, strict=False) for point in pair] + [crest[-1]]
        roughness *= 0.5
    mask = Image.new("L", size)
    points = [(x * width / (len(crest) - 1), y) for x, y in enumerate(crest)]
    ImageDraw.Draw(mask).polygon([(0.0, float(height)), *points, (float(width), float(height))], fill=255)
    return mask


def _grainy(picture: Image.Image) -> Image.Image:
    grain = Image.effect_noise(picture.size, _GRAIN_SIGMA)
    return ImageChops.add(picture, Image.merge("RGB", (grain, grain, grain)), offset=-128)


def _cut_out(side: int) -> Image.Image:
    """A glazed vase on nothing: its outline is drawn large and scaled down, so that its edge is half transparent."""
    outline = Image.new("L", (2 * side, 2 * side))
    draw = ImageDraw.Draw(outline)
    draw.ellipse((0.4 * side, 0.7 * side, 1.6 * side, 1.9 * side), fill=255)
    draw.rectangle((0.8 * side, 0.25 * side, 1.2 * side, 1.0 * side), fill=255)
    draw.ellipse((0.65 * side, 0.15 * side, 1.35 * side, 0.35 * side), fill=255)
    shade = ImageOps.invert(Image.radial_gradient("L")).resize((side, side))
    glaze = _clouds((side, side), random.Random(7), coarsest=4, finest=128)  # noqa: S311 (pottery, no secrets)
    vase = _grainy(ImageOps.colorize(Image.blend(shade, glaze, 0.35), (12, 30, 60), (150, 210, 225)))
    vase.putalpha(outline.resize((side, side), Image.Resampling.LANCZOS))
    return vase
