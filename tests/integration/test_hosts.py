"""A host that hangs beside others that answer, and one that asks for time, in one watcher."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from libs.documents import Documents, HeldImage, ImageFailure, NewImage, NewRequest
from libs.egress import Download, EgressError
from libs.imaging import Compressed, Options
from libs.leases import Claim
from services.watcher.hosts import Hosts
from tests.integration.test_watcher import TRACE, states
from tests.waiting import until
from tests.watchers import Copying, Downloads, draining

EACH = 3
SLOTS = 8


async def submit(documents: Documents, hosts: Mapping[str, int]) -> list[str]:
    """Accepts one request with so many images of each host, one host after the other; gives the URLs."""
    urls = [f"http://{host}/{number}" for host, count in hosts.items() for number in range(count)]
    images = [NewImage(n, n, n, "SKU", url, url.split("/")[2]) for n, url in enumerate(urls)]
    await documents.requests.accept(NewRequest(None, "a.csv", 1, "0" * 64, len(urls), TRACE), [images], uuid4())
    return urls


async def completed(documents: Documents, urls: list[str]) -> None:
    """Returns when all of these are completed."""

    async def probe() -> bool:
        found = await states(documents)
        return {found[url] for url in urls} == {"completed"}

    await until(probe, "what answers is completed")


def out_of_order(begun: list[str], urls: list[str]) -> int:
    """By how many places the farthest of those that were begun stood elsewhere in the request."""
    assert len(begun) == len(set(begun))
    return max(abs(at - urls.index(url)) for at, url in enumerate(begun))


async def test_a_host_that_hangs_leaves_the_others_their_slots(documents: Documents, tmp_path: Path) -> None:
    """Of a hundred hosts' images, all are completed while the first ones, which stand before them, still hang."""
    hanging = await submit(documents, {"hangs": 20})
    answering = await submit(documents, {f"host{n}": 2 for n in range(50)})
    downloads = Downloads(*answering)
    async with draining(documents, tmp_path, downloads, in_flight=SLOTS, host_in_flight=EACH):
        await completed(documents, answering)
        later = await submit(documents, {"later": 2})
        downloads.at_once = (*answering, *later)
        await completed(documents, later)
        found = await states(documents)
        assert [found[url] for url in hanging] == ["processing"] * EACH + ["pending"] * (20 - EACH)
        assert downloads.running == set(hanging[:EACH])
        downloads.gate.set()
        await completed(documents, hanging)
    begun = [downloads.started.get_nowait() for _ in range(downloads.started.qsize())]
    assert out_of_order([url for url in begun if url in hanging], hanging) < SLOTS
    assert max(len(downloads.beside[url] & set(hanging)) for url in hanging) < EACH
    attempts = documents.mongo.collection("images").find({}, {"attempts": 1, "lost_leases": 1})
    assert [image async for image in attempts if image["attempts"] or image["lost_leases"]] == []


async def test_what_stands_behind_a_whole_catalogue_of_a_host_that_hangs_is_reached(
    documents: Documents, tmp_path: Path
) -> None:
    """Images far behind those are put off, at no charge, and one behind them all is completed while they hang."""
    urls = await submit(documents, {"hangs": 600, "answers": 1})
    downloads, each = Downloads(urls[-1]), 32
    async with draining(documents, tmp_path, downloads, in_flight=2 * each, host_in_flight=each):
        await completed(documents, urls[-1:])
        assert downloads.running == set(urls[:each])
        delayed = documents.mongo.collection("images").find({"state": "delayed"}, {"attempts": 1, "lost_leases": 1})
        put_off = await delayed.to_list(None)
        assert {(image["attempts"], image["lost_leases"]) for image in put_off} == {(0, 0)}
        assert 256 <= len(put_off) < 600
        downloads.gate.set()
        await completed(documents, urls)
    begun = [downloads.started.get_nowait() for _ in range(downloads.started.qsize())]
    assert out_of_order([url for url in begun if url != urls[-1]], urls) < 512


async def test_a_host_that_hangs_after_it_answered_leaves_the_others_their_slots(
    documents: Documents, tmp_path: Path
) -> None:
    """Those that wait for it take none, though they are more than there are slots."""
    urls, each, slots = await submit(documents, {"hangs": 300}), 8, 16
    answered = urls[:150]
    downloads = Downloads(*answered)
    async with draining(documents, tmp_path, downloads, in_flight=slots, host_in_flight=each):
        await completed(documents, answered)

        async def is_held() -> bool:
            return len(downloads.running) == each

        await until(is_held, "its share hangs")
        later = await submit(documents, {"later": 2})
        downloads.at_once = (*answered, *later)
        await completed(documents, later)
        assert len(downloads.running) == each
        downloads.gate.set()
        await completed(documents, urls)


