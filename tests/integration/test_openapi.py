import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import validate

from libs.documents import EVENTS, Attempt, Documents, FailedImage, ImageFailure, NewEndpoint
from services.ingest.event_models import TEST_EVENT
from services.notifier.event import endpoint_event_of, event_of, image_event_of
from tests.ingests import SAMPLE, Ingest, ingesting
from tests.logged import logged, put
from tests.notifiers import close_request, deliveries_to, notifier_settings, notifying, subscribe
from tests.webhook_server import receiving

ATTEMPT = Attempt(datetime(2026, 1, 31, tzinfo=UTC), 0.1, 500, "http_500", "it broke", "192.0.2.1").document()

# A `file` that is valid by its schema, which can only say "bytes", is hardly ever a CSV. That valid ones are accepted
# is covered by tests/unit/test_csv_properties.py instead. Nor can a schema say which URLs are public; that the rest of
# an endpoint is accepted is covered by tests/integration/test_ingest_webhooks.py.
CONFIGURATION = """
[checks]
enabled = true
{parameters}
[[operations]]
include-name = ["POST /api/upload", "POST /api/webhooks", "PATCH /api/webhooks/{{endpoint_id}}"]
checks.positive_data_acceptance.enabled = false
"""


async def specification(ingest: Ingest) -> Any:
    """The document as it is served."""
    status, body = await ingest.call("GET", "/openapi.json")
    assert status == 200
    return body


async def test_the_document_is_valid_openapi_3_1(documents: Documents, tmp_path: Path) -> None:
    """By the independent validator."""
    async with ingesting(documents, tmp_path) as ingest:
        document = await specification(ingest)

    assert document["openapi"].startswith("3.1.")
    validate(document)


async def test_the_document_lists_every_api_route_and_nothing_else(documents: Documents, tmp_path: Path) -> None:
    """Not the pages, not the health routes; each operation says what its problems look like."""
    async with ingesting(documents, tmp_path) as ingest:
        document = await specification(ingest)

    operations = {(method, path): it for path, methods in document["paths"].items() for method, it in methods.items()}
    assert set(operations) == {
        ("post", "/api/upload"),
        ("get", "/api/status"),
        ("delete", "/api/requests/{id}"),
        ("post", "/api/webhooks"),
        ("get", "/api/webhooks"),
        ("get", "/api/webhooks/{endpoint_id}"),
        ("patch", "/api/webhooks/{endpoint_id}"),
        ("delete", "/api/webhooks/{endpoint_id}"),
        ("post", "/api/webhooks/{endpoint_id}/rotate"),
        ("post", "/api/webhooks/{endpoint_id}/test"),
        ("post", "/api/webhook-test"),
        ("get", "/api/deliveries"),
        ("get", "/api/deliveries/{delivery_id}"),
        ("post", "/api/deliveries/{delivery_id}/redeliver"),
        ("post", "/api/deliveries/redeliver"),
        ("get", "/compressed_images/{name}"),
    }
    for operation in operations.values():
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert operation["summary"]


async def test_the_one_body_that_may_be_left_out_is_known_by_that(documents: Documents, tmp_path: Path) -> None:
    """A rotation needs none; clients that are generated from the document need not make one up."""
    async with ingesting(documents, tmp_path) as ingest:
        paths = (await specification(ingest))["paths"]

    bodies = {path: methods["post"].get("requestBody") for path, methods in paths.items() if "post" in methods}
    assert [path for path, body in bodies.items() if body and not body["required"]] == [
        "/api/webhooks/{endpoint_id}/rotate"
    ]


async def bodies_sent(ingest: Ingest, documents: Documents) -> list[dict[str, Any]]:
    """A body of every event that there is, as notifiers and ingest make it."""
    endpoint = await subscribe(documents, "https://shop.example/hooks", description="shop", events=["image.failed"])
    failing = replace(endpoint, failing_since=endpoint.created_at)
    ended = [await close_request(documents, None, good=good, bad=bad) for good, bad in ((1, 0), (1, 1), (0, 1))]
    ended.append(await ingest.accepted(SAMPLE))
    await ingest.call("DELETE", f"/api/requests/{ended[-1]}")
    requests = [await documents.requests.get(request_id) for request_id in ended]
    made = [event_of(request, endpoint.url, base_url="http://d") for request in requests if request]
    broken = FailedImage(0, 0, 1, "SKU1", "http://h/0", ImageFailure("http_404", "h answered 404"))
    made += [image_event_of(request, broken, endpoint, base_url="http://d") for request in requests[1:2] if request]
    made.append(endpoint_event_of("endpoint.failing", endpoint.created_at, failing, endpoint))
    gone = await documents.endpoints.disable(endpoint.id, "gone")
    assert gone
    made.append(endpoint_event_of("endpoint.disabled", endpoint.created_at, gone, endpoint))
    tested = await subscribe(documents, "https://shop.example/hooks")
    assert (await ingest.call("POST", f"/api/webhooks/{tested.id}/test"))[0] == 202
    [test] = await deliveries_to(documents, tested)
    return [json.loads(body) for body in [*(delivery.body for delivery in made), test.body]]


