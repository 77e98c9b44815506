"""What the commands print in a terminal, wide or narrow, of a stand-in for Darkroom."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from libs.runtime.health import serve_app
from services.cli import deliveries, requests

REQUEST = "0b7cbc20-0b02-4a4c-a1a6-0e0c1c6f1c5e"
DELIVERY = "msg_" + "0123456789abcdef" * 2
SOURCE = "https://shop.example/photographs/of/a/product/with/a/long/name/in/many/folders/front-view.jpg"
OUTPUT = f"http://127.0.0.1:8000/compressed_images/{'0123456789abcdef' * 4}.jpg"
STATUS: dict[str, Any] = {
    "request_id": REQUEST,
    "status": "completed_with_errors",
    "total": 2,
    "completed": 1,
    "failed": 1,
    "cancelled": 0,
    "bytes_in": 1000,
    "bytes_out": 400,
}
ROW = {
    "serial_number": 1,
    "product_name": "SKU1",
    "input_image_urls": [SOURCE, "http://h/b.jpg"],
    "output_image_urls": [OUTPUT, None],
    "errors": [{"position": 1, "code": "http_404", "detail": "the server answered 404"}],
}
LOGGED: dict[str, Any] = {
    "id": DELIVERY,
    "request_id": REQUEST,
    "event": "request.completed_with_errors",
    "url": "https://hooks.example/darkroom",
    "state": "processing",
    "created_at": "2026-01-31T12:00:00Z",
    "attempts_made": 3,
    "last_attempt": {"status": 500, "error": "http_500"},
}


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """The address of a stand-in with one request, of one row, and one delivery."""

    async def status(request: web.Request) -> web.Response:
        rows = [] if int(request.query.get("offset", 0)) else [ROW]
        return web.json_response({**STATUS, "details": rows})

    async def upload(_: web.Request) -> web.Response:
        return web.json_response({"request_id": REQUEST})

    async def log(request: web.Request) -> web.Response:
        found = [] if "state" in request.query else [LOGGED]
        return web.json_response({"deliveries": found, "next": None})

    app = web.Application()
    app.add_routes([web.post("/api/upload", upload), web.get("/api/status", status), web.get("/api/deliveries", log)])
    async with serve_app(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Standard output counts as a terminal of 80 columns."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed, without its colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out).splitlines()


@pytest.mark.usefixtures("terminal")
async def test_a_delivery_shows_its_id_and_event_whole_in_80_columns(
    base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The id is what `redeliver` wants, so it has to be possible to copy it."""
    await deliveries.show(base, {}, 20)
    shown = lines(capsys)
    assert shown == [
        f"{DELIVERY}  processing  request.completed_with_errors",
        "  2026-01-31T12:00:00Z  3 tries, last http_500  https://hooks.example/darkroom",
    ]
    assert max(map(len, shown)) <= 80


@pytest.mark.usefixtures("terminal")
async def test_an_image_shows_its_urls_whole_in_80_columns(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A URL is longer than the terminal is wide; the terminal wraps it, and knows that it is one line."""
    await requests.show(base, REQUEST, 20)
    assert lines(capsys)[:4] == [
        f"1  SKU1  {SOURCE}",
        f"  {OUTPUT}",
        "1  SKU1  http://h/b.jpg",
        "  http_404: the server answered 404",
    ]


async def test_a_table_is_shown_where_all_of_it_fits(
    base: str, terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At its very width, and not one column below."""
    terminal.setenv("COLUMNS", "1000")
    await requests.show(base, REQUEST, 20)
    framed = lines(capsys)
    assert re.fullmatch(rf"│ 1 +│ SKU1 +│ {SOURCE} │ {OUTPUT} │", framed[3])
    width = len(framed[0])
    for columns, is_framed in ((width, True), (width - 1, False)):
        terminal.setenv("COLUMNS", str(columns))
        await requests.show(base, REQUEST, 20)
        assert (lines(capsys)[0] == framed[0]) == is_framed


async def test_a_hint_is_a_command_for_the_same_darkroom(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pasted as it stands it has the id, and `--url` where that was given; otherwise the settings say where."""
    csv = tmp_path / "q.csv"
    csv.touch()
    for given, option in ((base, f" --url {base}"), (None, "")):
        address = given or base
        await requests.submit(address, csv, None, {}, wait=False, rows=20, given_url=given)
        assert lines(capsys)[-1] == f"See how it gets on: darkroom status {REQUEST}{option}"
        every = f"0 of 2 images are shown; all of them: darkroom status {REQUEST} --json{option}"
        await requests.show(address, REQUEST, 0, given_url=given)
        assert every in lines(capsys)
        assert await requests.submit(address, csv, None, {}, wait=True, rows=0, given_url=given) == 1
        assert every in lines(capsys)


async def test_a_request_that_runs_says_how_many_images_are_pending(
    base: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The numbers add up to the images there are."""
    monkeypatch.setitem(STATUS, "status", "processing")
    monkeypatch.setitem(STATUS, "total", 36)
    await requests.show(base, REQUEST, 20)
    assert lines(capsys)[-1] == (
        f"Request {REQUEST} is processing: of 36 images 1 are compressed, 1 failed, 0 were cancelled, 34 still pending."
    )


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_that_there_are_no_deliveries_is_said_on_standard_error(
    base: str, is_terminal: bool, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output stays empty: neither a table without rows, nor a line that a pipe would take for a delivery."""
    if is_terminal:
        request.getfixturevalue("terminal")
    await deliveries.show(base, {"state": "failed"}, 20)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "There are no such deliveries.\n")
