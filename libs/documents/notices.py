"""What happens to an endpoint that is of concern to its owner, and the news of it to other endpoints."""

from collections.abc import Callable

from libs.documents.deliveries import Deliveries
from libs.documents.delivery import NewDelivery
from libs.documents.endpoint import Endpoint, Reason
from libs.documents.endpoints import Endpoints
from libs.mongo import Mongo, Session

DISABLED, FAILING = "endpoint.disabled", "endpoint.failing"


class Notices:
    """Changes an endpoint and makes the deliveries about it, both or neither.

    `news` gives the delivery about the first endpoint to the second, which lists such events.
    """

    def __init__(self, mongo: Mongo, endpoints: Endpoints, deliveries: Deliveries) -> None:
        self._mongo = mongo
        self._endpoints = endpoints
        self._deliveries = deliveries

    async def disable(
        self,
        endpoint_id: str,
        reason: Reason,
        news: Callable[[Endpoint, Endpoint], NewDelivery],
        *,
        failing_seconds: float | None = None,
    ) -> Endpoint | None:
        """Disables an endpoint; None when it is not enabled, or has not been failing for so long."""

        async def work(session: Session) -> Endpoint | None:
            changed = await self._endpoints.disable(
                endpoint_id, reason, failing_seconds=failing_seconds, session=session
            )
            return await self._told(changed, DISABLED, news, session)

        return await self._mongo.transaction(work)

    async def warn(
        self, endpoint_id: str, news: Callable[[Endpoint, Endpoint], NewDelivery], *, failing_seconds: float
    ) -> Endpoint | None:
        """Notes that an endpoint has been failing for so long; None when it has not, or that was noted before."""

        async def work(session: Session) -> Endpoint | None:
            changed = await self._endpoints.warn(endpoint_id, failing_seconds=failing_seconds, session=session)
            return await self._told(changed, FAILING, news, session)

        return await self._mongo.transaction(work)

    async def _told(
        self,
        changed: Endpoint | None,
        event: str,
        news: Callable[[Endpoint, Endpoint], NewDelivery],
        session: Session,
    ) -> Endpoint | None:
        if changed is not None:
            listeners = await self._endpoints.wanting(event, session)
            await self._deliveries.queue([news(changed, one) for one in listeners if one.id != changed.id], session)
        return changed