class Slow(Copying):
    """A codec that is done with nothing before `gate` is open; `given` has what it was given."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.given: asyncio.Queue[bytes] = asyncio.Queue()

    async def compress(self, data: bytes, options: Options, *, flow: str) -> Compressed:
        """The data itself, in the end."""
        self.given.put_nowait(data)
        await self.gate.wait()
        return await super().compress(data, options, flow=flow)


async def test_a_host_that_answers_has_every_slot_where_the_codec_is_slow(documents: Documents, tmp_path: Path) -> None:
    """What has been downloaded makes room for the next of its host, but never are more than its share downloaded."""
    urls, codec = await submit(documents, {"answers": 2 * SLOTS}), Slow()
    downloads = Downloads()
    async with draining(documents, tmp_path, downloads, codec=codec, in_flight=SLOTS, host_in_flight=EACH):
        assert {await downloads.started.get() for _ in range(EACH)} == {*urls[:EACH]}
        downloads.gate.set()
        given = {await codec.given.get() for _ in range(SLOTS)}
        assert given == {url.encode() for url in urls[:SLOTS]}
        codec.gate.set()
        await completed(documents, urls)
    assert max(len(beside) for beside in downloads.beside.values()) < EACH


class Busy(Downloads):
    """Downloads that come to nothing until the gate is open, by `code`; the host asks for `seconds`."""

    def __init__(self, code: str, seconds: float | None = None) -> None:
        super().__init__()
        self._code = code
        self._seconds = seconds

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The URL as a body, in the end."""
        if not self.gate.is_set():
            raise EgressError(self._code, "not now", retryable=True, retry_after_seconds=self._seconds)
        return await super().download(url, max_bytes=max_bytes, total_seconds=total_seconds)


@pytest.mark.parametrize("code", ["host_busy", "memory_busy"])
async def test_a_download_that_was_not_tried_costs_no_attempt(documents: Documents, tmp_path: Path, code: str) -> None:
    """Where the host or the memory is busy, even the only one that there is."""
    urls, downloads = await submit(documents, {"busy": 1}), Busy(code)

    async def is_put_off() -> bool:
        return await documents.mongo.collection("images").count_documents({"state": "delayed", "attempts": 0}) == 1

    async with draining(documents, tmp_path, downloads, max_attempts=1, retry_seconds=1e-3):
        await until(is_put_off, "it is put off at no charge")
    downloads.gate.set()
    async with draining(documents, tmp_path, downloads, max_attempts=1):
        await completed(documents, urls)


@pytest.mark.parametrize(("asked", "least"), [(200.0, 190.0), (86_400.0, 290.0)])
async def test_a_host_is_given_the_time_that_it_asks_for(
    documents: Documents, tmp_path: Path, asked: float, least: float
) -> None:
    """The next try is no sooner, but where it asks for more than the longest pause there is."""
    await submit(documents, {"busy": 1})

    async def is_put_off() -> bool:
        return await documents.mongo.collection("images").count_documents({"state": "delayed", "attempts": 1}) == 1

    async with draining(documents, tmp_path, Busy("http_503", asked), retry_seconds=1e-3, retry_cap_seconds=300):
        await until(is_put_off, "it is put off")
        due_seconds = await documents.images.leases.next_due_seconds()
    assert due_seconds is not None
    assert least < due_seconds <= min(asked, 300)


def held(host: str, count: int, first: int = 0) -> list[HeldImage]:
    """Claimed images of one host."""
    now = datetime.now(UTC)
    return [HeldImage("r", n, f"http://{host}/{n}", host, n, 0, 0, 0, now, "t") for n in range(first, first + count)]


async def backlog(hosts: Hosts, answered: int) -> None:
    """64 images were claimed and there are more; so many of the host `answers` have been downloaded and are done."""
    assert not await hosts.make_way(Claim("t", [{"host": "answers"}] * 64), [])
    for image in held("answers", answered, first=1000):
        hosts.leave(image)


@pytest.mark.parametrize(
    ("answered", "seconds", "counts"),
    [
        pytest.param(9, 0.2, {0: 20, 7: 17, 8: 16, 16: 8, 17: 0, 24: 0}, id="a host that answers 40 a second"),
        pytest.param(9, 1.0, {0: 12, 7: 5, 8: 4, 10: 2, 11: 0, 12: 0}, id="a host that answers 8 a second"),
        pytest.param(9, 5.0, {0: 8, 7: 1, 8: 0, 9: 0}, id="a host that answers less than 2 a second"),
        pytest.param(8, 0.2, {0: 8, 7: 1, 8: 0, 16: 0}, id="a host that has not answered more than its share"),
    ],
)
async def test_some_images_of_a_host_that_answers_wait_for_it_and_several_are_claimed_at_once(
    documents: Documents, answered: int, seconds: float, counts: Mapping[int, int]
) -> None:
    """In a backlog, beside so many of it there is room for so many more, and none before it is for half of these."""
    now = 0.0
    hosts = Hosts(8, documents.postponed, slots=16, clock=lambda: now)
    await backlog(hosts, answered)
    now = seconds
    candidates = [{"host": "answers"}] * 20
    for count, more in counts.items():
        assert len(hosts.shares(held("answers", count)).admit(candidates)) == more, count
    # Those that wait take no slot.
    assert hosts.limit(16 - 14, held("answers", 14)) == 8
    assert not await hosts.make_way(Claim("t", [{"host": "answers"}], exhausted=True), [])
    assert len(hosts.shares(held("answers", 7)).admit(candidates)) == 1


