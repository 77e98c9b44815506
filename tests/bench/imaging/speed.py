"""CPU time for an image, beside plain Pillow's."""

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench.imaging.cases import Case, cases
from tests.bench.imaging.side import Side, put

NAMES = ("ours", "plain", "kept", "codec")
BYTES = 0.02
PROCESSES = 3
TURN_SECONDS, PROCESS_SECONDS = 0.03, 2.0


def speed(only: str = "") -> bool:
    """Prints a line for each case with `only` in its name; whether all promises held."""
    asked = [case for case in cases() if only in case.name]
    for side in NAMES:
        with Side(side):
            pass  # its modules get compiled, if they were not
    with tempfile.TemporaryDirectory() as name:
        held = [compared(case, Path(name) / str(number)) for number, case in enumerate(asked)]
        return bool(held) and all(held)


def compared(case: Case, folder: Path) -> bool:
    """Prints the medians of some processes of each side, each of them the median of its rounds; whether it held."""
    put(folder, case.files)
    first, *others = (medians(case, folder) for _ in range(PROCESSES))
    taken = [seconds for seconds, _ in (first, *others)]
    ours, pillow, kept, *codec = (statistics.median(side) * 1e3 for side in zip(*taken, strict=True))
    low, ratio, high = sorted(row[1] / row[0] for row in taken)
    more = first[1][0] / first[1][1] - 1
    fast, close = ratio >= case.promise, more <= BYTES
    print(
        f"{case.name:30} {ours:7.2f} ms, Pillow {pillow:7.2f}: {ratio:5.2f} x ({low:.2f} to {high:.2f}; promised "
        f"{case.promise}{'' if fast else ', BROKEN'}), {more:+.1%} bytes{'' if close else ' BROKEN'}; "
        f"kept {kept:7.2f} ({kept / ours:.2f} x)" + "".join(f"; codec {alone:6.2f}" for alone in codec),
        flush=True,
    )
    return fast and close


def medians(case: Case, folder: Path) -> tuple[list[float], list[int]]:
    """Of a new process of each side: CPU seconds for an image, the median of about two seconds of turns, and its bytes.

    Where a process has its memory makes some per cent of its speed, and it keeps that; so one of each is not enough.
    """
    names = NAMES if case.is_plain_jpeg else NAMES[:-1]
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(name)) for name in names]
        for side in sides:
            side.seconds(folder, case.asked, 2)
        first = [side.seconds(folder, case.asked) for side in sides]
        turn = max(seconds for seconds, _ in first) * len(case.files)
        times = max(1, round(TURN_SECONDS / turn))
        rounds = max(3, min(20, int(PROCESS_SECONDS / turn / times / len(sides))))
        taken = [[side.seconds(folder, case.asked, times)[0] for side in sides] for _ in range(rounds)]
    return [statistics.median(side) for side in zip(*taken, strict=True)], [made for _, made in first]
