"""Ctrl-C and SIGTERM for a command that runs other processes: the first stops in order, a second Ctrl-C kills."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine

_FORCED = 130


def run_until_signal(
    work: Callable[[], Coroutine[None, None, None]],
    kill: Callable[[], None],
    interrupted: Callable[[], None] = lambda: None,
) -> bool:
    """Runs `work`; gives true when it was cancelled by SIGINT, SIGTERM or SIGHUP and unwound.

    `interrupted` is called when that was SIGINT, behind which a person waits; it must not block. On a SIGINT that
    follows any of them, `kill` is called, which has to end every process that `work` started, and we end with 130.
    """
    return asyncio.run(_run(work, kill, interrupted))


async def _run(
    work: Callable[[], Coroutine[None, None, None]], kill: Callable[[], None], interrupted: Callable[[], None]
) -> bool:
    task = asyncio.create_task(work(), name="command")
    stopping = False

    def stop(received: signal.Signals) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            task.cancel()
            if received is signal.SIGINT:
                interrupted()
        elif received is signal.SIGINT:
            kill()
            os._exit(_FORCED)

    loop = asyncio.get_running_loop()
    for received in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(received) is not signal.SIG_IGN:  # started by nohup, say
            loop.add_signal_handler(received, stop, received)
    await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False
