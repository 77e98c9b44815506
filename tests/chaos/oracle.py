"""What must hold when the dust has settled."""

import io
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from libs.documents import Documents
from libs.mongo import Document
from tests.chaos.workload import Upload, World


async def open_requests(documents: Documents) -> int:
    """Requests that are not closed, or not announced."""
    wanted = {"$or": [{"closed": False}, {"announced": False}]}
    return await documents.requests.collection.count_documents(wanted)


async def open_deliveries(documents: Documents) -> int:
    """Deliveries that are not delivered."""
    wanted = {"state": {"$ne": "delivered"}}
    return await documents.mongo.collection("deliveries").count_documents(wanted)


async def problems(documents: Documents, accepted: Mapping[str, Upload], world: World, storage: Path) -> list[str]:
    """Everything that does not hold, in sentences; empty when all does."""
    found: list[str] = []
    for request_id, upload in accepted.items():
        found.extend(await _request_problems(documents, request_id, upload, storage))
    found.extend([f"{count} {name} are still leased" for name, count in (await _leased(documents)).items() if count])
    found.extend(_webhook_problems(accepted, world))
    return found


async def _leased(documents: Documents) -> dict[str, int]:
    leased = {"lease": {"$exists": True}}
    return {name: await documents.mongo.collection(name).count_documents(leased) for name in ("images", "deliveries")}


async def _request_problems(documents: Documents, request_id: str, upload: Upload, storage: Path) -> list[str]:
    request = await documents.requests.get(request_id)
    if request is None:
        return [f"{request_id}: accepted, and gone"]
    if not request.closed or request.counts is None:
        return [f"{request_id}: {request.status}, never closed"]
    found = []
    images = documents.mongo.collection("images").find({"_id.r": request_id})
    states: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    names = set()
    async for image in images:
        if "alias_of" in image:
            continue
        states[image["state"]] += 1 + image["copies"]
        found.extend(_image_problems(image))
        if image["state"] == "failed":
            errors[image["error"]["code"]] += 1 + image["copies"]
        else:
            names.add(image.get("output", {}).get("name"))
    counted = {"completed": request.counts.completed, "failed": request.counts.failed}
    if counted != {"completed": states["completed"], "failed": states["failed"]}:
        found.append(f"{request_id}: counted {counted}, there are {dict(states)}")
    if (request.total, sum(states.values())) != (upload.total, upload.total):
        found.append(f"{request_id}: {upload.total} uploaded, {request.total} expected, {sum(states.values())} there")
    if dict(errors) != ({"http_404": upload.missing} if upload.missing else {}):
        found.append(f"{request_id}: {upload.missing} were missing, but the failures are {dict(errors)}")
    found.extend(f"{request_id}: {problem}" for name in names for problem in _output_problems(storage, name))
    return found


def _image_problems(image: Document) -> list[str]:
    if image["state"] not in {"completed", "failed"}:
        return [f"{image['_id']}: still {image['state']}"]
    return []


def _output_problems(storage: Path, name: str | None) -> list[str]:
    if name is None:
        return ["completed without an output"]
    paths = list(storage.rglob(name))
    if len(paths) != 1:
        return [f"the output {name} is there {len(paths)} times"]
    with Image.open(io.BytesIO(paths[0].read_bytes())) as picture:
        picture.load()
        return [] if picture.size == (64, 48) else [f"the output {name} is {picture.size}"]


def _webhook_problems(accepted: Mapping[str, Upload], world: World) -> list[str]:
    found = [f"a webhook without a valid signature: {wrong}" for wrong in world.unsigned]
    ids: dict[str, set[str]] = {}
    for received in world.received:
        ids.setdefault(json.loads(received.body)["request_id"], set()).add(received.headers["webhook-id"])
    found.extend(f"{request_id}: no webhook came" for request_id in accepted if request_id not in ids)
    found.extend(f"{request_id}: webhooks under {len(some)} ids" for request_id, some in ids.items() if len(some) > 1)
    return found
