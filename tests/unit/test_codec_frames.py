import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from libs.imaging import ImageError
from libs.imaging.frames import Frame, read, write
from libs.imaging.reply import result_of
from libs.imaging.result import content_name
from tests.unit.codec_tasks import WHOLE


def test_a_reason_can_be_stored_whatever_it_says() -> None:
    """MongoDB takes no half of a character, and nobody reads a megabyte."""
    said = {"code": "corrupt", "detail": "\ud800" + "x" * 10_000, "retryable": False}
    with pytest.raises(ImageError) as caught:
        result_of(Frame(json.dumps({"refused": said}).encode()))
    assert len(caught.value.detail.encode()) == 2000


def test_a_result_is_named_by_the_bytes_that_came() -> None:
    """A worker that was taken over cannot have its bytes stored in the name of others."""
    result = result_of(Frame(json.dumps({"made": WHOLE}).encode(), b"bytes"))
    assert (result.name, result.data) == (content_name(b"bytes", "jpg"), b"bytes")


@pytest.mark.parametrize(("body", "parts"), [(b"", 1), (b"x", 2)])
def test_nothing_empty_is_given_to_be_sent(body: bytes, parts: int) -> None:
    """The event loop of Python 3.12 tries for ever to send the rest of what has no bytes."""
    sent = Frame(b"{}", body).parts
    assert len(sent) == parts
    assert all(sent)


@pytest.mark.parametrize("seconds", [None, 30.0], ids=["at once", "piece by piece"])
def test_a_frame_of_more_than_a_socket_holds_comes_whole(seconds: float | None) -> None:
    """Also where the system takes a part of it only; behind the last comes nothing."""
    frame = Frame(b"head", bytes(range(256)) * 40_000)
    ours, theirs = socket.socketpair()
    ours.settimeout(seconds)
    with theirs, ThreadPoolExecutor() as threads:
        with ours:
            sending = threads.submit(write, ours, frame)
            assert read(theirs) == frame
            sending.result()
        assert read(theirs) is None