async def test_hosts_that_answered_long_ago_take_nothing_from_one_that_answers(documents: Documents) -> None:
    """A catalogue may have one host's images behind another's, and an hour may be between their last answers."""
    now = 0.0
    hosts = Hosts(8, documents.postponed, slots=16, clock=lambda: now)
    await backlog(hosts, 1)
    for number in range(100):
        hosts.leave(held(f"host{number}", 1)[0])
    now = 3600.0
    for image in held("answers", 9, first=2000):
        hosts.leave(image)
    assert len(hosts.shares([]).admit([{"host": "answers"}] * 20)) == 20


async def test_none_wait_for_a_slow_host_that_answers_its_share_at_one_moment(documents: Documents) -> None:
    """What was asked for at once is answered at once, though it took ten seconds."""
    now = 0.0
    hosts = Hosts(8, documents.postponed, slots=16, clock=lambda: now)
    await backlog(hosts, 8)
    for now in (0.0, 10.0):
        for image in held("answers", 8, first=2000 + round(now)):
            hosts.leave(image)
    assert hosts.shares(held("answers", 8)).admit([{"host": "answers"}] * 20) == []


async def test_where_the_codec_is_slow_several_slots_are_free_before_more_is_claimed(documents: Documents) -> None:
    """A quarter of them in a backlog, when half of them wait for the codec; else the first that is free is used."""
    hosts, working = Hosts(8, documents.postponed, slots=16), [*held("one", 7), *held("other", 6)]
    await backlog(hosts, 0)
    for number, image in enumerate(working[:8]):
        assert hosts.limit(3, working) == 3, number
        hosts.leave(image)
    assert hosts.limit(3, working) == 0
    assert hosts.limit(4, working[:12]) == 4
    await hosts.make_way(Claim("t", [], exhausted=True), working)
    assert hosts.limit(1, working) == 1


async def test_looks_behind_one_hosts_images_that_bring_nothing_to_light_become_rare_while_these_are_claimed(
    documents: Documents,
) -> None:
    """Four a second while nothing is claimed; with claims, which see the front, one in two seconds in the end."""
    now = 0.0
    hosts, working = Hosts(8, documents.postponed, slots=16, clock=lambda: now), held("one", 8)
    nothing_else = Claim("t", [], withheld=[{"_id": n, "host": "one", "rank": n} for n in range(512)])
    for _ in range(12):  # MongoDB is asked after ever longer pauses, each time in vain
        now += 10.0
        await hosts.make_way(nothing_else, working)
        assert not await hosts.make_way(nothing_else, working)
    looked = now
    for now in (looked + 0.2, looked + 0.3, looked + 0.6):
        assert hosts.limit(8, working) == (0 if now < looked + 0.25 else 8), now
    for now in (looked + 0.2, looked + 0.4, looked + 0.6, looked + 0.8, looked + 1.0):
        await hosts.make_way(Claim("t", [{"host": "one"}]), working)
        assert hosts.limit(8, working) == 0, now
    now = looked + 1.3  # none was claimed for a while
    assert hosts.limit(8, working) == 8
    now = looked + 1.9
    await hosts.make_way(Claim("t", [{"host": "one"}]), working)
    assert hosts.limit(8, working) == 0
    now = looked + 2.01
    assert hosts.limit(8, working) == 8


async def before_another(documents: Documents, count: int) -> Claim:
    """A claim that has seen nothing but so many images of the host `one`, with one of another host behind them."""
    await submit(documents, {"one": count, "other": 1})
    found = documents.mongo.collection("images").find({"host": "one"}, {"rank": 1, "host": 1}, sort=[("rank", 1)])
    return Claim("t", [], withheld=await found.to_list(None))


async def test_images_with_no_others_behind_them_stay_where_they_are(documents: Documents, tmp_path: Path) -> None:
    """However long their host hangs none of them is written, and a small request that comes then is worked on."""
    hanging = await submit(documents, {"hangs": 1200})
    downloads, each = Downloads(), 32
    async with draining(documents, tmp_path, downloads, in_flight=2 * each, host_in_flight=each):

        async def is_held() -> bool:
            return len(downloads.running) == each

        await until(is_held, "its share hangs")
        for number in range(4):
            later = await submit(documents, {f"later{number}": 1})
            downloads.at_once = (*downloads.at_once, *later)
            await completed(documents, later)
        found = await states(documents)
        downloads.gate.set()
    assert [found[url] for url in hanging] == ["processing"] * each + ["pending"] * (1200 - each)


