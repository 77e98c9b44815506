"""Every collection of one Darkroom, over one database."""

import os
import secrets
import socket

from libs.documents.addressees import Addressees
from libs.documents.deliveries import Deliveries
from libs.documents.delivery_log import DeliveryLog
from libs.documents.endpoints import Endpoints
from libs.documents.images import Images
from libs.documents.notices import Notices
from libs.documents.outcomes import Outcomes
from libs.documents.postponed import Postponed
from libs.documents.progress import Progress
from libs.documents.requests import Requests
from libs.mongo import Mongo


class Documents:
    """The collections; `holder` names this process in its leases (default: host, process and a random part)."""

    def __init__(
        self, mongo: Mongo, *, requests_name: str = "requests", lease_seconds: float = 15.0, holder: str | None = None
    ) -> None:
        self.mongo = mongo
        holder = holder or f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"
        self.progress = Progress(mongo)
        self.images = Images(mongo, self.progress, lease_seconds=lease_seconds, holder=holder)
        self.postponed = Postponed(mongo)
        self.requests = Requests(mongo, requests_name, self.images, self.progress, loader_seconds=lease_seconds)
        self.outcomes = Outcomes(mongo, self.progress, self.requests)
        self.endpoints = Endpoints(mongo)
        self.deliveries = Deliveries(mongo, self.requests, lease_seconds=lease_seconds, holder=holder)
        self.delivery_log = DeliveryLog(mongo, self.endpoints)
        self.addressees = Addressees(mongo)
        self.notices = Notices(mongo, self.endpoints, self.deliveries)

    async def ensure_indexes(self) -> None:
        """Makes the collections and indexes that do not exist yet. Any service may do it, beside others."""
        await self.requests.ensure_indexes()
        await self.images.ensure_indexes()
        await self.endpoints.ensure_indexes()
        await self.deliveries.ensure_indexes()
        await self.delivery_log.ensure_indexes()

    async def ping(self) -> None:
        """Returns when the primary answers in time, and raises what MongoDB's driver raises otherwise."""
        await self.mongo.check_server()
