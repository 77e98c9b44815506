"""The codecs against plain Pillow on the same photographs: `python -m tests.bench.imaging [speed] [pool] [memory]`.

`speed`: CPU seconds per image of `compress`, with all its checks, and of Pillow's `open` and `save`, turn by turn, on
files that both have in memory: medians, the ratio (the middle of three pairs of processes, and the lowest and highest
of them), and by how much the outputs differ in bytes. Each side is a process of its own as it would run, new for each
case, so that no case profits from what an earlier one left: a process that takes memory from the system for every image
traps into the kernel for every page of it, and on a virtual machine that is up to half of Pillow's time. Two more
figures tell that apart from the rest. `kept` is Pillow made to keep its memory as a worker does (plain Pillow comes
near it once it has had a far larger image), and `codec` is libjpeg-turbo with one strict decoding and one encoding and
nothing else: less than that cannot be had.

`pool`: what handing over between processes costs, and two workers against one, beside what two bare loops and two
processes that share nothing reach on this machine. `memory`: the most that a worker takes for 1, 12 and 50 megapixels,
beside what `cost_bytes` says. All without arguments.

Exits 1 when a promise is broken: 1.3 times Pillow's speed from JPEG to JPEG, 1.0 otherwise, 2 % of bytes; two workers
1.9 times one where two loops reach 1.95; more memory than `cost_bytes` says. No case is excused.
"""

import argparse
import sys

import uvloop

from tests.bench.imaging.memory import memory
from tests.bench.imaging.pool import pool
from tests.bench.imaging.speed import speed

PARTS = ("speed", "pool", "memory")


def main(parts: list[str], only: str) -> int:
    """Runs the parts that were asked for, one after the other."""
    held = []
    if "speed" in parts:
        held.append(speed(only))
    if "pool" in parts:
        held.append(uvloop.run(pool()))
    if "memory" in parts:
        held.append(memory())
    return int(not all(held))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.imaging")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to run instead of all: {', '.join(PARTS)}")
    parser.add_argument("--only", default="", metavar="WORDS", help="of `speed` only the cases with this in their name")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return asked


if __name__ == "__main__":
    given = arguments()
    sys.exit(main(given.parts or list(PARTS), given.only))
