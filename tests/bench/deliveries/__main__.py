"""How one notifier does beside a bare aiohttp loop: `python -m tests.bench.deliveries [COMMAND [ENDPOINTS]]`.

COMMAND is `rate` (deliveries per second), `latency` (from a completed request to its receiver, at 200 per second),
`hanging` (the same, with a tenth of the endpoints hanging), or `memory` (with bodies that have no end); without one,
all are measured, with 10 endpoints. MongoDB, receiver, loop and notifier are processes of their own, and the notifier
has its default settings. Exits 1 when a bound is missed: 0.5 of the loop's rate; p95 below 127 ms; the healthy
endpoints' p50 and p95 within the spread of runs without the hanging ones; 20 MB of growth.
"""

import asyncio
import sys

from tests.bench.deliveries.hanging import hanging
from tests.bench.deliveries.latency import latency
from tests.bench.deliveries.memory import memory
from tests.bench.deliveries.rate import rate

COMMANDS = {"rate": rate, "latency": latency, "hanging": hanging, "memory": memory}
ENDPOINTS = 10


async def main(name: str | None, endpoints: int) -> int:
    """Measures what is named, or all."""
    held = True
    for measure in [COMMANDS[name]] if name else COMMANDS.values():
        held &= await measure(endpoints)
    print("all held" if held else "not all held")
    return 0 if held else 1


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(
        asyncio.run(main(arguments[0] if arguments else None, int(arguments[1]) if len(arguments) > 1 else ENDPOINTS))
    )
