"""Whether the whole system keeps up with the codec alone: `python -m tests.bench.pipeline [--only PART]`.

Makes photographs (800 by 800 pixels, 0.16 MB, all different), serves them from nginx where that is installed and else
from a bare asyncio server, and runs `darkroom up` with the settings it has by itself, through HTTP alone.

throughput: by turns with a loop of bare Pillow in a process for each core, which reads the same photographs as files
and saves them at quality 50: images per second from the first POST to the last webhook, in one request and in twenty;
CPU of each process for an image, and where else an image's time goes. latency: one image from POST to webhook, five a
second, by turns with its bare parts in sequence: download, Pillow, one majority insert, one POST. idle: CPU of each
process when nothing is to be done. Memory in any case. Exits 1 when a target is missed.

Nothing is removed before the end: for minutes after files were removed, ext4 passes over their inodes for each file
that is made, which took a millisecond of an image.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.bench.bare_loop import bare_loop
from tests.bench.pipeline.bench import ready
from tests.bench.pipeline.idle import print_memory, watch_idle
from tests.bench.pipeline.latency import time_single_images
from tests.bench.pipeline.throughput import compare

PARTS = ("throughput", "latency", "idle")


async def main(asked: argparse.Namespace) -> int:
    """Runs the parts that were asked for."""
    parts, held = asked.only or PARTS, []
    with tempfile.TemporaryDirectory() as name:
        async with ready(Path(name)) as bench:
            if "throughput" in parts:
                async with bare_loop() as loop:
                    held.append(await compare(bench, loop, asked.images, asked.rounds))
            if "latency" in parts:
                held.append(await time_single_images(bench, asked.single_images))
            print_memory(bench.darkroom)
            if "idle" in parts:
                held.append(await watch_idle(bench.darkroom, asked.idle_seconds))
    return int(not all(held))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pipeline")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part to run instead of all")
    parser.add_argument("--images", type=int, default=600, help="photographs of each run (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind (%(default)s)")
    parser.add_argument("--single-images", type=int, default=150, help="images that are timed alone (%(default)s)")
    parser.add_argument("--idle-seconds", type=float, default=30.0, help="how long to look on (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))
