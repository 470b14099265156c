"""Pathways and role rules from rule files, with a sentence for each mistake (docs/pathways.md)."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from integration.yaml_document import Place, YamlDocument
from mappings.pathway_schema import PathwayEntry, RoleEntry
from mappings.pathways import Pathway, PathwayRules, RoleRule

PATHWAYS = "pathways"
ROLES = "roles"
KEYS = (PATHWAYS, ROLES)
"""The keys of a file under which these rules stand; such a file is for nobody in particular."""

NoCrm = Callable[[str], str | None]
"""Return why a connection has no contacts, None where it may have some."""

NoLms = Callable[[str], str | None]
"""Return why a connection has no courses, None where it may have some."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,79}")


class PathwayReader:
    """Reads the pathways and roles of one file after the other, and says what is wrong between them."""

    def __init__(self, no_crm: NoCrm, no_lms: NoLms) -> None:
        self._no_crm, self._no_lms = no_crm, no_lms
        self._pathways: dict[str, Pathway] = {}
        self._roles: dict[str, RoleRule] = {}
        self._stand: dict[tuple[str, str], str] = {}
        self._asked: list[tuple[str, YamlDocument, Place]] = []

    def read(self, document: YamlDocument, given: Mapping[str, Any]) -> list[str]:
        """Add what one file says under `pathways:` and `roles:`; return its mistakes."""
        mistakes = []
        for key, entries in given.items():
            if not isinstance(entries, dict | None):
                mistakes.append(document.sentence((key,), f"expected one entry for each of the {key}"))
                continue
            for called, entry in (entries or {}).items():
                place = (key, str(called))
                if not isinstance(called, str):
                    mistakes.append(document.sentence(place, "YAML reads no text in this name; put it in quotes"))
                    continue
                mistakes += self._name(document, place)
                mistakes += (self._pathway if key == PATHWAYS else self._role)(document, place, entry)
        return mistakes

    def rules(self) -> PathwayRules:
        """Return everything that was read, by name."""
        return PathwayRules(
            dict(sorted(self._pathways.items())), tuple(rule for _, rule in sorted(self._roles.items()))
        )

    def unknown(self) -> list[str]:
        """Return a sentence for each role rule that leads to a pathway which stands in no file."""
        known = [name for key, name in self._stand if key == PATHWAYS]
        mistakes = []
        for pathway, document, place in self._asked:
            if pathway not in known:
                near = get_close_matches(pathway, known, n=1)
                there = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
                mistakes.append(document.sentence(place, f"no pathway is called {pathway!r}; {there}"))
        return mistakes

    def _name(self, document: YamlDocument, place: tuple[str, str]) -> list[str]:
        """Take note of where a name stands; return what is wrong with it."""
        if place in self._stand:
            first = self._stand[place]
            return [document.sentence(place, f"{place[1]} is there already, at {first}")]
        self._stand[place] = f"{document.path}:{document.line_of(place)}"
        if not _NAME.fullmatch(place[1]):
            return [document.sentence(place, "it is called by letters, digits, _ and -, at most 80 of them")]
        return []

    def _pathway(self, document: YamlDocument, place: tuple[str, str], given: object) -> list[str]:
        try:
            entry = PathwayEntry.model_validate(given)
        except ValidationError as error:
            return document.sentences(error, place)
        self._pathways.setdefault(place[1], entry.pathway_called(place[1]))
        return [
            document.sentence((*place, "buckets", bucket, kind, at), f"{course}: {why}")
            for bucket, one in entry.buckets.items()
            for kind, courses in (("required", one.required), ("optional", one.optional))
            for at, course in enumerate(courses)
            if (why := self._no_lms(course.connection))
        ]

    def _role(self, document: YamlDocument, place: tuple[str, str], given: object) -> list[str]:
        if isinstance(given, dict) and isinstance(given.get("pathway"), str):
            self._asked.append((given["pathway"], document, (*place, "pathway")))
        try:
            entry = RoleEntry.model_validate(given)
        except ValidationError as error:
            return document.sentences(error, place)
        self._roles.setdefault(place[1], entry.rule_called(place[1]))
        why = self._no_crm(entry.connection) if entry.connection else None
        return [document.sentence((*place, "connection"), why)] if why else []
