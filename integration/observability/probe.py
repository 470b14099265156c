"""Health check of one container, called by its supervisor: `python -m integration.observability.probe WHAT`.

WHAT is a URL that must answer 2xx (web, Flower), or `worker` or `beat`: the one on this host must answer a
ping over the broker. Exit code 0 or 1. The application is never loaded, so this is cheap enough for every
half minute.
"""

import re
import socket
import sys
import urllib.request

SECONDS = 5.0
NODES = {"worker": "(?!celerybeat@).+@", "beat": "celerybeat@"}


class Unhealthy(Exception):
    """Why there was no good answer, in words that hold no address and no secret."""


def ask_url(url: str) -> None:
    """Return when the URL answers 2xx in time; raises OSError otherwise."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(url, timeout=SECONDS).close()


def ask_node(node: str, broker_url: str, host: str) -> None:
    """Return when this host's worker or beat answers a ping; raises Unhealthy, or what the broker raises."""
    from celery import Celery  # noqa: PLC0415 - half a second that a URL check need not spend

    app = Celery(broker=broker_url, set_as_current=False)
    app.conf.broker_transport_options = {
        "socket_timeout": SECONDS,
        "socket_connect_timeout": SECONDS,
        "max_retries": 1,
    }
    pattern = f"{NODES[node]}{re.escape(host)}$"
    answers = app.control.broadcast(
        "ping",
        reply=True,
        limit=1,
        timeout=SECONDS,
        pattern=pattern,
        matcher="pcre",  # type: ignore[arg-type]  # kombu takes the name of a matcher, the stubs do not
    )
    if not answers:
        raise Unhealthy(f"no answer from the {node} of {host}")


def ask(what: str) -> None:
    """Return when all is well; raises Unhealthy or what the network raises."""
    if what.startswith(("http://", "https://")):
        ask_url(what)
    elif what in NODES:
        from integration.settings import Settings  # noqa: PLC0415 - a URL check needs no settings

        broker_url = Settings().broker_url
        if broker_url is None:
            raise Unhealthy("COURSEWIRE_BROKER_URL is not set")
        ask_node(what, broker_url.get_secret_value(), socket.gethostname())
    else:
        raise Unhealthy(f"give a URL or one of: {', '.join(NODES)}")


def main() -> int:
    """Print what is wrong, if anything, and return the exit code."""
    try:
        ask(" ".join(sys.argv[1:]))
    except Unhealthy as error:
        sys.stderr.write(f"unhealthy: {error}\n")
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the answer is "unhealthy"
        sys.stderr.write(f"unhealthy: {type(error).__name__}\n")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
