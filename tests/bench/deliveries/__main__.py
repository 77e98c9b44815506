"""How one notifier does beside a bare aiohttp loop: `python -m tests.bench.deliveries [PART …] [--endpoints N]`.

`rate`: deliveries per second. `latency`: from a completed request to its receiver, at 200 per second. `hanging`: the
same, with a tenth of the endpoints hanging. `memory`: with bodies that have no end. All without arguments. MongoDB,
receiver, loop and notifier are processes of their own, and the notifier has its default settings. Exits 1 when a bound
is missed: 0.5 of the loop's rate; p95 below 127 ms; the healthy endpoints' p50 and p95 within the spread of runs
without the hanging ones; 20 MB of growth.
"""

import argparse
import asyncio
import sys

from tests.bench.deliveries.hanging import hanging
from tests.bench.deliveries.latency import latency
from tests.bench.deliveries.memory import memory
from tests.bench.deliveries.rate import rate

PARTS = {"rate": rate, "latency": latency, "hanging": hanging, "memory": memory}


async def main(parts: list[str], endpoints: int) -> int:
    """Measures the parts that were asked for, one after the other."""
    held = [await PARTS[part](endpoints) for part in parts]
    print("all held" if all(held) else "not all held")
    return int(not all(held))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.deliveries")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to run instead of all: {', '.join(PARTS)}")
    parser.add_argument("--endpoints", type=int, default=10, help="how many are delivered to (default: %(default)s)")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return asked


if __name__ == "__main__":
    given = arguments()
    sys.exit(asyncio.run(main(given.parts or list(PARTS), given.endpoints)))
