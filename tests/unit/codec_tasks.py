"""Tasks that codec workers run in the tests of the pool: they do what the first bytes of their data say."""

import json
import os
import pickle
import signal
import struct
import sys
import threading
from pathlib import Path

from libs.imaging import Compressed, ImageError, Options
from libs.imaging.frames import Frame
from libs.imaging.result import content_name

SIGNALS = {
    "crash": signal.SIGSEGV,
    "killed": signal.SIGKILL,
    "xcpu": signal.SIGXCPU,
    "interrupted": signal.SIGINT,
    "terminated": signal.SIGTERM,
}

FACTS = {"format": "jpeg", "extension": "jpg", "width": 1, "height": 1, "kept": False, "animated": False}
WHOLE = {**FACTS, "larger_than_source": False}
LIES = {
    "endless": struct.pack("!IQ", 2, 1 << 40) + b"{}",
    "more than it may take": struct.pack("!IQ", 2, 1 << 29) + b"{}",
    "many brackets": Frame(b"[" * 50_000).parts[0],
    "in another's name": Frame(json.dumps({"made": {**WHOLE, "name": content_name(b"x", "jpg")}}).encode()).parts[0],
    "off the path": Frame(json.dumps({"made": {**WHOLE, "extension": "/../jpg"}}).encode()).parts[0],
    "enormous": Frame(json.dumps({"made": {**WHOLE, "width": 1 << 64}}).encode()).parts[0],
    "no format": Frame(json.dumps({"made": {**WHOLE, "source_format": "\ud800"}}).encode()).parts[0],
    "no time": Frame(json.dumps({"made": {**WHOLE, "decode_seconds": float("nan")}}).encode()).parts[0],
    "pickled": Frame(pickle.dumps(Path("/"))).parts[0],
    "shapeless": Frame(b"[]").parts[0],
    "half": Frame(json.dumps({"made": FACTS}).encode()).parts[0],
    "unheard of": Frame(json.dumps({"refused": {"code": "x", "detail": "", "retryable": False}}).encode()).parts[0],
}


def misbehave(data: bytes, options: Options) -> Compressed:
    """Does what the last line of `data` says: crashes, hangs, waits, spins, takes memory or fails.

    Otherwise it answers with the process id of its worker.
    """
    order, _, path = data.decode().rpartition("\n")[2].partition(":")
    if order in SIGNALS:
        os.kill(os.getpid(), SIGNALS[order])
    match order:
        case "hang":
            signal.pause()
        case "spin":
            while True:
                pass
        case "memory":
            return Compressed.jpeg(bytes(4 << 30), (1, 1), source_bytes=options.max_pixels)
        case "some":
            return Compressed.jpeg(bytes(300 << 20), (1, 1), source_bytes=0)
        case "fail":
            raise ImageError("corrupt", "as asked")
        case "mistake":
            raise KeyError("a mistake in the code")
        case "tell and hang" | "tell and wait":
            fifo = Path(path)
            fifo.write_text(str(os.getpid()))  # whoever reads it knows that the task is running
            signal.pause() if order == "tell and hang" else fifo.read_text()
    return Compressed.jpeg(str(os.getpid()).encode(), (1, 1), source_bytes=0)


def cling(data: bytes, options: Options) -> Compressed:
    """Closes its socket and tells that to the FIFO that `data` names; without one, stays when it is to end."""
    if data:
        os.close(int(sys.argv[1]))
        Path(data.decode()).write_text(str(os.getpid()))
        signal.pause()
    threading.Thread(target=threading.Event().wait).start()  # the interpreter waits for it before it ends
    return Compressed.jpeg(str(os.getpid()).encode(), (1, 1), source_bytes=options.max_pixels)


class Last(bytes):
    """An answer that ends its process as soon as it has been given."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def die(data: bytes, options: Options) -> Compressed:
    """Answers with the process id of its worker, which ends between this image and the next if `data` says so."""
    pid = str(os.getpid()).encode()
    return Compressed.jpeg(Last(pid) if data == b"last" else pid, (1, 1), source_bytes=options.max_pixels)


def lie(data: bytes, options: Options) -> Compressed:
    """Says to the service what `data` names, as a picture may that has taken its worker over; `options` say nothing."""
    if data.decode() in LIES:
        os.write(int(sys.argv[1]), LIES[data.decode()])
        signal.pause()
    return Compressed.jpeg(data, (1, 1), source_bytes=options.max_pixels)


def count(data: bytes, options: Options) -> Compressed:
    """Answers with how many workers ran this at once, at the most, in the folder that `data` names."""
    folder = Path(data.decode())
    own = folder / str(os.getpid())
    own.touch()
    most = max(len(list(folder.iterdir())) for _ in range(3000))
    own.unlink()
    return Compressed.jpeg(b"%d" % most, (1, 1), source_bytes=options.max_pixels)