class TwoGates(Downloads):
    """Downloads of which those of the host `answers` have a gate of their own."""

    def __init__(self, *at_once: str) -> None:
        super().__init__(*at_once)
        self.answers = asyncio.Event()

    def gate_of(self, url: str) -> asyncio.Event:
        """By the host."""
        return self.answers if url.startswith("http://answers/") else self.gate


async def test_images_that_were_put_off_come_back_while_another_host_hangs(
    documents: Documents, tmp_path: Path
) -> None:
    """A host that had its share for a moment only, and whose images wait behind those that hang, goes on."""
    urls = await submit(documents, {"hangs": 100, "answers": 500, "other": 1})
    answering, each = urls[100:600], 8
    downloads = TwoGates(urls[-1])
    async with draining(documents, tmp_path, downloads, in_flight=4 * each, host_in_flight=each):
        await completed(documents, urls[-1:])
        assert await documents.mongo.collection("images").count_documents({"state": "delayed", "host": "answers"}) > 256
        downloads.answers.set()
        await completed(documents, answering)
        assert downloads.running == set(urls[:each])
        downloads.gate.set()


@pytest.mark.parametrize(("among", "hidden"), [(3, False), (4, True)])
async def test_others_are_looked_for_among_so_many(documents: Documents, among: int, hidden: bool) -> None:
    """From a rank on, and not of the hosts that are named."""
    await submit(documents, {"one": 5, "two": 1, "three": 1})
    first = await documents.mongo.collection("images").find_one({"host": "one"}, sort=[("rank", 1)])
    assert first is not None
    assert await documents.postponed.is_before_others({"one"}, first["rank"] + 2, among=among) is hidden
    assert not await documents.postponed.is_before_others({"one", "two", "three"}, first["rank"], among=100)


async def test_what_has_failed_since_it_was_put_off_waits_for_its_next_try(documents: Documents) -> None:
    """It came back by itself and was tried; only what is delayed for its host is brought back before its time."""
    await submit(documents, {"one": 3})
    ids = [image["_id"] async for image in documents.mongo.collection("images").find({}, sort=[("rank", 1)])]
    assert await documents.postponed.put_off(ids[:2], 0) == 2
    assert await documents.images.leases.promote() == 2
    _, [first] = await documents.images.claim(1)
    assert await documents.images.retry(first, ImageFailure("http_503", "not now"), 60, charge=0)
    assert await documents.postponed.put_off(ids[1:], 60) == 2
    assert await documents.postponed.bring_back(ids) == 2
    assert sorted((await states(documents)).values()) == ["delayed", "pending", "pending"]


async def test_claims_go_back_to_where_images_that_were_put_off_stand(documents: Documents) -> None:
    """Meanwhile they went past these; to them the queue looks empty from there on."""
    returned: list[float] = []
    now = 0.0
    hosts = Hosts(8, documents.postponed, slots=16, on_return=returned.append, clock=lambda: now)
    behind_its_share = await before_another(documents, 512)
    assert await hosts.make_way(behind_its_share, held("one", 8))  # does not reach so far
    now = 0.5
    assert await hosts.make_way(behind_its_share, held("one", 8))
    assert returned == []
    assert await hosts.make_way(Claim("t", [], exhausted=True), [])
    assert returned == [behind_its_share.withheld[64]["rank"]]


@pytest.mark.parametrize(
    ("per_second", "patience"),
    [
        pytest.param(512, 1.0, id="done in a second"),
        pytest.param(128, 4.0, id="done in four seconds"),
        pytest.param(100, 0.5, id="not done in five seconds"),
        pytest.param(0, 0.5, id="not known"),
    ],
)
async def test_images_of_a_host_that_will_soon_be_done_with_them_are_not_put_off(
    documents: Documents, per_second: float, patience: float
) -> None:
    """For as long as that takes; behind a slow host, or one that hangs, what else there is is soon looked for."""
    now = 0.0
    hosts, working = Hosts(8, documents.postponed, slots=16, clock=lambda: now), held("one", 8)
    behind_its_share = await before_another(documents, 512)
    put_off = []
    for tick in range(41):
        for number in range(9 if per_second else 0):
            now = tick / 8 + (number - 8) / per_second
            hosts.leave(held("one", 1, first=1000 + number)[0])
        now = tick / 8
        put_off.append(await hosts.make_way(behind_its_share, working))
    assert put_off[0]  # looks further
    assert put_off.index(True, 1) == patience * 8
