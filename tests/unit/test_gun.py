"""The load generator as a process: what it waits for has a limit, and its end says what that was."""

import socket
from collections.abc import Iterator

import pytest

from scripts.bench.gun import Gun
from scripts.bench.load import Volley
from scripts.bench.process import BenchFailed
from scripts.bench.scene import Scene
from tasks.watchdog import Watchdog

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SCENE = Scene("mute", people=1, events=2, seed=5, at=1_795_000_000.0)


@pytest.fixture
def gun() -> Iterator[Gun]:
    """One that runs."""
    with Gun(Watchdog()) as running:
        yield running


def volley(port: int) -> Volley:
    """Two requests to this port, by somebody who waits for a moment only."""
    return Volley(SCENE, port, "/webhooks/academy", SECRET, clients=2, patience=0.2)


def test_an_endpoint_that_never_answers_ends_the_volley(gun: Gun) -> None:
    """It takes every connection and says nothing: the benchmark fails with a sentence, and does not wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for _ in range(2):  # a job that failed is no hindrance to the next
            with pytest.raises(BenchFailed, match="not every request was answered in time"):
                gun.fire(volley(mute.getsockname()[1]))


def test_an_endpoint_that_is_not_there_ends_the_volley(gun: Gun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: the parent's patience ends the wait even where the load generator still tries."""
    monkeypatch.setattr("scripts.bench.gun.LOAD_SECONDS", 0.2)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        with pytest.raises(BenchFailed, match=f"ready for port {port}: not within"):
            gun.fire(volley(port))


def test_a_load_generator_that_was_killed_is_said(gun: Gun) -> None:
    """Its end is noticed, whichever side speaks next."""
    assert gun._process is not None
    gun._process.kill()
    gun._process.wait()
    with pytest.raises(BenchFailed, match="the load generator ended"):
        gun.fire(volley(1))
