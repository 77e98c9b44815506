"""What is compressed, and how fast it was promised to be beside plain Pillow."""

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from tests.bench.photographs import encoded, photograph, sides

FASTER, AS_FAST = 1.3, 1.0


@dataclass(frozen=True)
class Case:
    """Sources of one kind and what is made of them; `promise` is the least ratio of speeds."""

    name: str
    files: tuple[bytes, ...]
    promise: float
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def is_plain_jpeg(self) -> bool:
        """Whether a decoder and an encoder of JPEG are all that it takes."""
        return self.promise == FASTER and not self.asked


def cases() -> list[Case]:
    """Photographs of several sizes as JPEG, and the other formats."""
    one, four, twelve = (photograph(*sides(megapixels)) for megapixels in (1, 4, 12))
    # Different ones, since a processor learns by heart what it decodes again and again.
    small = [photograph(300 + index, 200) for index in range(16)]
    tiny = [photograph(100 + index, 100) for index in range(16)]
    clear = one.copy()
    clear.putalpha(Image.radial_gradient("L").resize(one.size))
    side = Image.Exif()
    side[0x0112] = 6
    jpegs = [
        ("1 MP", one, {"quality": 85}),
        ("1 MP 4:4:4", one, {"quality": 92, "subsampling": 0}),
        ("4 MP", four, {"quality": 88}),
        ("12 MP", twelve, {"quality": 90}),
    ]

    def case(name: str, image: Image.Image, form: str, promise: float = AS_FAST, **made: object) -> Case:
        return Case(name, (encoded(image, form, **made),), promise)

    def several(name: str, images: list[Image.Image]) -> Case:
        return Case(name, tuple(encoded(image, "JPEG", quality=85) for image in images), FASTER)

    def to(form: str, image: Image.Image, source: str, promise: float = AS_FAST, **made: object) -> Case:
        return Case(f"{source} 1 MP -> {form}", (encoded(image, source, **made),), promise, {"format": form.lower()})

    large = encoded(twelve, "JPEG", quality=90)
    return [
        *(case(f"JPEG {name} -> JPEG", image, "JPEG", FASTER, **made) for name, image, made in jpegs),
        case("JPEG 1 MP progressive -> JPEG", one, "JPEG", FASTER, quality=85, progressive=True),
        case("JPEG 1 MP gray -> JPEG", one.convert("L"), "JPEG", FASTER, quality=85),
        several("JPEG 300x200 -> JPEG", small),
        several("JPEG 100x100 -> JPEG", tiny),
        case("JPEG 4 MP turned -> JPEG", four, "JPEG", FASTER, quality=88, exif=side.tobytes()),
        Case("JPEG 12 MP -> 1000 px", (large,), FASTER, {"max_width": 1000}),
        case("PNG 1 MP -> JPEG", one, "PNG"),
        case("PNG 4 MP -> JPEG", four, "PNG"),
        case("PNG 1 MP RGBA -> JPEG", clear, "PNG"),
        case("WebP 1 MP -> JPEG", one, "WEBP", quality=85),
        case("GIF 1 MP -> JPEG", one.quantize(256), "GIF"),
        case("TIFF 1 MP -> JPEG", one, "TIFF"),
        case("BMP 1 MP -> JPEG", one, "BMP"),
        case("AVIF 1 MP -> JPEG", one, "AVIF", quality=70, speed=9),
        to("WebP", one, "JPEG", quality=88),
        to("PNG", one, "JPEG", quality=88),
        to("AVIF", one, "JPEG", quality=88),
        to("WebP", one, "WebP", quality=85),
    ]
