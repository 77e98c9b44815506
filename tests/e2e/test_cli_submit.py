"""`darkroom submit`, `status` and `cancel` against a running Darkroom."""

import asyncio
import io
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from tests.e2e.commands import DARKROOM, darkroom, environment, up
from tests.sources import photograph, served
from tests.waiting import until

HEADER = "S. No.,Product Name,Input Image Urls\n"


@pytest.fixture(scope="module")
async def base(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a Darkroom that this module's tests share."""
    folder = tmp_path_factory.mktemp("up")
    async with up(folder=folder, MONGO_CONNECTION_STRING=mongo_uri, DATABASE_NAME="e2e_cli_submit") as started:
        yield started.url
        assert await started.stop() == 0


async def test_it_shows_progress_and_results(base: str, tmp_path: Path) -> None:
    """Where no terminal is: plain lines with the rate and what was saved, and one line per image."""
    async with served({"a.jpg": photograph(), "b.jpg": photograph(shade=1)}) as sources:
        (tmp_path / "p.csv").write_text(HEADER + f"1,SKU1,{sources.link('a.jpg')}, {sources.link('b.jpg')}\n")
        done = await darkroom("submit", "p.csv", "--url", base, "--wait", folder=tmp_path)
        assert done.code == 0, done.err
        assert re.search(r"completed: 2 of 2 images, \d+\.\d images/s, \d+\.\d kB saved \(\d+ %\)", done.out)
        for name in ("a.jpg", "b.jpg"):
            result = re.escape(f"1\tSKU1\t{sources.link(name)}\t{base}/compressed_images/") + r"[0-9a-f]{64}\.jpg"
            assert re.search(result, done.out)
        assert "of 2 images 2 are compressed, 0 failed" in done.out


async def test_it_exits_with_1_when_an_image_failed(base: str, tmp_path: Path) -> None:
    """The failed image shows its reason, though it stands below the rows that are asked for."""
    async with served({"a.jpg": photograph()}) as sources:
        (tmp_path / "p.csv").write_text(HEADER + f"1,A,{sources.link('a.jpg')}\n2,B,{sources.link('none.jpg')}\n")
        done = await darkroom("submit", "p.csv", "--url", base, "--wait", "--rows", "1", folder=tmp_path)
        assert done.code == 1, done.err
        assert f"2\tB\t{sources.link('none.jpg')}\thttp_404" in done.out
        assert "completed_with_errors" in done.out


async def test_what_is_asked_of_the_compression_is_what_comes_out(base: str, tmp_path: Path) -> None:
    """Format and size by the command line, through upload, watcher and codec, to the file that is served."""
    async with served({"a.jpg": photograph(320, 240)}) as sources:
        (tmp_path / "p.csv").write_text(HEADER + f"1,A,{sources.link('a.jpg')}\n")
        asked = ("--format", "webp", "--max-width", "80", "--quality", "70")
        done = await darkroom("submit", "p.csv", "--url", base, "--wait", *asked, folder=tmp_path)
    assert done.code == 0, done.err
    [url] = re.findall(rf"{base}/compressed_images/[0-9a-f]{{64}}\.webp", done.out)
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        assert answer.content_type == "image/webp"
        image = Image.open(io.BytesIO(await answer.read()))
    assert (image.format, image.size) == ("WEBP", (80, 60))


async def test_a_wrong_option_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """One sentence that names it, though nothing answers at the address."""
    (tmp_path / "p.csv").write_text(HEADER)
    for asked, said in (
        (("--quality", "96"), "quality: must be a whole number from 1 to 95, or auto"),
        (("--quality", "9", "--max-bytes", "9"), "max_bytes: give only one of quality, target_ratio and max_bytes"),
    ):
        done = await darkroom("submit", "p.csv", "--url", "http://127.0.0.1:9", *asked, folder=tmp_path)
        assert done.code == 2
        assert said in done.err


async def test_a_refused_csv_shows_its_places(base: str, tmp_path: Path) -> None:
    """Line and column of each problem, and exit code 2."""
    (tmp_path / "p.csv").write_text(HEADER + "one,A,https://example.com/a.jpg\n2,B,ftp://example.com/b.jpg\n")
    done = await darkroom("submit", "p.csv", "--url", base, "--wait", folder=tmp_path)
    assert done.code == 2
    lines = done.err.splitlines()
    assert "(422)" in lines[0]
    assert lines[1].startswith("  line 2, column 1: ")
    assert lines[2].startswith("  line 3, column 3: ")


async def test_a_large_csv_that_is_refused_early_still_shows_why(base: str, tmp_path: Path) -> None:
    """The refusal comes while the file is still being sent."""
    row = "x," + "long name " * 50 + ",https://example.com/a.jpg\n"
    (tmp_path / "p.csv").write_text(HEADER + row * 40_000)
    done = await darkroom("submit", "p.csv", "--url", base, folder=tmp_path)
    assert done.code == 2
    assert "  line 2, column 1: " in done.err
    assert "  … and 90 more" in done.err


async def test_status_and_cancel(base: str, tmp_path: Path) -> None:
    """A request that cannot get on is shown as it stands, as text and JSON, and cancelled once."""
    async with served({"a.jpg": photograph()}) as sources:
        sources.close()
        (tmp_path / "p.csv").write_text(HEADER + f"1,A,{sources.link('a.jpg')}\n")
        done = await darkroom("submit", "p.csv", "--url", base, folder=tmp_path)
        assert done.code == 0, done.err
        [request_id] = re.findall(rf"darkroom status (\S+) --url {base}\n", done.out)
        await sources.waiting_for(1)

        shown = await darkroom("status", request_id, "--url", base, folder=tmp_path)
        assert shown.code == 0
        assert f"1\tA\t{sources.link('a.jpg')}\tpending" in shown.out
        full = await darkroom("status", request_id, "--json", "--url", base, folder=tmp_path)
        assert full.code == 0
        assert json.loads(full.out)["details"][0]["input_image_urls"] == [sources.link("a.jpg")]

        cancelled = await darkroom("cancel", request_id, "--url", base, folder=tmp_path)
        assert (cancelled.code, cancelled.out) == (0, f"Request {request_id} is cancelled.\n")
        again = await darkroom("cancel", request_id, "--url", base, folder=tmp_path)
        assert again.code == 2
        assert "(409)" in again.err
        sources.open()


@pytest.mark.parametrize("command", ["status", "cancel"])
async def test_an_unknown_request_is_one_sentence(command: str, base: str, tmp_path: Path) -> None:
    """What Darkroom says is shown, without a traceback."""
    done = await darkroom(command, "00000000-0000-4000-8000-000000000000", "--url", base, folder=tmp_path)
    assert done.code == 2
    assert "(404)" in done.err
    assert len(done.err.splitlines()) == 1


async def test_in_a_terminal_there_is_a_live_bar_and_a_table(base: str, tmp_path: Path) -> None:
    """A person sees a bar with the rate, and the results framed."""
    ours, theirs = os.openpty()
    async with served({"a.jpg": photograph()}) as sources:
        (tmp_path / "p.csv").write_text(HEADER + f"1,SKU1,{sources.link('a.jpg')}\n")
        process = await asyncio.create_subprocess_exec(
            *(*DARKROOM, "submit", "p.csv", "--url", base, "--wait"),
            env=environment(TERM="xterm-256color", COLUMNS="200"),
            cwd=tmp_path,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""

        async def ended() -> bool:
            nonlocal shown
            try:
                shown += await asyncio.to_thread(os.read, ours, 65536)
            except OSError:  # EIO: the last process of the terminal has ended
                return True
            return False

        try:
            await until(ended, "the command ends")
            assert await process.wait() == 0, shown.decode()
        finally:
            os.close(ours)
            if process.returncode is None:
                process.kill()
                await process.wait()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "1/1" in text
    assert "saved (" in text
    assert "┃ S. No. ┃" in text
    assert f"{base}/compressed_images/" in text
