"""HR in a test: what it says of employees, put into the inbox as files and SCIM put it there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine

from integration.config import Config
from integration.model.employees import Employment
from integration.model.events import Learner
from integration.pipeline import Pipeline, Recorded
from integration.storage import employments, inbox
from integration.told import Listener, Told
from tests.db.conftest import CONFIG, T0

ROUTES = [
    {"from": name, "to": "crm", "flows": {"employment": "realtime"}, "unknown_person": "create"}
    for name in ("hr", "payroll")
]
"""Two HR systems lead to the CRM."""


def with_hr(config: dict[str, Any] = CONFIG) -> Config:
    """Return a configuration that has two HR systems as well."""
    secrets = {"secrets": [{"env": "TEST_SECRET"}]}
    more = {name: {"system": "standard", "webhook": secrets} for name in ("hr", "payroll")}
    return Config.model_validate(
        {**config, "connections": {**config["connections"], **more}, "routes": [*config["routes"], *ROUTES]}
    )


def employee(employee_id: str | None = "E-7", email: str | None = "ada@example.com", **said: Any) -> Employment:
    """Return what HR says of one employee; `at` is minutes after T0."""
    minutes, name = said.pop("at", 0), said.pop("name", None)
    learner = Learner(employee_id=employee_id, email=email, full_name=name)
    return Employment(occurred_at=T0 + timedelta(minutes=minutes), learner=learner, **said)


@dataclass(frozen=True)
class Staff:
    """An installation with HR: says words, and looks at what became of them."""

    engine: Engine
    pipeline: Pipeline

    @classmethod
    def of(cls, pipeline: Pipeline, config: Config | None = None) -> "Staff":
        """Return a pipeline that hears HR as well."""
        inbound = {**pipeline.inbound, "hr": Listener(None), "payroll": Listener(None)}
        return cls(pipeline.engine, replace(pipeline, config=config or with_hr(), inbound=inbound))

    def say(self, *said: Employment, connection: str = "hr", origin: str = "live") -> Recorded:
        """Let HR say this, in one batch."""
        return self.pipeline.sync("employee", self.put(said, connection, origin))

    def put(self, said: Sequence[Employment], connection: str = "hr", origin: str = "live") -> list[int]:
        """Put words into the inbox."""
        told = [Told(employment=one).received(uuid4().hex) for one in said]
        with self.engine.begin() as db:
            return inbox.tell(db, connection, origin, told, self.pipeline.ring, f"req_{uuid4().hex[:8]}")

    def kept(self, person_id: int) -> dict[str, tuple[datetime, str, str]]:
        """Return what is kept of a person: the word that counts of each field."""
        with self.engine.begin() as db:
            work = employments.load(db, [person_id], self.pipeline.ring).get(person_id)
        return {name: (at, value, by) for name, (at, value, by) in work.words.items()} if work else {}
