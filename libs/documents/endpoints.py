"""Endpoints: created, changed, rotated, disabled and found by the events they want."""

import secrets
import time
from collections.abc import Collection as Ids
from collections.abc import Mapping
from typing import Any, Unpack

from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from libs.documents.deliveries import endpoint_of
from libs.documents.endpoint import Endpoint, EndpointChanges, NewEndpoint, Reason
from libs.mongo import Collection, Document, Mongo, Session
from libs.webhooks import new_secret

MOST_ENDPOINTS = 1_000
MOST_SECRETS = 5
"""That sign at once: each makes the header of every attempt longer."""

_OF_THE_RECEIVER = ("failing_since", "warned_at", "paused_until")


class TooManyEndpointsError(Exception):
    """There are as many endpoints as there may be."""


class TooManySecretsError(Exception):
    """The endpoint was rotated so often of late that no further secret may sign before one of them has expired."""


class Endpoints:
    """The `endpoints` collection; nothing of it is kept in memory, so a change counts from the next delivery on.

    Every endpoint has one of 1,000 places, which a unique index gives to one at a time: so there are never more.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._collection: Collection = mongo.collection("endpoints")

    async def ensure_indexes(self) -> None:
        """Makes the index of places, and one to find by event those that are enabled."""
        await self._collection.create_indexes(
            [
                IndexModel([("place", 1)], name="place", unique=True),
                IndexModel([("events", 1)], name="wanted", partialFilterExpression={"enabled": True}),
            ]
        )

    async def create(self, new: NewEndpoint) -> Endpoint:
        """Stores an endpoint with its first secret.

        Raises:
            TooManyEndpointsError: there is no place left.
        """
        # Like a UUID of version 7: its order is about that of creation.
        endpoint_id = f"ep_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
        values = {
            **_set(_values(new)),
            **_ability(enabled=new.enabled),
            "secrets": [_new_secret()],
            "failing_since": None,
            "warned_at": None,
            "created_at": "$$NOW",
            "updated_at": "$$NOW",
        }
        while True:
            place = secrets.choice(await self._free_places())
            try:
                document = await self._collection.find_one_and_update(
                    {"_id": endpoint_id},
                    [{"$set": {**values, "place": place}}],
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
            except DuplicateKeyError:  # another has taken the place
                continue
            return Endpoint.of(document)

    async def _free_places(self) -> list[int]:
        taken = await self._collection.find({}, {"_id": 0, "place": 1}, hint="place").to_list(None)
        free = set(range(MOST_ENDPOINTS)).difference(document["place"] for document in taken)
        if not free:
            raise TooManyEndpointsError(f"there are {MOST_ENDPOINTS:,} endpoints already")
        return list(free)

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint, or None when there is none of that id."""
        document = await self._collection.find_one({"_id": endpoint_id})
        return Endpoint.of(document) if document else None

    async def of(self, endpoint_ids: Ids[str]) -> dict[str, Endpoint]:
        """Those of `endpoint_ids` that there are, by id."""
        found = await self._collection.find({"_id": {"$in": list(endpoint_ids)}}).to_list(None)
        return {document["_id"]: Endpoint.of(document) for document in found}

    async def page(self, limit: int, *, behind: str | None = None) -> list[Endpoint]:
        """Up to `limit` endpoints, the newest first; `behind` is the id of the last one of the page before."""
        wanted = {"_id": {"$lt": behind}} if behind is not None else {}
        found = await self._collection.find(wanted, sort=[("_id", -1)], limit=limit).to_list(None)
        return [Endpoint.of(document) for document in found]

    async def wanting(self, event: str, session: Session | None = None) -> list[Endpoint]:
        """The enabled endpoints that want `event`, in no order."""
        named: list[Any] = [event, []] if event.startswith("request.") else [event]
        wanted = {"enabled": True, "events": {"$in": named}}
        return [
            Endpoint.of(document) for document in await self._collection.find(wanted, session=session).to_list(None)
        ]

    async def update(self, endpoint_id: str, **changes: Unpack[EndpointChanges]) -> Endpoint | None:
        """Changes what is given; None when there is no such endpoint.

        One that is enabled again, or gets another URL, begins anew: it has not failed yet, nor asked for time.
        """
        values: Document = _set({name: value for name, value in changes.items() if name != "enabled"})
        if "url" in changes:
            values["host"] = {"$literal": endpoint_of(changes["url"])}
            same = {"$eq": ["$url", values["url"]]}
            values |= {name: {"$cond": [same, f"${name}", None]} for name in _OF_THE_RECEIVER}
        if "enabled" in changes:
            values |= _ability(enabled=changes["enabled"])
            if changes["enabled"]:
                values |= {
                    name: {"$cond": ["$enabled", values.get(name, f"${name}"), None]} for name in _OF_THE_RECEIVER
                }
        return await self._change({"_id": endpoint_id}, {**values, "updated_at": "$$NOW"})

    async def rotate(self, endpoint_id: str, *, overlap_seconds: float) -> Endpoint | None:
        """Gives it a new secret; those before sign beside it for `overlap_seconds`. None: there is no such endpoint.

        With 0 they are forgotten, which is for a secret that has leaked.

        Raises:
            TooManySecretsError: too many sign already, and are to go on.
        """
        if not overlap_seconds:
            return await self._change({"_id": endpoint_id}, {"secrets": [_new_secret()], "updated_at": "$$NOW"})
        signing = {
            "$filter": {
                "input": "$secrets",
                "cond": {"$or": [{"$eq": ["$$this.expires_at", None]}, {"$gt": ["$$this.expires_at", "$$NOW"]}]},
            }
        }
        end = {"$add": ["$$NOW", round(overlap_seconds * 1000)]}
        sooner = {"$min": [{"$ifNull": ["$$this.expires_at", end]}, end]}
        ending = {"$map": {"input": signing, "in": {"$mergeObjects": ["$$this", {"expires_at": sooner}]}}}
        changed = await self._change(
            {"_id": endpoint_id, "$expr": {"$lt": [{"$size": signing}, MOST_SECRETS]}},
            {"secrets": {"$concatArrays": [[_new_secret()], ending]}, "updated_at": "$$NOW"},
        )
        if changed is None and await self.get(endpoint_id) is not None:
            raise TooManySecretsError(f"{MOST_SECRETS} secrets sign already")
        return changed

    async def delete(self, endpoint_id: str) -> bool:
        """Removes it with its secrets; false when there is no such endpoint."""
        return (await self._collection.delete_one({"_id": endpoint_id})).deleted_count == 1

    async def disable(
        self,
        endpoint_id: str,
        reason: Reason,
        *,
        failing_seconds: float | None = None,
        session: Session | None = None,
    ) -> Endpoint | None:
        """Disables it; None when it is not there or not enabled, so that only one caller tells of it.

        With `failing_seconds` only if it has done nothing but fail for so long, by the server's clock.
        """
        wanted = {"_id": endpoint_id, "enabled": True, **_failing_for(failing_seconds)}
        values = {**_ability(enabled=False, reason=reason), "updated_at": "$$NOW"}
        return await self._change(wanted, values, session)

    async def warn(
        self, endpoint_id: str, *, failing_seconds: float, session: Session | None = None
    ) -> Endpoint | None:
        """Notes that its owner is warned; None when it has not failed for so long, or that has been told before."""
        wanted = {"_id": endpoint_id, "enabled": True, "warned_at": None, **_failing_for(failing_seconds)}
        return await self._change(wanted, {"warned_at": "$$NOW"}, session)

    async def note_failure(self, endpoint_ids: Ids[str]) -> None:
        """Notes attempts that failed: those that did not fail before are failing from now on."""
        await self._note(endpoint_ids, {"failing_since": None}, {"failing_since": "$$NOW"})

    async def note_success(self, endpoint_ids: Ids[str]) -> None:
        """Notes attempts that succeeded: whatever failed before is forgotten."""
        await self._note(endpoint_ids, {"failing_since": {"$ne": None}}, {"failing_since": None, "warned_at": None})

    async def _note(self, endpoint_ids: Ids[str], wanted: Document, values: Document) -> None:
        # An update that changes nothing would wait for a majority all the same, and hardly ever is there one to make.
        wanted = {"_id": {"$in": list(endpoint_ids)}, **wanted}
        if await self._collection.find_one(wanted, {"_id": 1}) is not None:
            await self._collection.update_many(wanted, [{"$set": values}])

    async def _change(self, wanted: Document, values: Document, session: Session | None = None) -> Endpoint | None:
        document = await self._collection.find_one_and_update(
            wanted, [{"$set": values}], return_document=ReturnDocument.AFTER, session=session
        )
        return Endpoint.of(document) if document else None


def _values(new: NewEndpoint) -> Document:
    return {
        "url": new.url,
        "host": endpoint_of(new.url),
        "events": list(new.events),
        "description": new.description,
        "headers": dict(new.headers),
        "rate_limit": new.rate_limit,
    }


def _set(values: Mapping[str, Any]) -> Document:
    """For a pipeline, in which text that begins with a dollar sign would be a path."""
    return {name: {"$literal": value} for name, value in values.items()}


def _ability(*, enabled: bool, reason: Reason = "by_owner") -> Document:
    """An endpoint that is disabled stays so for the reason it has."""
    disabled = None if enabled else {"$ifNull": ["$disabled", {"at": "$$NOW", "reason": reason}]}
    return {"enabled": enabled, "disabled": disabled}


def _failing_for(seconds: float | None) -> Document:
    if seconds is None:
        return {}
    since = {"$add": ["$failing_since", round(seconds * 1000)]}
    return {"failing_since": {"$ne": None}, "$expr": {"$lte": [since, "$$NOW"]}}


def _new_secret() -> Document:
    return {"key": {"$literal": new_secret()}, "created_at": "$$NOW", "expires_at": None}
