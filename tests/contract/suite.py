"""One set of promises that every connector is run through, by port; and what a registered system must be run through.

`tests/contract/test_suite_<system>.py` fills a stage for each port of the system: who sends (`Sender`), which LMS
people are enrolled in (`Lms`), which one is asked what happened (`Results`), which CRM keeps contacts (`Crm`), who
keeps files for us (`Host`). The promises themselves are the same for all, and may be neither changed nor left out
there. docs/connectors.md shows how to write one.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from typing import Any

from integration.connectors.registry import System
from tests.contract.contact_promises import ContactPromises, Crm
from tests.contract.enrollment_promises import EnrollmentPromises, Lms
from tests.contract.file_promises import FilePromises, Host
from tests.contract.inbound_promises import Delivery, InboundPromises, Sender
from tests.contract.result_promises import ResultPromises, Results

__all__ = [
    "ContactPromises",
    "Crm",
    "Delivery",
    "EnrollmentPromises",
    "FilePromises",
    "Host",
    "InboundPromises",
    "Lms",
    "ResultPromises",
    "Results",
    "Sender",
    "demanded",
    "missing",
]

_FOLDER = "tests.contract"


def demanded(system: System) -> tuple[type[Any], ...]:
    """Return the promises that a system must keep, by the ports it has."""
    ports: dict[type[Any], object] = {
        InboundPromises: system.inbound,
        ContactPromises: system.contacts,
        EnrollmentPromises: system.enrollments,
        ResultPromises: system.results,
        FilePromises: system.files,
    }
    return tuple(promises for promises, factory in ports.items() if factory is not None)


def missing(table: Sequence[System]) -> list[str]:
    """Return what is not run through the suite, a line each; nothing where every promise is demanded of everybody."""
    return [line for system in table for line in _missing_of(system)]


def _missing_of(system: System) -> list[str]:
    name = f"test_suite_{system.name}"
    if importlib.util.find_spec(f"{_FOLDER}.{name}") is None:
        return [f"{system.name}: there is no tests/contract/{name}.py"]
    module = importlib.import_module(f"{_FOLDER}.{name}")
    if hasattr(module, "pytestmark"):
        return [f"{system.name}: {name}.py is marked as a whole"]
    # What pytest collects, and nothing else.
    run: list[type[Any]] = [
        one for title, one in vars(module).items() if inspect.isclass(one) and title.startswith("Test")
    ]
    lines = []
    for promises in demanded(system):
        filled = [one for one in run if issubclass(one, promises) and one.stage.system == system.name]
        if not filled:
            lines.append(f"{system.name}: {name}.py has no Test class of {promises.__name__}")
        lines += [
            f"{system.name}: {one.__name__} leaves out {hole}" for one in filled for hole in _holes(one, promises)
        ]
    return lines


def _holes(filled: type[Any], promises: type[Any]) -> list[str]:
    """Return the promises that a class replaces or marks, and so may not keep."""
    kept = [name for name in dir(promises) if name.startswith("test_")]
    changed = [name for name in kept if getattr(filled, name, None) is not getattr(promises, name)]
    is_marked = getattr(filled, "pytestmark", None) != getattr(promises, "pytestmark", None)
    return changed + (["what its mark skips"] if is_marked or not getattr(filled, "__test__", True) else [])
