import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.egress import Download, EgressError, GuardedSession, Response

from .egress_servers import CHUNKED, LOOPBACK, ok, raw_server, response

SEEDS = [
    ok(b"body", "Content-Type: image/jpeg", "ETag: a"),
    response("206 Partial Content", b"body", "Content-Range: bytes 0-3/4"),
    response("302 Found", b"", "Location: http://10.0.0.1/"),
    response("503 Busy", b"", "Retry-After: 7", "Date: Sun, 06 Nov 1994 12:00:00 GMT"),
    CHUNKED + b"4;a=b\r\nbody\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"body", "Connection: close"),
    b"HTTP/1.0 200 OK\r\n\r\nbody",
    ok(b"body", "Content-Encoding: gzip", "Set-Cookie: a=b", "Upgrade: h2c", "Connection: Upgrade"),
]
TOKENS = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b" ",
    b":",
    b";",
    b",",
    b"-1",
    b"\xff",
    b"chunked",
    b"HTTP/1.1 ",
    b"\r\n0\r\n\r\n",
]


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """What a server may say: an answer with some bytes exchanged, lost or added, in one to three pieces."""
    said = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(said)))
        replacement = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=3), st.just(bytes(said))))
        said[at : at + draw(st.integers(0, 6))] = replacement
    cuts = sorted(draw(st.lists(st.integers(0, len(said)), max_size=2)))
    return [bytes(said[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]


@given(answers(), st.booleans())
@settings(max_examples=150, deadline=None)
async def test_whatever_a_server_says_is_an_answer_or_a_reason(pieces: list[bytes], closes: bool) -> None:
    """Nothing but a result or an EgressError leaves the session, and asyncio has nothing to report."""
    reports: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if not closes:
            await asyncio.Event().wait()

    try:
        async with (
            raw_server(answer) as server,
            GuardedSession(LOOPBACK, host_in_flight=2, stall_seconds=0.05, head_seconds=0.05) as session,
        ):
            results = await asyncio.gather(
                session.download(server.url, max_bytes=10_000, total_seconds=20),
                session.post(server.url, body=b"{}", headers={}, total_seconds=0.05),
                return_exceptions=True,
            )
    finally:
        loop.set_exception_handler(None)
    assert all(isinstance(result, Download | Response | EgressError) for result in results), results
    assert not reports
    assert sum(head.startswith("POST") for head in server.heads) <= 1
