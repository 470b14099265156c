"""Creates in HubSpot what our rules write: group, properties, custom events, one call each, and nothing else ever.

One property a call, because then every answer is about that property: taken, there already, or refused. What is there
is compared and never changed, so that set-up may be killed, repeated, or run twice at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from integration.config import ConnectionConfig
from integration.connectors.client import Reply
from integration.connectors.crm import hubspot_event_definitions
from integration.connectors.crm.hubspot import HubSpot
from integration.connectors.crm.hubspot_check import definitions, unexpected, unlisted
from integration.connectors.crm.hubspot_definitions import (
    GROUP,
    GROUP_LABEL,
    KINDS,
    MOST_UNIQUE,
    all_there,
    definition,
    differences,
    judged,
    words,
)
from integration.connectors.crm.hubspot_errors import problem
from integration.connectors.crm.hubspot_event_definitions import EVENTS
from integration.connectors.crm.hubspot_scopes import CREATES, DEFINE, missing
from integration.errors import CoursewireError, Reason, UnknownOutcome
from integration.model.accounts import ACCOUNT
from integration.model.activities import ActivityKind
from integration.model.contacts import CONTACT
from integration.ports import Finding, GrantStore, Plan, Step, Taken, Wanted

_AGAIN: Final = "run `coursewire check --apply` again; what is there already stays as it is"


class Setup:
    """The set-up of one HubSpot account."""

    def __init__(self, config: ConnectionConfig, grants: Callable[[], GrantStore] | None = None) -> None:
        """Raises ConfigError where no credentials are named, or not all."""
        self._crm = HubSpot(config, grants=grants)
        self._writes_events = config.options.activity == "custom_event"

    def plan(self, wanted: Sequence[Wanted]) -> Plan:
        """Compare what is wanted with what is there, by at most two reads a kind, and one of events; raises nothing.

        Companies come last: a permission for them that is missing keeps nothing else from being created.
        """
        of_contacts = self._properties(CONTACT, [one for one in wanted if one.of == CONTACT])
        of_companies = [one for one in wanted if one.of == ACCOUNT]
        then = self._properties(ACCOUNT, of_companies) if of_companies else Plan((), ())
        return Plan(
            of_contacts.steps + self._events() + then.steps,
            of_contacts.findings + then.findings,
            of_contacts.there | then.there,
        )

    def _events(self) -> tuple[Step, ...]:
        if not self._writes_events:
            return ()
        try:
            found = hubspot_event_definitions.read(self._crm.call)
        except CoursewireError:
            return ()  # `check` says why they cannot be read
        missing_ones = [kind for kind in EVENTS if kind not in found.names]
        return tuple(Step(f"the custom event {EVENTS[kind][0]}", event=kind) for kind in missing_ones)

    def _properties(self, of: str, wanted: Sequence[Wanted]) -> Plan:
        """Return the part of the plan that is about properties of one kind of record.

        Without room for all that is missing none is planned. Source: HubSpot docs, properties and limits.
        """
        try:
            known = definitions(self._crm.ask(f"{KINDS[of].operations}.list").body)
        except CoursewireError as error:
            return Plan((), (unlisted(error, of),))
        if strange := (*unexpected(known, of),):
            return Plan((), strange)
        # An enumeration is for the customer to make: only they know its options.
        lacking = [one for one in wanted if one.name not in known and one.kind != "enumeration"]
        said = {one: [*judged(one, known.get(one.name))] for one in wanted if one not in lacking}
        there = frozenset(one for one, findings in said.items() if all(each.ok for each in findings))
        found = tuple(one for findings in said.values() for one in findings)
        if wanted and len(there) == len(wanted):
            found += (all_there(len(wanted), of),)
        if not lacking:
            return Plan((), found, there)
        crowded = (*self._room(of, len(lacking)), *_unique_room(lacking, known))
        if crowded:
            return Plan((), found + crowded, there)
        steps = [Step(words(one), one, of=of) for one in lacking]
        if not any(one.get("groupName") == GROUP for one in known.values()):
            whose = "" if of == CONTACT else f" of {KINDS[of].several}"
            steps.insert(0, Step(f"the group {GROUP}{whose}", of=of))
        return Plan(tuple(steps), found, there)

    def install(self, steps: Sequence[Step]) -> Iterator[Taken]:
        """Take one step after the other; ends after one that failed for a reason which the next would meet too.

        Source: HubSpot docs, properties (201; 409 where the name is taken, its body is not described).
        """
        for step in steps:
            try:
                reply = self._post(step)
            except CoursewireError as error:
                if step.event and isinstance(error, UnknownOutcome) and self._is_defined(step.event):
                    yield Taken(False, Finding(True, f"{step.what} is there"))
                    continue
                found = self._looked_for(step.wanted) if isinstance(error, UnknownOutcome) else None
                if not (step.wanted and found):
                    yield _failed(step, error)
                    return
                yield _judged(step, step.wanted, found)
                continue
            taken = _created(step) if reply.ok else self._compared(step, reply)
            yield taken
            if not (taken.finding.ok or step.wanted or step.event):
                return  # without the group no property can be created

    def _post(self, step: Step) -> Reply:
        if step.event:
            body = hubspot_event_definitions.definition(step.event)
            return self._crm.ask("custom_events.definition_create", "POST", body)
        if step.wanted is None:
            body = {"name": GROUP, "label": GROUP_LABEL, "displayOrder": -1}
            return self._crm.ask(f"{KINDS[step.of].operations}.group_create", "POST", body)
        return self._crm.ask(f"{KINDS[step.of].operations}.create", "POST", definition(step.wanted))

    def _compared(self, step: Step, refused: Reply) -> Taken:
        """Return what a refusal means: the name is taken, by what we want or by something else, or it is refused."""
        if step.event:
            return self._event_refused(step, step.event, refused)
        if refused.status != HTTPStatus.CONFLICT:
            return _refused(step, refused)
        if step.wanted is None:
            return Taken(False, Finding(True, f"{step.what} is there"))
        try:
            found = self._find(step.wanted)
        except CoursewireError as error:
            return _failed(step, error)
        if found:
            return _judged(step, step.wanted, found)
        what = f"HubSpot refuses to create {step.wanted.name}: the name is taken, by a property that is archived"
        return Taken(False, Finding(False, what, f"restore it in HubSpot, or delete it there for good; then {_AGAIN}"))

    def _event_refused(self, step: Step, kind: ActivityKind, refused: Reply) -> Taken:
        if self._is_defined(kind):
            return Taken(False, Finding(True, f"{step.what} is there"))
        code = problem(refused.body, Reason.INVALID_VALUE).detail
        advice = (
            f"see the number of definitions that the account may have. A name that was deleted is never free again: "
            f"then write activities as notes, options: {{activity: note}}. {code} ({refused.status})"
        )
        return Taken(False, Finding(False, f"HubSpot refuses to create {step.what}", advice))

    def _is_defined(self, kind: ActivityKind) -> bool:
        try:
            return kind in hubspot_event_definitions.read(self._crm.call).names
        except CoursewireError:
            return False

    def _looked_for(self, wanted: Wanted | None) -> Mapping[str, Any] | None:
        """Return the property whose creation brought no answer, None where it is not known to be there."""
        try:
            return self._find(wanted) if wanted else None
        except CoursewireError:
            return None

    def _find(self, wanted: Wanted) -> Mapping[str, Any] | None:
        """Return the definition of a property, None where HubSpot shows none of this name; raises as connectors do."""
        reply = self._crm.ask(f"{KINDS[wanted.of].operations}.get", name=wanted.name)
        return reply.body if reply.ok and isinstance(reply.body, dict) else None

    def _room(self, of: str, needed: int) -> Iterator[Finding]:
        """Yield that there is no room for so many more properties; nothing where HubSpot does not say."""
        try:
            body = self._crm.ask("limits.custom_properties").body
        except CoursewireError:
            return
        listed = body.get("byObjectType") if isinstance(body, dict) else None
        for one in listed if isinstance(listed, list) else ():
            if not isinstance(one, dict) or one.get("objectTypeId") != KINDS[of].type_id:
                continue
            limit, usage = one.get("limit"), one.get("usage")
            if isinstance(limit, int) and isinstance(usage, int) and limit - usage < needed:
                left = max(limit - usage, 0)
                whose = KINDS[of].several
                yield Finding(
                    False,
                    f"HubSpot has room for {left} more custom properties of {whose}, and {needed} are missing",
                    "none of them was created; delete some that nobody uses, or leave some out of your rules",
                )


def _unique_room(lacking: Sequence[Wanted], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    used = sum(bool(one.get("hasUniqueValue")) and not one.get("hubspotDefined") for one in known.values())
    needed = [one.name for one in lacking if one.unique]
    if needed and used + len(needed) > MOST_UNIQUE:
        yield Finding(
            False,
            f"{used} properties of contacts hold unique values, and HubSpot allows {MOST_UNIQUE}: "
            f"no room for {', '.join(needed)}",
            "none was created; delete one of them that nobody uses",
        )


def _created(step: Step) -> Taken:
    return Taken(True, Finding(True, f"created {step.what}"))


def _judged(step: Step, wanted: Wanted, found: Mapping[str, Any]) -> Taken:
    """Return what it means that the property was there when it should be created."""
    wrong = [one for one in differences(wanted, found) if not one.ok]
    return Taken(False, wrong[0] if wrong else Finding(True, f"{step.what} is there"))


def _refused(step: Step, reply: Reply) -> Taken:
    code = problem(reply.body, Reason.INVALID_VALUE).detail
    advice = f"create it by hand, or leave it out of your field rules. {code} ({reply.status})"
    return Taken(False, Finding(False, f"HubSpot refuses to create {step.what}", advice))


def _failed(step: Step, error: CoursewireError) -> Taken:
    lacking = [*missing(DEFINE if step.event else CREATES[step.of], error)]
    advice = f"{_AGAIN}. {error.detail} ({error.reason})"
    return Taken(False, lacking[0] if lacking else Finding(False, f"{step.what} was not created", advice))
