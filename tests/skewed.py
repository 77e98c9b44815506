"""Processes that see another time than this machine has: libfaketime, preloaded by the dynamic linker."""

from importlib.util import find_spec
from pathlib import Path


def skewed(seconds: float) -> dict[str, str]:
    """Settings for the environment of a process whose wall clock is `seconds` ahead; its durations are as they are."""
    found = find_spec("libfaketime")
    assert found is not None
    assert found.origin is not None
    library = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+g}s",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
