"""The custom events that activities are written as: how they are defined, which are there, and what each is called.

A portal puts its own number before a name (`pe4242_lms_course_completed`), so the whole name is read from it.
Source: HubSpot docs, define-events: names of at most 50 characters, fixed once made, never free again once deleted.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from integration.connectors.client import Reply
from integration.errors import Reason, RetryLater
from integration.model.activities import ActivityKind
from integration.ports import Finding

EVENTS: Final[Mapping[ActivityKind, tuple[str, str]]] = MappingProxyType(
    {
        "course_completed": ("lms_course_completed", "Course completed"),
        "assessment_passed": ("lms_assessment_passed", "Assessment passed"),
        "certification_issued": ("lms_certification_issued", "Certification issued"),
    }
)
"""The name of the custom event of each kind, and what a rep reads."""

PROPERTIES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "course_id": ("Course ID", "string"),
        "course_name": ("Course", "string"),
        "item_id": ("Module, assessment or certification ID", "string"),
        "item_name": ("Module, assessment or certification", "string"),
        "product": ("Product", "string"),
        "score": ("Score", "number"),
        "score_max": ("Highest possible score", "number"),
        "completion_date": ("Completion date", "string"),
        "valid_until": ("Valid until", "string"),
        "lms_source": ("LMS", "string"),
    }
)
"""What each of them says, by property: label and type. Dates are text, which no reader shifts by a time zone."""

_PAGE: Final = "100"
_MOST_PAGES: Final = 10
_WHOLE_NAME: Final = re.compile(r"pe\d+_(?P<name>[a-z][a-z0-9_]*)")


class Found(NamedTuple):
    """What is there: the whole name of each kind's event, and which of our properties it lacks, where that is said."""

    names: Mapping[str, str]
    lacking: Mapping[str, tuple[str, ...]]


def read(call: Callable[..., Reply]) -> Found:
    """Return the definitions that are there, all pages of them; raises what `call` does."""
    kinds = {name: kind for kind, (name, _) in EVENTS.items()}
    names: dict[str, str] = {}
    lacking: dict[str, tuple[str, ...]] = {}
    params = {"limit": _PAGE}
    for _ in range(_MOST_PAGES):
        body = call("custom_events.definition_list", method="GET", params=params).body
        listed = body.get("results") if isinstance(body, dict) else None
        if not isinstance(listed, list):
            raise RetryLater(Reason.MALFORMED_ANSWER, "HubSpot listed no event definitions")
        for one in listed:
            whole = _WHOLE_NAME.fullmatch(str(one.get("fullyQualifiedName"))) if isinstance(one, dict) else None
            kind = kinds.get(whole["name"]) if whole else None
            if whole and kind and not one.get("archived"):
                names[kind] = whole[0]
                lacking[kind] = _lacking(one)
        after = _after(body)
        if after is None:
            break
        params = {"limit": _PAGE, "after": after}
    return Found(names, lacking)


def definition(kind: ActivityKind) -> dict[str, Any]:
    """Return the body that creates the event of a kind."""
    name, label = EVENTS[kind]
    return {
        "name": name,
        "label": label,
        "description": "Written by Coursewire from what the learning systems say.",
        "primaryObject": "CONTACT",
        "includeDefaultProperties": False,
        "propertyDefinitions": [
            {"name": name, "label": label, "type": type_} for name, (label, type_) in PROPERTIES.items()
        ],
    }


def findings(found: Found) -> Iterator[Finding]:
    """Yield what is wrong with the definitions, or that nothing is."""
    for kind, (name, _) in EVENTS.items():
        if kind not in found.names:
            yield Finding(
                False,
                f"the custom event {name} is not defined, so no activity of its kind is written",
                "`coursewire check --apply` defines it; the activities wait until then",
            )
        elif found.lacking.get(kind):
            yield Finding(
                False,
                f"the custom event {name} lacks {', '.join(found.lacking[kind])}, so that is left out",
                "add it to the definition in HubSpot, as text; a score is a number",
            )
    if len(found.names) == len(EVENTS) and not any(found.lacking.values()):
        yield Finding(True, f"all {len(EVENTS)} custom events are defined")


def _lacking(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which of our properties a definition has not; nothing where it does not show any."""
    listed = one.get("properties")
    if not isinstance(listed, list) or not listed:
        return ()
    there = {prop.get("name") for prop in listed if isinstance(prop, dict)}
    return tuple(name for name in PROPERTIES if name not in there)


def _after(body: Any) -> str | None:
    paging = body.get("paging")
    following = paging.get("next") if isinstance(paging, dict) else None
    after = following.get("after") if isinstance(following, dict) else None
    return str(after) if after else None
