"""A codec process, as the service sees it: what it is given, and the many ways in which it may end."""

import asyncio
import os
import signal
import socket
import sys
from asyncio import IncompleteReadError
from asyncio.subprocess import DEVNULL
from contextlib import ExitStack, suppress

from libs.imaging import worker
from libs.imaging.beginnings import Beginnings
from libs.imaging.frames import Frame, receive
from libs.imaging.options import Options
from libs.imaging.reasons import ImageError
from libs.imaging.reply import MistakeError, result_of
from libs.imaging.result import Compressed

# Workers have a low priority and get less than a core where others want it: an image that has had four times its CPU
# time by the clock, and not used it up, hangs.
_STARVED = 4

# Importing the codecs is a second's work, which may take minutes on a busy machine.
_START_SECONDS = 300.0

# The kernel has closed the socket of a process that died a moment before it tells of its end.
_EXIT_SECONDS = 5.0

# As much as Linux lets anybody have by default: nearly all photographs go over in one call, and nobody waits for it.
_SOCKET_BYTES = 212_992
_READ_BYTES = 1 << 20

# A result is hashed in place in less than a millisecond.
_IN_PLACE_BYTES = 1 << 20


class NotBegunError(Exception):
    """The process ended before it came to this image; another may have it."""


class CodecProcess:
    """A process that runs `task` on one image at a time, in `memory_bytes` of address space.

    It begins to start with its object, in the event loop's own thread: Linux ends it when the thread that started it
    ends. What it is given while it works lies ready in its socket. `images` is how many it was given.
    """

    def __init__(self, task: worker.Task, memory_bytes: int) -> None:
        self.images = 0
        self._turn = asyncio.Lock()
        self._memory_bytes = memory_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._is_given_up = False
        self._beginnings: Beginnings | None = None
        self._has_answered = False
        self._starting = asyncio.create_task(self._start(task), name="codec process")

    @property
    def is_started(self) -> bool:
        """Whether it has got as far as taking images."""
        return self._starting.done() and not (self._starting.cancelled() or self._starting.exception())

    @property
    def is_alive(self) -> bool:
        """Whether it can take an image, now or when it has started."""
        return not self._is_given_up and (not self._starting.done() or (self.is_started and self._runs))

    async def compress(self, data: bytes, options: Options, *, seconds: float, memory_bytes: int) -> Compressed:
        """Runs the task once the process has started and is done with what it was given before.

        The image gets `seconds` of CPU time, and four times as many by the clock from its turn on. When that raises
        anything but a reason of the image itself, and when it is cancelled, the process is ended; one that is cancelled
        before its turn leaves it time for the image in work.

        Raises:
            ImageError: the image's own reason; `too_complex` when it overran its CPU time or memory, retryable when it
                took too long by the clock alone; `worker_crashed`, retryable, when the process died or did not start.
            NotBegunError: it ended by another image, or for one, or between two; not the first one's, which is charged
                where no process lives long enough to begin with it.
        """
        self.images += 1
        reader, writer = await self._connection()
        writer.writelines(Frame(worker.order_of(options, seconds, memory_bytes), data).parts)
        try:
            # Whoever waits for this lock gets it in the order of the frames.
            await self._turn.acquire()
        except BaseException:
            self._is_given_up = True  # or its answer would be taken for another's
            raise
        try:
            if self._is_given_up:
                raise NotBegunError(NotBegunError.__doc__)
            return await self._answer(reader, writer, seconds, memory_bytes)
        finally:
            self._turn.release()
            if self._is_given_up:
                self.kill()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float, memory_bytes: int
    ) -> Compressed:
        try:
            async with asyncio.timeout(_STARVED * seconds):
                await writer.drain()
                reply = await receive(reader, memory_bytes)
            self._has_answered = self._begins()
            if len(reply.body) <= _IN_PLACE_BYTES:
                return result_of(reply)
            return await asyncio.to_thread(result_of, reply)
        except ImageError:
            raise
        except MistakeError as error:
            raise ImageError("worker_crashed", str(error), retryable=True) from error
        except TimeoutError as error:
            self.kill()
            detail = f"not done after {_STARVED * seconds:g} s, and less than {seconds:g} s of CPU time"
            raise ImageError("too_complex", detail, retryable=True) from error
        except (IncompleteReadError, OSError) as error:
            raise await self._death() from error
        except ValueError as error:
            self.kill()
            raise ImageError("worker_crashed", f"the worker process talks nonsense: {error}", retryable=True) from error
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Ends the process at once, whatever it does."""
        self._starting.cancel()
        self._hang_up()
        # Not by the loop's own `kill`, which may collect the process before those who wait for its end learn of it.
        if self._process is not None and self._runs:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> int | None:
        """Waits for the end of the process and gives its exit code; one that does not start is ended."""
        await asyncio.wait({self._starting})
        if not self.is_started:
            self.kill()
        code = None if self._process is None else await self._process.wait()
        if self._beginnings is not None:
            self._beginnings.close()
        return code

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self._starting.done():
            await asyncio.wait({self._starting})
        if self._starting.cancelled():
            raise ImageError("worker_crashed", "the codec pool was closed", retryable=True)
        if error := self._starting.exception():
            detail = f"the worker process did not start: {error!r}"
            raise ImageError("worker_crashed", detail, retryable=True) from error
        return self._starting.result()

    async def _start(self, task: worker.Task) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        try:
            with ExitStack() as given:
                given.enter_context(theirs)
                for end in (ours, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
                self._beginnings = Beginnings()
                given.callback(self._beginnings.hand_over)
                ends = (theirs.fileno(), self._beginnings.theirs)
                self._process = await _spawned(task, ends, self._memory_bytes)
            reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=_READ_BYTES)
        except BaseException:
            ours.close()
            raise
        async with asyncio.timeout(_START_SECONDS):
            await reader.readexactly(len(worker.READY))
        return reader, self._writer

    def _hang_up(self) -> None:
        """Takes no part in what it says any more; one that has nothing to do ends by that."""
        self._is_given_up = True
        if self._writer is not None:
            self._writer.close()

    def _begins(self) -> bool:
        """Whether it has begun with the image behind the one that was asked for before."""
        return self._beginnings is not None and self._beginnings.next()

    async def _death(self) -> ImageError | NotBegunError:
        """What it died of: if the kernel stopped it for its CPU time it was too slow, all else may be an accident.

        It is not this image's where it had not begun with that.
        """
        self._hang_up()
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                code = await self.ended()
        except TimeoutError:  # it has closed its socket and lives
            self.kill()
            code = await self.ended()
        if self._has_answered and not self._begins():
            return NotBegunError(NotBegunError.__doc__)
        if code == -signal.SIGXCPU:
            return ImageError("too_complex", "used more CPU time than an image may")
        return ImageError("worker_crashed", f"the worker process ended with {code}", retryable=True)

    @property
    def _runs(self) -> bool:
        """Whether the process is neither gone nor waiting to be collected, which asyncio learns a moment later."""
        if self._process is None or self._process.returncode is not None:
            return False
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return True
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False


async def _spawned(task: worker.Task, ends: tuple[int, int], memory_bytes: int) -> asyncio.subprocess.Process:
    """A new interpreter that finds the same modules: this process has threads, whose locks a fork would inherit."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", worker.__name__),
        *(*map(str, ends), str(os.getpid()), str(memory_bytes), task.__module__, task.__qualname__),
        stdin=DEVNULL,
        pass_fds=ends,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
    )
