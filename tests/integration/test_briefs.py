"""What a watcher knows of the requests it works on, on a real MongoDB."""

from datetime import UTC, datetime

from libs.documents import Documents
from services.watcher.briefs import Briefs
from tests.integration.test_watcher import TRACE, submit
from tests.waiting import until

MAX_PIXELS = 1_000_000


async def marked(documents: Documents, request_id: str) -> bool:
    """Whether the request is marked as processing."""
    request = await documents.requests.get(request_id)
    return request is not None and request.status == "processing"


async def test_a_request_that_the_stream_told_of_is_not_read(documents: Documents) -> None:
    """Its brief is what was told; of one that neither was told of nor is there, there is none."""
    now = datetime.now(UTC)
    briefs = Briefs(documents.requests, max_pixels=MAX_PIXELS)
    async with briefs.running():
        briefs.told("told", {"options": {"quality": 70}, "total": 3, "trace": TRACE, "created_at": now})
        briefs.told("loading", {})
        brief = await briefs.of("told")
        assert brief is not None
        assert (brief.options.quality, brief.total, brief.trace, brief.created_at) == (70, 3, TRACE, now)
        assert await briefs.of("loading") is None


async def test_a_request_that_is_not_closed_soon_is_marked_as_processing(documents: Documents) -> None:
    """Also one that the stream told of."""
    briefs = Briefs(documents.requests, max_pixels=MAX_PIXELS)
    async with briefs.running():
        for is_told in (True, False):
            request_id = await submit(documents, ["http://h/a"])
            if is_told:
                document = await documents.requests.collection.find_one({"_id": request_id})
                assert document is not None
                briefs.told(request_id, document)
            assert await briefs.of(request_id) is not None
            await until(lambda: marked(documents, request_id), "it is marked")  # noqa: B023 (awaited in its own round)


async def test_a_mark_that_is_held_up_keeps_no_image_waiting_and_is_made_later(documents: Documents) -> None:
    """As where a loader was killed and MongoDB keeps its transaction open."""
    briefs = Briefs(documents.requests, max_pixels=MAX_PIXELS)
    request_id = await submit(documents, ["http://h/a", "http://h/b"])
    requests = documents.requests.collection
    async with briefs.running():
        async with await documents.mongo.client.start_session() as session:
            session.start_transaction()
            await requests.update_one({"_id": request_id}, {"$set": {"inserted": 8}}, session=session)
            assert await briefs.of(request_id) is not None
            for _ in range(2):  # the mark, begun before them, has come to its end by then
                assert not await documents.requests.start(request_id)
            await session.abort_transaction()
        await until(lambda: marked(documents, request_id), "it is marked")
