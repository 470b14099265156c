"""The physical limit of the endpoint: an empty route, served exactly as the web role serves its own routes.

`python -m scripts.bench.empty`, with the settings of the web role in the environment.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.assembly import settings
from tasks.web import listen

__all__: list[str] = []


async def accept(_: Request) -> Response:
    """Answer, and do nothing else."""
    return Response(status_code=202)


async def read(request: Request) -> Response:
    """Take the body in and answer as the endpoint does, with nothing in between."""
    size = len(await request.body())
    return Response(b'{"accepted":1,"duplicates":0}', 202, {"x-size": str(size)}, "application/json")


async def readyz(_: Request) -> Response:
    """Say that the process answers."""
    return Response("ok")


if __name__ == "__main__":
    routes = [
        Route("/webhooks/{connection}", accept, methods=["POST"]),
        Route("/read/{connection}", read, methods=["POST"]),
        Route("/readyz", readyz),
    ]
    listen(Starlette(routes=routes), settings())
