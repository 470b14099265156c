"""The server process of the HubSpot sandbox: uvicorn over one listening socket, on the loopback only."""

import argparse
import os
import signal
import socket
import sys
import threading

import uvicorn

from scripts.sandbox.api import Account, CuttableProtocol, create_app
from scripts.sandbox.catalogue import PRODUCTS
from scripts.sandbox.options import PortalOptions
from scripts.sandbox.portal import Portal
from scripts.sandbox.properties import default_properties, lms_properties
from scripts.sandbox.ratelimit import RateLimit

__all__ = ["serve"]


class AnnouncingServer(uvicorn.Server):
    """A server that says where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening and print the one line a caller waits for."""
        await super().startup(sockets)
        for one in sockets or ():
            sys.stdout.write(f"listening http://127.0.0.1:{one.getsockname()[1]}\n")
            sys.stdout.flush()


def serve(asked: argparse.Namespace, listener: socket.socket) -> None:
    """Serve the portal the arguments describe until the process is told to end."""
    options = PortalOptions()
    options.change(vars(asked))
    products = asked.products.split(",") if asked.products is not None else PRODUCTS
    properties = [
        *default_properties(),
        *(lms_properties(filter(None, products)) if asked.lms_properties else ()),
    ]
    account = Account(
        Portal(properties, options),
        token=asked.token,
        latency_ms=asked.latency_ms,
        limit=RateLimit(asked.rate, asked.daily, asked.retry_after),
    )
    if asked.until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    config = uvicorn.Config(
        create_app(account),
        http=CuttableProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=2048,
    )
    AnnouncingServer(config).run(sockets=[listener])


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
