"""Builds the ingest service from its parts and runs it."""

from contextlib import AsyncExitStack

from aiohttp import web

from libs.documents import connected
from libs.egress import EgressPolicy
from libs.runtime.errors import FatalError
from libs.runtime.health import Health, health_routes
from libs.runtime.lifecycle import Process
from libs.storage import LocalStorage, StorageError, open_storage
from services.ingest.context import Context
from services.ingest.docs import docs_routes
from services.ingest.draining import DRAINING, Draining
from services.ingest.images import keep_for_ever
from services.ingest.observation import observe
from services.ingest.openapi import document
from services.ingest.problems import problems
from services.ingest.readiness import watch_database
from services.ingest.routes import operations
from services.ingest.server import serving
from services.ingest.settings import IngestSettings


def build(context: Context, health: Health) -> web.Application:
    """The web application: the API, its documentation and the health routes."""
    draining = Draining()
    app = web.Application(middlewares=[observe, problems, draining.middleware])
    app.on_response_prepare.append(keep_for_ever)
    app[DRAINING] = draining
    table = operations(context)
    app.add_routes(operation.route() for operation in table)
    app.add_routes(docs_routes(document(table)))
    app.add_routes(health_routes(health))
    return app


async def serve(settings: IngestSettings, process: Process, *, storage: LocalStorage | None = None) -> None:
    """Runs ingest until `process.stop`; what is given replaces the part built from the settings.

    It answers health checks while it waits for MongoDB. After the stop it accepts no connection, and uploads that are
    under way get `shutdown_seconds` to end.
    """
    health = Health()
    context = Context(
        settings=settings,
        policy=EgressPolicy(settings.egress_allow),
        storage=storage or await _storage(settings),
    )
    app = build(context, health)
    async with AsyncExitStack() as server:
        serves = serving(app, settings.host, settings.port, shutdown_seconds=settings.shutdown_seconds)
        port = await server.enter_async_context(serves)
        context.public_url = settings.base_url(port)
        async with connected(settings, "ingest", stop=process.stop, health=health) as documents:
            context.database = documents
            health.set_ready()
            process.announce(settings.local_url(port))
            try:
                await watch_database(documents, health, process.stop)
            finally:
                await server.aclose()  # before the connection: uploads under way still need it


async def _storage(settings: IngestSettings) -> LocalStorage:
    try:
        storage = open_storage(settings.storage)
        await storage.prepare()
    except (ValueError, StorageError) as error:
        raise FatalError(f"DARKROOM_STORAGE: {error}") from error
    return storage
