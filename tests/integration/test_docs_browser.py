import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright

from libs.documents import Documents
from tests.ingests import ingesting

HOST = "darkroom.test"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
]
SUMMARIES = ("Upload a catalogue", "Status of a request", "Cancel a request", "Try a webhook", "A compressed image")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium that knows our host name."""
    chromium = shutil.which("chromium")
    assert chromium, "Chromium is missing: install it, on Debian and Ubuntu with `apt-get install chromium`."
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


class Watched:
    """What a page asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.hosts: set[str | None] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self._requested(request.url))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))

    def _requested(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"}:
            self.hosts.add(parts.hostname)

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_documentation_page_shows_every_operation_and_asks_nobody_else(
    documents: Documents, tmp_path: Path, browser: Browser, path: str
) -> None:
    """Opened under a name that is not localhost: no foreign host, no console error, nothing blocked by the policy."""
    async with ingesting(documents, tmp_path) as ingest:
        port = urlsplit(ingest.url).port
        page = await browser.new_page()
        watched = Watched(page)
        answer = await page.goto(f"http://{HOST}:{port}{path}")
        for summary in SUMMARIES:
            await page.get_by_text(summary).locator("visible=true").first.wait_for()
        await page.wait_for_load_state("networkidle")
        policy = answer.headers["content-security-policy"] if answer else ""

    assert watched.hosts == {HOST}
    assert watched.complaints == []
    assert "script-src 'self';" in policy
    assert "default-src 'none';" in policy


async def test_swagger_ui_can_try_an_operation(documents: Documents, tmp_path: Path, browser: Browser) -> None:
    """The policy of the page lets it call the service it documents."""
    async with ingesting(documents, tmp_path) as ingest:
        page = await browser.new_page()
        watched = Watched(page)
        await page.goto(f"http://{HOST}:{urlsplit(ingest.url).port}/docs")
        await page.get_by_text("Try a webhook").first.click()
        await page.get_by_role("button", name="Try it out").click()
        async with page.expect_response("**/api/webhook-test") as answered:
            await page.get_by_role("button", name="Execute").click()
        answer = await answered.value

    assert answer.status == 200
    assert watched.hosts == {HOST}
    assert watched.complaints == []
