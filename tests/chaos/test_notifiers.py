"""The short form of killing notifiers."""

import secrets
from pathlib import Path

from tests.chaos.notifiers import run


async def test_webhooks_come_although_notifiers_are_killed_at_random(tmp_path: Path) -> None:
    """None is lost, only what was in flight at a kill is repeated, each under its one id and signed."""
    report = await run(tmp_path, seed=secrets.randbelow(10**6), deliveries=300, kills=5)
    assert report.problems == [], f"seed {report.seed}"
    assert (report.deliveries, report.kills) == (300, 5)
