"""Uploads as a client makes them, with a row for each image."""

from collections.abc import Iterable

import aiohttp

from tests.ingests import HEADER


def catalogue(links: Iterable[str]) -> str:
    """A CSV of these images."""
    return HEADER + "".join(f"{number},SKU{number},{link}\n" for number, link in enumerate(links))


async def upload(client: aiohttp.ClientSession, url: str, links: Iterable[str], webhook_url: str = "") -> str:
    """Has the Darkroom at `url` accept these images; gives the request's id."""
    form = aiohttp.FormData()
    form.add_field("file", catalogue(links), filename="bench.csv", content_type="text/csv")
    form.add_field("webhook_url", webhook_url)
    async with client.post(f"{url}/api/upload", data=form) as answer:
        answer.raise_for_status()
        return str((await answer.json())["request_id"])
