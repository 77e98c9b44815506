"""What each pair of formats takes of a worker: `python -m tests.bench.codec_costs [megapixels]` (12).

Every pair runs in a process of its own, with the pixels that cost most: bytes of address space and nanoseconds of CPU
time for each pixel of the source, above what the process had. `libs.imaging.cost` has its figures from here.
"""

import json
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from tests.bench.photographs import encoded, photograph, sides

CHILD = """
import json, sys, time
from libs.imaging import Options, compress
def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name + ":"))
options = Options(max_pixels=10**9, **json.loads(sys.argv[2]))
small, large = open(sys.argv[1] + ".small", "rb").read(), open(sys.argv[1], "rb").read()
compress(small, options)
before, began = memory("VmSize"), time.process_time()
compress(large, options)
print(memory("VmPeak") - before, time.process_time() - began, memory("VmHWM"))
"""


def deep_png(width: int, height: int) -> bytes:
    """A PNG of 16-bit RGBA, which Pillow does not write: eight bytes for each pixel."""
    row = b"\0" + photograph(width, 8).convert("RGBA").tobytes()[: 4 * width] * 2
    pack = zlib.compressobj(1)
    data = b"".join([*(pack.compress(row) for _ in range(height)), pack.flush()])

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def turned() -> bytes:
    """EXIF that lays a picture on its side."""
    tag = Image.Exif()
    tag[0x0112] = 6
    return tag.tobytes()


def sources(width: int, height: int) -> dict[str, bytes]:
    """Files of one size that take the most of their decoders, and the ordinary ones."""
    image = photograph(width, height)
    rgba = image.copy()
    rgba.putalpha(image.getchannel("R"))
    side = turned()
    return {
        "JPEG": encoded(image, "JPEG", quality=88),
        "JPEG turned": encoded(image, "JPEG", quality=88, exif=side),
        "JPEG progressive 4:4:4 turned": encoded(image, "JPEG", quality=88, progressive=True, subsampling=0, exif=side),
        "JPEG CMYK turned": encoded(image.convert("CMYK"), "JPEG", quality=88, exif=side),
        "PNG": encoded(image, "PNG", compress_level=1),
        "PNG RGBA turned": encoded(rgba, "PNG", compress_level=1, exif=side),
        "PNG 16-bit RGBA": deep_png(width, height),
        "WEBP": encoded(image, "WEBP", quality=80, method=0),
        "WEBP lossless RGBA turned": encoded(rgba, "WEBP", lossless=True, method=0, exif=side),
        "GIF": encoded(image.quantize(256), "GIF"),
        "BMP": encoded(image, "BMP"),
        "TIFF RGBA turned": encoded(rgba, "TIFF", exif=side),
        "TIFF float": encoded(image.convert("F"), "TIFF"),
        "AVIF": encoded(image, "AVIF", quality=70, speed=10),
        "AVIF RGBA 4:4:4 turned": encoded(rgba, "AVIF", quality=70, speed=10, subsampling="4:4:4", exif=side),
    }


ASKED: tuple[dict[str, Any], ...] = (
    {},
    {"max_width": 1000},
    {"quality": "auto"},
    {"format": "png"},
    {"format": "webp"},
    {"format": "avif"},
)


def main(megapixels: float) -> None:
    """Prints a line for each source and what is asked for."""
    width, height = sides(megapixels)
    small = sources(64, 48)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "large"
        for kind, large in sources(width, height).items():
            path.write_bytes(large)
            path.with_suffix(".small").write_bytes(small[kind])
            for asked in ASKED:
                if asked.get("format") == "avif" and (megapixels > 12 or "turned" in kind.split()[1:2]):
                    continue
                done = subprocess.run(
                    [sys.executable, "-c", CHILD, str(path), json.dumps(asked)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                space, seconds, resident = map(float, done.stdout.split())
                print(
                    f"{kind:32} {json.dumps(asked):24} {space / width / height:6.1f} B/px "
                    f"{seconds * 1e9 / width / height:7.1f} ns/px {seconds:6.2f} s {resident / 2**20:6.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 12.0)
