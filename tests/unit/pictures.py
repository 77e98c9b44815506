"""Pictures that the imaging tests make for themselves, and files that lie."""

import base64
import io
import random
import struct
import zlib
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageStat

RED, GREEN, BLUE, YELLOW = (230, 20, 30), (20, 200, 40), (30, 40, 220), (240, 220, 20)

# A gray gradient of 64x48, 3x + 2y modulo 256, of quality 60 in arithmetic coding, which Pillow does not write.
ARITHMETIC = base64.b85decode(
    b"|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6Modmp"
    b"Q&KWMT47pHU`kO^PyfjP3kU!(06+l&5di<p00saM5C#9*00;pA002J#{{XS^>}~yIkJ}gW;kE(&NF#4alTGo04ZHP~qsn@IF+m{Ust"
    b"|*Y!*g6jO2qdl1Dv!pcUcJYd{bfe-tn)^h)gGn@Cx)ICox{i6Aaw;5!Vq;Zmy~-%faymDAnIEN#U%<ww)rpL5BXLzmCY+U3|l3z*(W"
    b"W+YD=wEQvveTxv+{{{WhaMP;aQktv3Zx%D(urF8eBN%|uc>19LmRDw9icR3jgA7J?6yCT2;*#"
)


def quarters(
    width: int = 96, height: int = 64, colours: Sequence[tuple[int, int, int]] = (RED, GREEN, BLUE, YELLOW)
) -> Image.Image:
    """Four colours: top left, top right, bottom left, bottom right; so that one can tell which way up it is."""
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate(colours):
        left, top = index % 2 * (width // 2), index // 2 * (height // 2)
        image.paste(colour, (left, top, width if index % 2 else width // 2, height if index // 2 else height // 2))
    return image


def photograph(width: int = 240, height: int = 160) -> Image.Image:
    """Something with the grain of a photograph, which a coarse JPEG makes much smaller; the same at every run."""
    size = (max(1, width // 4), max(1, height // 4))
    noise = random.Random(width)  # noqa: S311 - grain, no secret
    channels = [
        Image.frombytes("L", size, noise.randbytes(size[0] * size[1]))
        .point([round(128 + (value - 128) * share) for value in range(256)])
        .resize((width, height))
        for share in (0.8, 0.55, 0.7)
    ]
    return Image.blend(Image.merge("RGB", channels), quarters(width, height), 0.4)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """`image` as a file of Pillow's format `form`."""
    output = io.BytesIO()
    image.save(output, form, **options)
    return output.getvalue()


def opened(data: bytes) -> Image.Image:
    """`data` decoded, whatever limit a compression has left in Pillow."""
    Image.MAX_IMAGE_PIXELS = None
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def is_close(found: object, wanted: tuple[int, ...], tolerance: int = 14) -> bool:
    """Whether a pixel is the wanted colour, but for what a JPEG of quality 50 does to it."""
    parts = found if isinstance(found, tuple) else (found,)
    return len(parts) == len(wanted) and all(abs(a - b) <= tolerance for a, b in zip(parts, wanted, strict=True))


def looks_like(found: Image.Image, wanted: Image.Image, tolerance: int = 24) -> bool:
    """Whether pictures have the same size and channels, and the same colour in each of 12 x 8 fields.

    Grain is lost in an average; a part that is missing, turned or in other colours is not.
    """
    if (found.size, found.mode) != (wanted.size, wanted.mode):
        return False
    fields = [image.resize((12, 8), Image.Resampling.BOX) for image in (found, wanted)]
    return all(most <= tolerance for _, most in ImageStat.Stat(ImageChops.difference(*fields)).extrema)


def corners(image: Image.Image) -> list[object]:
    """The pixels in the middle of the four quarters, in the order of `quarters`."""
    width, height = image.size
    return [image.getpixel((width * x // 4, height * y // 4)) for y in (1, 3) for x in (1, 3)]


def marker_segment(marker: int, payload: bytes) -> bytes:
    """A segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """`jpeg` with segments put in after its beginning."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def patched_frame(jpeg: bytes, *, marker: int | None = None, offset: int = 0, value: bytes = b"") -> bytes:
    """`jpeg` with another process, or with bytes changed in its frame header (offset 0 is the precision)."""
    start = next(at for at in (jpeg.find(b"\xff\xc0\0"), jpeg.find(b"\xff\xc2\0")) if at >= 0)
    changed = bytearray(jpeg)
    changed[start + 1] = marker if marker is not None else changed[start + 1]
    changed[start + 4 + offset : start + 4 + offset + len(value)] = value
    return bytes(changed)


def exif(tag: int, kind: int, value: bytes, order: str = "<") -> bytes:
    """An EXIF block with one entry; `value` is what stands in its four bytes."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + head + struct.pack(f"{order}IHHHI", 8, 1, tag, kind, 1) + value.ljust(4, b"\0") + bytes(4)


def oriented(value: int) -> bytes:
    """An EXIF block that says which way up the picture is."""
    return exif(0x0112, 3, struct.pack("<H", value))


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, *, depth: int, colour: int, rows: bytes, extra: Sequence[bytes] = (), interlace: int = 0
) -> bytes:
    """A PNG file of raw rows (each with its filter byte), with extra chunks before the data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


def tiff(tags: dict[int, tuple[int, ...]], strips: Sequence[bytes], order: str = "<") -> bytes:
    """A TIFF file of raw strips: the values of its tags as 32 bits, and where the strips lie and how long they are."""
    lengths = tuple(len(strip) for strip in strips)
    tags = {**tags, 273: lengths, 279: lengths}
    end = 8 + 2 + 12 * len(tags) + 4
    body = end + 4 * sum(len(values) for values in tags.values() if len(values) > 1)
    tags[273] = tuple(body + sum(lengths[:number]) for number in range(len(strips)))
    directory, rest = struct.pack(f"{order}H", len(tags)), b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack(f"{order}I", end + len(rest))
        directory += struct.pack(f"{order}HHI", tag, 4, len(values)) + place
        rest += packed if len(values) > 1 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + directory + bytes(4) + rest + b"".join(strips)


def webp_animation(size: tuple[int, int], *frames: tuple[int, int, Image.Image]) -> bytes:
    """An animated WebP (RFC 9649, 2.7.1.1) of frames with their places, which are even."""

    def part(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

    def threes(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    body = part(b"VP8X", b"\x02\0\0\0" + threes(size[0] - 1, size[1] - 1)) + part(b"ANIM", b"\xff\xff\xff\xff\0\0")
    for left, top, image in frames:
        place = threes(left // 2, top // 2, image.width - 1, image.height - 1, 100) + b"\0"
        body += part(b"ANMF", place + encoded(image, "WEBP", lossless=True)[12:])
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def profile(space: bytes, size: int = 600) -> bytes:
    """A profile that only has what tells its space, padded with bytes that compress badly enough to notice."""
    body = bytearray((position * 37 + position // 256) % 256 for position in range(size))
    body[0:4] = struct.pack(">I", size)
    body[16:20] = space
    body[36:40] = b"acsp"
    return bytes(body)


def cmyk_profile(corners_in_lab: dict[tuple[int, int, int, int], tuple[int, int, int]]) -> bytes:
    """An ICC v2 profile (ICC.1:2001-04) of four inks: the Lab colours of full inks, black for all others."""
    grid = bytearray()
    for index in range(16):
        inks = (index >> 3 & 1, index >> 2 & 1, index >> 1 & 1, index & 1)
        lightness, a, b = corners_in_lab.get(inks, (0, 0, 0))
        grid += bytes((round(lightness * 2.55), a + 128, b + 128))
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 if place % 4 == 0 else 0 for place in range(9)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + identity * 4 + bytes(grid) + identity * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)  # D50
    text = b"text" + bytes(4) + b"none\0\0\0\0"
    tags = {b"A2B0": table + bytes(-len(table) % 4), b"wtpt": white, b"cprt": text, b"desc": text}
    offset, directory, bodies = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        directory += name + struct.pack(">II", offset + len(bodies), len(body))
        bodies += body
    header = struct.pack(">I4sI4s4s4s", offset + len(bodies), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + directory + bodies


def rgb_profile(red: tuple[float, float], green: tuple[float, float], blue: tuple[float, float]) -> bytes:
    """An ICC v2 profile (ICC.1:2001-04) of a display with these primaries (XYZ's x and y), D50 white and gamma 2.2."""
    columns = [(x / y, 1.0, (1 - x - y) / y) for x, y in (red, green, blue)]
    shares = _solved([[column[row] for column in columns] for row in range(3)], (0.9642, 1.0, 0.8249))
    text = b"text" + bytes(4) + b"none\0\0\0\0"
    tags = {b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"cprt": text, b"desc": text}
    for name, column, share in zip((b"r", b"g", b"b"), columns, shares, strict=True):
        tags[name + b"XYZ"] = _xyz(*(part * share for part in column))
        tags[name + b"TRC"] = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    offset, directory, bodies = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        directory += name + struct.pack(">II", offset + len(bodies), len(body))
        bodies += body
    header = struct.pack(">I4sI4s4s4s", offset + len(bodies), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + directory + bodies


def _xyz(*parts: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(part * 65536) for part in parts))


def _solved(rows: list[list[float]], wanted: tuple[float, float, float]) -> list[float]:
    """The solution of three linear equations, by Cramer's rule."""

    def determinant(matrix: list[list[float]]) -> float:
        (a, b, c), (d, e, f), (g, h, i) = matrix
        return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)

    return [
        determinant([[*row[:k], want, *row[k + 1 :]] for row, want in zip(rows, wanted, strict=True)])
        / determinant(rows)
        for k in range(3)
    ]
