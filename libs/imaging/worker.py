"""What runs in a codec process: its limits, and one image after the other under a budget of CPU time and memory.

`python -m libs.imaging.worker` takes the descriptors of a socket and of a pipe (`libs.imaging.beginnings`), the process
id of the parent, the bytes of address space it may take, and its task's module and name. It says `READY`, then answers
each frame (`libs.imaging.frames`) with one: the head of what it gets is an `order_of`, the head of what it gives comes
from `libs.imaging.reply`.
"""

import ctypes
import importlib
import math
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from functools import cache, lru_cache, partial

from libs.imaging import frames
from libs.imaging.options import Options
from libs.imaging.reasons import ImageError
from libs.imaging.reply import reply_of
from libs.imaging.result import Compressed

Task = Callable[[bytes, Options], Compressed]

READY = b"\0"

_PR_SET_PDEATHSIG = 1
_NICER = 10
_LIMITS = struct.Struct("!dQ")

# Parameters of glibc's mallopt(3). The first has no larger value; Pillow keeps as much as the second.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_HEAP_BYTES, _KEPT_BYTES = 32 << 20, 64 << 20


def start(parent: int, memory_bytes: int, module: str) -> None:
    """Prepares a new worker process whose parent has the process id `parent`, for a task of `module`."""
    # Ctrl-C goes to the whole terminal, a service manager's SIGTERM to all processes of the service; the parent decides
    # what becomes of the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with(parent)
    _silence()
    _lower(resource.RLIMIT_AS, memory_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    load(module)
    # Codecs take whole cores. What claims, downloads and serves beside them takes little, but all of it waits for that.
    # Not before now: on a busy machine importing a second's worth of modules would take a minute.
    os.nice(_NICER)


def load(module: str) -> None:
    """Imports the module of a task in the way that suits a worker, which must not have imported any codec yet."""
    # numpy's linear algebra, which nobody calls, takes address space for a thread on each core.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Blocks of 16 MiB that Pillow keeps for the next image, where the system would have to clear every page again.
    os.environ["PILLOW_BLOCKS_MAX"] = "4"
    _keep_memory()
    importlib.import_module(module)


def order_of(options: Options, cpu_seconds: float, memory_bytes: int) -> bytes:
    """The head of the frame that has an image compressed; its body are the bytes of the image. See `run`."""
    return _LIMITS.pack(cpu_seconds, memory_bytes) + _pickled(options)


def serve(connection: socket.socket, beginnings: int, task: Task) -> None:
    """Runs the task on one image after the other, until the other side of the connection is gone.

    Into `beginnings` goes a byte as soon as an image is there, before it takes any memory.
    """
    connection.sendall(READY)
    while connection.recv(1, socket.MSG_PEEK) and os.write(beginnings, b"\0"):
        order = frames.read(connection)
        if order is None:
            return
        work = partial(run, task, order.body, *_order(order.head))
        frames.write(connection, reply_of(work))


def _order(head: bytes) -> tuple[Options, float, int]:
    cpu_seconds, memory_bytes = _LIMITS.unpack_from(head)
    return _options(head[_LIMITS.size :]), cpu_seconds, memory_bytes


# A request's images all have the same. Between two images nothing is in the processor's caches, and what takes 5 us to
# unpickle when it is done again and again takes 80.
@lru_cache(maxsize=64)
def _pickled(options: Options) -> bytes:
    return pickle.dumps(options)


@lru_cache(maxsize=64)
def _options(pickled: bytes) -> Options:
    options: Options = pickle.loads(pickled)  # noqa: S301 (the service's own)
    return options


def run(task: Task, data: bytes, options: Options, cpu_seconds: float, memory_bytes: int) -> Compressed:
    """Runs one task, which may take `memory_bytes` of address space beyond what the process has by now.

    The kernel ends the process by SIGXCPU when it has used `cpu_seconds` (rounded up).

    Raises:
        ImageError: the task's, or `too_complex` if memory ran out.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # The limit counts from the birth of the process, which has had other tasks.
    end = math.ceil(usage.ru_utime + usage.ru_stime + cpu_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (end if hard == resource.RLIM_INFINITY else min(end, hard), hard))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space(memory_bytes, most), most))
    try:
        return task(data, options)
    except MemoryError as error:
        raise ImageError("too_complex", "needs more memory than a worker may take") from error
    finally:
        # Handing over the result is on nobody's account.
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _address_space(more_bytes: int, most: int) -> int:
    """A limit that leaves `more_bytes` beyond what is taken now; `most`, where the system does not tell that."""
    descriptor = _statm()
    if descriptor is None:
        return most
    limit = int(os.pread(descriptor, 64, 0).split()[0]) * resource.getpagesize() + more_bytes
    return limit if most == resource.RLIM_INFINITY else min(limit, most)


@cache
def _statm() -> int | None:
    """A descriptor of where the kernel tells what memory this process has (proc(5)); None where it does not."""
    try:
        return os.open("/proc/self/statm", os.O_RDONLY)
    except FileNotFoundError:
        return None


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent is gone, however that ended (prctl(2), Linux only).

    Elsewhere a worker ends when it finds its pipe closed, after the task in hand.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


def _keep_memory() -> None:
    """Has glibc keep what an image gave back for the next one, as Pillow does; other libraries have no such setting.

    By itself it asks the system for every large buffer anew, whose first touch of each page is a trap into the kernel:
    a third of a progressive JPEG's time on a virtual machine.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _HEAP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _silence() -> None:
    """Lets no decoder write into the log of the service: libtiff tells there of every broken line."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (lowered, lowered))


def _main(ends: tuple[str, str], parent: str, memory_bytes: str, module: str, name: str) -> None:
    start(int(parent), int(memory_bytes), module)
    descriptor, beginnings = map(int, ends)
    with socket.socket(fileno=descriptor) as connection:
        serve(connection, beginnings, getattr(importlib.import_module(module), name))


if __name__ == "__main__":
    _main((sys.argv[1], sys.argv[2]), *sys.argv[3:])
