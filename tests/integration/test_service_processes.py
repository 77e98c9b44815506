"""What every service does as a process of its own."""

from pathlib import Path

import aiohttp
import pytest

from tests.processes import environment, started


@pytest.mark.parametrize("service", ["ingest", "watcher", "notifier"])
async def test_a_service_tells_misspelt_settings_once_and_its_health(
    service: str, mongo_uri: str, tmp_path: Path
) -> None:
    """Names that no service reads are one line of its log, without values; /livez, /readyz and /metrics answer."""
    env = environment(mongo_uri, tmp_path, DARKROOM_WORKER="7", DARKROOM_EGRES_ALLOW="oops")
    async with started(service, env, tmp_path) as running, aiohttp.ClientSession() as client:
        answers = {}
        for path in ("livez", "readyz", "metrics"):
            async with client.get(f"{running.url}/{path}") as answer:
                assert answer.status == 200
                answers[path] = await answer.text()
        assert await running.stop() == 0
    assert "true" in answers["livez"]
    assert "true" in answers["readyz"]
    assert "# HELP darkroom_" in answers["metrics"]
    [told] = [event for event in running.events if event["event"] == "settings.unknown"]
    assert (told["names"], told["service"]) == (["DARKROOM_EGRES_ALLOW", "DARKROOM_WORKER"], service)
    assert "oops" not in running.log.read_text(encoding="utf-8")
