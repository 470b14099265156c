"""The web role: the endpoint on uvicorn, with intake and publisher inside.

uvicorn, because one process is one process: killed, it leaves no worker behind on the port (granian does). What it
lacks, deadlines for slow clients, `integration.webhook.protocol` and the app add.
"""

from collections.abc import Mapping

import uvicorn
from starlette.types import ASGIApp

from integration.connectors import registry
from integration.enqueue import Publisher
from integration.observability import books, metrics
from integration.scim.users import Users
from integration.settings import Settings
from integration.storage.base import snapshot
from integration.webhook.app import Application, Endpoint, create_app
from integration.webhook.intake import Intake
from integration.webhook.pathways import PathwayQuestions
from integration.webhook.presence import Presence
from integration.webhook.protocol import BoundedProtocol
from integration.webhook.receive import Door
from integration.webhook.scim import ScimDoor
from tasks import memory, nights
from tasks.app import app as celery_app
from tasks.assembly import Assembly
from tasks.publish import publish
from tasks.syllabus import Syllabus, syllabus


def build(assembly: Assembly) -> Application:
    """Return the ASGI application of this process; nothing connects before the first request."""
    connections = assembly.config.connections
    doors = {
        name: Door(
            name,
            system,
            webhook.public_url if (webhook := connections[name].webhook) else None,
            registry.system_of(connections[name]).capabilities.media_types,
        )
        for name, system in assembly.inbound.items()
    }
    for name, connection in connections.items():
        often = nights.interval(connection.reconcile)
        if registry.system_of(connection).capabilities.holds_contacts and often is not None:
            metrics.RECONCILE_INTERVAL.labels(name).set(often.total_seconds())
    publisher = Publisher(lambda name, arguments: publish(celery_app, name, arguments))
    intake = Intake(assembly.database_url, publisher.ring)
    return create_app(
        Endpoint(
            doors,
            assembly.ring,
            intake,
            publisher,
            metrics=lambda: books.render(assembly.engine),
            pathways=questions(assembly),
            presence=Presence(assembly.database_url),
        ),
        {name: door for name in connections if (door := _users_of(assembly, name, publisher))},
    )


def _users_of(assembly: Assembly, name: str, publisher: Publisher) -> ScimDoor | None:
    """Return what takes the users of a connection, None where its system pushes none. Raises ConfigError."""
    connection = assembly.config.connections[name]
    tokens = registry.tokens(connection)
    if tokens is None:
        return None
    users = Users(
        name, assembly.engine, assembly.ring, lambda: assembly.keys, publisher.ring, connection.options.inactive
    )
    return ScimDoor(name, tokens, users, connection.webhook.public_url if connection.webhook else None)


def questions(assembly: Assembly) -> PathwayQuestions | None:
    """Return what answers other systems, None where the connections file names no token for them."""
    api = assembly.config.api

    def ask(role: str, connection: str | None, properties: Mapping[str, str]) -> Syllabus:
        with snapshot(assembly.engine).begin() as db:
            return syllabus(db, assembly.curriculum, role, connection, properties)

    return PathwayQuestions(api.tokens, ask) if api else None


def serve(assembly: Assembly) -> None:
    """Serve the endpoint until SIGTERM or SIGINT, then finish what is under way."""
    application = build(assembly)
    memory.settle()
    listen(application, assembly.settings)


def listen(application: ASGIApp, settings: Settings) -> None:
    """Serve an application the way the endpoint is served; the benchmark serves an empty one."""
    uvicorn.run(
        application,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=12,
        lifespan="on",
    )
