"""Amounts as people read them."""


def size(count: float) -> str:
    """A number of bytes in powers of 1,000: 843 B, 12.5 kB, 3.1 MB."""
    if abs(count) < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if abs(count) < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def saving(before: int, after: int) -> str:
    """What became of `before` bytes, in whole per cent less: 82 %."""
    return f"{round(100 * (before - after) / before)} %" if before else "0 %"
