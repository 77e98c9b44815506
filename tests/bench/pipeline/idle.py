"""What the services take when there is nothing to do, and the memory of each process."""

import asyncio

from tests.bench.darkroom import SERVICES, Darkroom

MOST_CORES = 0.02
_SETTLE_SECONDS = 5.0


async def watch_idle(darkroom: Darkroom, seconds: float) -> bool:
    """Measures CPU over so many idle seconds; true when the target is met."""
    await asyncio.sleep(_SETTLE_SECONDS)
    meter = darkroom.meter()
    await asyncio.sleep(seconds)
    cores = meter.read()
    together = sum(cores[name] for name in (*SERVICES, "codecs"))
    held = together <= MOST_CORES
    print(f"\nidle for {seconds:g} s, in % of a core:")
    print("  " + ", ".join(f"{name} {100 * taken:.2f}" for name, taken in cores.items()))
    print(
        f"  the three services together {100 * together:.2f}, at most {100 * MOST_CORES:g}{'' if held else ': MISSED'}"
    )
    return held


def print_memory(darkroom: Darkroom) -> None:
    """What each process has, and the most that it ever had."""
    print("\nresident memory (and the most so far) in MiB:")
    for name, processes in darkroom.memory().items():
        print(f"  {name}: " + ", ".join(f"{resident:.0f} ({most:.0f})" for resident, most in processes))
