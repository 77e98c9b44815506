"""The other side: Pillow's `open` and `save`, and no more than what is asked needs."""

import io

from PIL import Image, ImageOps

from tests.bench.imaging.sides.turns import Asked, Work, take_turns

_ORIENTATION = 0x0112


def prepared(asked: Asked) -> Work:
    """Pillow by what is asked."""
    form, max_width = asked.get("format", "jpeg"), asked.get("max_width")
    parameters = {"max_threads": 1} if form == "avif" else {}

    def work(data: bytes) -> bytes:
        image: Image.Image = Image.open(io.BytesIO(data))
        if max_width is not None:
            image.thumbnail((max_width, 100_000), Image.Resampling.LANCZOS)
        if image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if form == "jpeg" and image.mode in {"RGBA", "P"}:
            clear = image.convert("RGBA")
            image = Image.new("RGB", clear.size, "white")
            image.paste(clear, mask=clear.getchannel("A"))
        output = io.BytesIO()
        image.save(output, form.upper(), quality=50, **parameters)
        return output.getvalue()

    return work


if __name__ == "__main__":
    take_turns(prepared)
