"""The short form of the chaos run."""

import secrets
from pathlib import Path

from tests.chaos.run import run


async def test_nothing_is_lost_when_processes_die_at_random(tmp_path: Path) -> None:
    """Kills, freezes and stops under load: every image ends once and rightly, and every webhook comes."""
    report = await run(tmp_path, seed=secrets.randbelow(10**6), images=150, kills=10)
    assert report.problems == [], f"seed {report.seed}"
    assert report.images == 150
