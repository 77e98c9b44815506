"""A notifier that comes to the step `HELD_AT` of its first delivery, says so in its log, and goes no further.

`python -m tests.held_notifier`, with the options of `services.notifier`.
"""

import os
import sys
from collections.abc import Mapping

from libs.egress import EgressPolicy, GuardedSession, Response
from libs.runtime.lifecycle import Process, run
from services.notifier.app import serve
from services.notifier.settings import NotifierSettings
from tests.holding import hold

STEPS = ("claimed", "posted")


class _Poster:
    def __init__(self, session: GuardedSession, step: str) -> None:
        self._session, self._step = session, step

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], total_seconds: float) -> Response:
        if self._step == "posted":
            await self._session.post(url, body=body, headers=headers, total_seconds=total_seconds)
        await hold()
        raise AssertionError(url)


async def _serve(settings: NotifierSettings, process: Process) -> None:
    async with GuardedSession(EgressPolicy(settings.egress_allow), host_in_flight=1) as session:
        await serve(settings, process, poster=_Poster(session, os.environ["HELD_AT"]))


if __name__ == "__main__":
    sys.exit(run("notifier", NotifierSettings, _serve))
