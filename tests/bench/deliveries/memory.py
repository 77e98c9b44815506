"""Whether a notifier's memory stays flat while every endpoint answers with a body that has no end."""

from tests.bench.deliveries.stage import stage
from tests.processes import memory_of

MOST_BYTES = 20 * 2**20
STEP = 1_000
STEPS = 8
MEBIBYTE = 2**20


async def memory(endpoints: int) -> bool:
    """Prints resident memory after each thousand deliveries; true when it grows by 20 MB at most behind the first."""
    async with stage(endpoints) as on:
        await on.receiver.behave(endless=endpoints)
        async with on.notifier() as notifier:
            print(f"{endpoints} endpoint(s) with endless bodies: resident memory, and the most that ever was")
            resident, peak = list[int](), list[int]()
            for step in range(1, STEPS + 1):
                await on.store(STEP)
                await on.received(step * STEP)
                resident.append(memory_of(notifier.process.pid, "VmRSS"))
                peak.append(memory_of(notifier.process.pid, "VmHWM"))
                print(f"  {step * STEP}: {resident[-1] / MEBIBYTE:.1f} and {peak[-1] / MEBIBYTE:.1f} MiB", flush=True)
    growth = peak[-1] - resident[0]
    print(f"  growth {growth / MEBIBYTE:.1f} MiB")
    return growth <= MOST_BYTES
