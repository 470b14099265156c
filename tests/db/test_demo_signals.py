"""Ctrl-C while the demo asks Postgres: the question is called off, and the connection serves on."""

import os
import signal
from threading import Thread

import pytest
from sqlalchemy import Engine, text

from scripts.demo.signals import Ears, Stopped
from tests.processes import until

ASKING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60)'"


def _press_ctrl_c(engine: Engine) -> None:
    with engine.connect().execution_options(
        isolation_level="AUTOCOMMIT"
    ) as db:  # what is active is kept for a transaction
        until(lambda: db.scalar(text(ASKING)))
    os.kill(os.getpid(), signal.SIGINT)


def test_a_question_in_the_middle_is_called_off(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Stopped comes out, nothing complains of a connection in the middle of something, and the next answer comes."""
    pressing = Thread(target=_press_ctrl_c, args=(engine,))
    pressing.start()
    with Ears().listening(), pytest.raises(Stopped), engine.connect() as db:
        db.execute(text("SELECT pg_sleep(60)"))
    pressing.join()
    assert caplog.text == ""
    with engine.connect() as db:
        assert db.scalar(text(ASKING)) == 0