def fields_of(body: Any, schema: Any, schemas: Any) -> Iterator[tuple[set[str], set[str]]]:
    """Of each object in a body: its fields, and those that its schema has and requires."""
    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if isinstance(body, dict):
        assert set(schema["properties"]) == set(schema["required"])
        yield set(body), set(schema["properties"])
        for name, value in body.items():
            yield from fields_of(value, schema["properties"].get(name, {}), schemas)


async def test_messages_to_receivers_are_as_the_document_says(documents: Documents, tmp_path: Path) -> None:
    """One of each event: all of it is described, and all that is described is there, in the types that are promised."""
    async with ingesting(documents, tmp_path) as ingest:
        document = await specification(ingest)
        bodies = await bodies_sent(ingest, documents)

    messages, schemas = document["webhooks"], document["components"]["schemas"]
    assert {body["type"] for body in bodies} == set(messages) == {*EVENTS, TEST_EVENT}
    assert len(bodies) == len(messages)
    for body in bodies:
        schema = messages[body["type"]]["post"]["requestBody"]["content"]["application/json"]["schema"]
        whole = {**schema, "components": document["components"]}
        OAS31Validator(whole, format_checker=oas31_format_checker).validate(body)
        for fields, described in fields_of(body, schema, schemas):
            assert fields == described


async def test_what_a_receiver_gets_has_the_headers_that_are_described(
    documents: Documents, mongo_uri: str, tmp_path: Path
) -> None:
    """Of a request that is done; its body is as described too."""
    async with ingesting(documents, tmp_path) as ingest, receiving() as receiver:
        message = (await specification(ingest))["webhooks"]["request.completed"]["post"]
        await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri)):
            [received] = await receiver.first(1)
    described = {parameter["name"] for parameter in message["parameters"]}
    sent = {name.lower() for name in received.headers}
    assert described == {name for name in sent if name.startswith(("webhook-", "trace"))}
    assert json.loads(received.body)["type"] == "request.completed"


async def test_every_operation_has_a_name_of_its_own(documents: Documents, tmp_path: Path) -> None:
    """Of those that are called and of those that receivers have; clients that are generated go by it."""
    async with ingesting(documents, tmp_path) as ingest:
        document = await specification(ingest)

    items = [*document["paths"].values(), *document["webhooks"].values()]
    names = [operation["operationId"] for item in items for operation in item.values()]
    assert len(set(names)) == len(names) > 20


async def operations(ingest: Ingest) -> int:
    """How many the document has."""
    return sum(len(methods) for methods in (await specification(ingest))["paths"].values())


async def schemathesis(ingest: Ingest, folder: Path, phases: str, parameters: str = "") -> tuple[int | None, str]:
    """Exit code and report of a run with all checks."""
    (folder / "schemathesis.toml").write_text(CONFIGURATION.format(parameters=parameters), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{ingest.url}/openapi.json", "--phases", phases),
        *("--max-examples", "20", "--seed", "1", "--no-color"),
        cwd=folder,
        env={**os.environ, "COLUMNS": "120"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode(errors="replace")


async def test_schemathesis_finds_nothing_with_what_it_makes_up(documents: Documents, tmp_path: Path) -> None:
    """Valid and invalid requests of every kind: all checks pass against the live service."""
    async with ingesting(documents, tmp_path) as ingest:
        code, report = await schemathesis(ingest, tmp_path, "examples,coverage,fuzzing,stateful")
        count = await operations(ingest)

    assert code == 0, report
    assert f"Tested: {count}" in report


async def test_schemathesis_finds_nothing_with_what_there_is(documents: Documents, tmp_path: Path) -> None:
    """With ids of what is really there, the successful answers are checked against their schemas too."""
    name = "ab" * 32 + ".jpg"
    async with ingesting(documents, tmp_path) as ingest:
        async with ingest.context.storage.writing():
            await ingest.context.storage.put(name, b"image")
        request_id = await ingest.accepted(SAMPLE)
        endpoint = await documents.endpoints.create(NewEndpoint("https://shop.example/"))
        [delivery_id] = await put(documents, [logged(0, "failed", request_id=request_id, attempts=[ATTEMPT])])
        known = {
            "query.request_id": request_id,
            "path.id": request_id,
            "path.name": name,
            "path.endpoint_id": endpoint.id,
            "path.delivery_id": delivery_id,
        }
        parameters = "".join(f'"{parameter}" = "{value}"\n' for parameter, value in known.items())
        code, report = await schemathesis(ingest, tmp_path, "fuzzing", f"[parameters]\n{parameters}")
        count = await operations(ingest)

    assert code == 0, report
    assert f"Tested: {count}" in report
