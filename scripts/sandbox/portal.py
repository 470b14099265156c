"""The portal: HubSpot's strict rules for reading and writing contacts, over the records of `contacts`."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.sandbox.answers import InvalidValue, Refusal, invalid_values, not_found, now_ms
from scripts.sandbox.contacts import FIRST_ID, Contact, Contacts
from scripts.sandbox.deals import Deals
from scripts.sandbox.happenings import Announcer
from scripts.sandbox.inputs import (
    batch_inputs,
    normal_id,
    refuse_duplicates,
    required_text,
    written_properties,
)
from scripts.sandbox.options import PortalOptions
from scripts.sandbox.properties import Property, default_properties, lms_properties
from scripts.sandbox.schema import Schema
from scripts.sandbox.timeline import Timeline

__all__ = ["Portal"]

PORTAL_ID = 4242
Document = dict[str, Any]


@dataclass(slots=True)
class Change:
    """One input that passed every rule, ready to be applied."""

    contact: Contact | None
    values: dict[str, str]
    shown: Iterable[str]
    trace_id: str | None


class Claims:
    """E-mails and unique values the earlier inputs of the same batch are about to take."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], object] = {}

    def holder(self, name: str, value: str) -> object | None:
        """Who in this batch takes the value, if anyone."""
        return self._taken.get((name, value))

    def take(self, name: str, value: str, holder: object) -> None:
        """Note that `holder` takes the value."""
        self._taken[name, value] = holder


class Portal:
    """Contacts, properties and rules of one HubSpot account, in memory."""

    def __init__(
        self,
        properties: Iterable[Property] | None = None,
        options: PortalOptions | None = None,
        *,
        first_id: int = FIRST_ID,
    ) -> None:
        """`first_id` is the number of the first record."""
        self.schema = Schema.of(properties or [*default_properties(), *lms_properties()])
        self.options = options or PortalOptions()
        self.announcer = Announcer()
        self.timeline = Timeline(PORTAL_ID)
        self._random, self._first_id = random.Random(4242), first_id
        self.clear()

    def clear(self) -> None:
        """Forget every contact and what is on its timeline."""
        self.timeline.clear()
        self.deals = Deals(self.announcer)
        self.contacts = Contacts(self.schema.exclusive - {"email"}, self.announcer, self._first_id)

    def add_property(self, asked: Document) -> Property:
        """Create a property as the API does."""
        made = self.schema.add(asked, most=self.options.custom_properties)
        if made.unique:
            self.contacts.index(made.name)
        return made

    def archive_property(self, name: str) -> None:
        """Put a property and its values in the bin, which keeps the name taken."""
        self.schema.archive(name)
        self.contacts.forget_property(name)

    def remove_property(self, name: str) -> None:
        """Delete a property and its values, as an admin does behind the integration's back."""
        self.schema.remove(name)
        self.contacts.forget_property(name)

    # -- reading

    def find(self, key: str | None, value: str) -> Contact | None:
        """The record behind an id, an e-mail or a unique value; ids of merged records are followed."""
        if key is None or key == "hs_object_id":
            return self.contacts.following(value)
        if key == "email":
            return self.contacts.by_email(value.strip().lower(), secondary=self.options.secondary_emails_resolve)
        self._require_unique(key)
        return self.contacts.by_unique(key, value)

    def get(self, key: str | None, value: str) -> Contact:
        """As `find`, refused with 404 when there is none."""
        found = self.find(key, value)
        if found is None:
            raise not_found([value])
        return found

    def batch_read(self, body: Document) -> tuple[list[Document], list[Document]]:
        """Answer batch/read: the records found, and one error naming all ids that were not."""
        key = body.get("idProperty")
        inputs = batch_inputs(body)
        ids = [required_text(one.get("id"), "id") for one in inputs]
        refuse_duplicates((key, i) for i in ids)
        found: dict[str, Contact] = {}
        missing: list[str] = []
        for record_id in ids:
            if key is None and not self.options.merged_ids_in_batch_read:
                contact = self.contacts.by_id(record_id)
            else:
                contact = self.find(key, record_id)
            if contact is None:
                missing.append(record_id)
            else:
                found[contact.id] = contact
        names, history = body.get("properties"), body.get("propertiesWithHistory") or ()
        results = self._shuffled([c.document(names, history) for c in found.values()])
        if not missing:
            return results, []
        lost = not_found(missing).body()
        del lost["correlationId"]
        return results, [lost]

    # -- writing

    def create(self, body: Document, version: str, call: int) -> Document:
        """Answer the creation of a single contact."""
        values = self._checked(None, written_properties(body), Claims(), version)
        return self._applied(Change(None, values, values, None), call)

    def update(self, contact: Contact, body: Document, version: str, call: int) -> Document:
        """Answer the update of a single contact."""
        values = self._checked(contact, written_properties(body), Claims(), version)
        return self._applied(Change(contact, values, values, None), call)

    def batch_create(self, body: Document, version: str, call: int) -> tuple[list[Document], list[Document]]:
        """Answer batch/create."""
        return self._batch(batch_inputs(body), call, lambda one, claims: self._creation(one, claims, version))

    def batch_update(self, body: Document, version: str, call: int) -> tuple[list[Document], list[Document]]:
        """Answer batch/update: record ids only, and ids of merged-away records vanish without a word."""
        inputs = batch_inputs(body)
        for one in inputs:
            if one.get("idProperty") is not None:
                name = one["idProperty"]
                raise Refusal(400, "VALIDATION_ERROR", f"Unable to perform update by 0-1 property {name}")
        refuse_duplicates((None, required_text(one.get("id"), "id")) for one in inputs)
        inputs = [one for one in inputs if one["id"].isdigit() and not self.contacts.merged_away(one["id"])]
        return self._batch(inputs, call, lambda one, claims: self._edit(one, claims, version))

    def batch_upsert(self, body: Document, version: str, call: int) -> tuple[list[Document], list[Document]]:
        """Answer batch/upsert: each input names its own unique key."""
        inputs = batch_inputs(body)
        for one in inputs:
            self._require_unique(required_text(one.get("idProperty"), "idProperty"))
        refuse_duplicates((one["idProperty"], required_text(one.get("id"), "id")) for one in inputs)
        return self._batch(inputs, call, lambda one, claims: self._upsertion(one, claims, version))

    def seed(self, known: Iterable[Mapping[str, str]]) -> list[str]:
        """Add contacts as if they had always been there; read-only properties may be given."""
        ids: list[str] = []
        for one in known:
            given = {k: v.lower() for k, v in one.items() if k == "hs_additional_emails"}
            values = self._checked(None, {k: v for k, v in one.items() if k not in given}, Claims(), "seed")
            contact = self.contacts.add(now_ms(), source=None)
            self.contacts.write(contact, {**values, **given}, contact.created_ms, 0, source=None)
            ids.append(contact.id)
        return ids

    def edit(self, contact: Contact, values: Mapping[str, str]) -> None:
        """Change a contact as a person in the CRM does; lifecycle stages may go back."""
        checked = self._checked(contact, values, Claims(), "edit")
        self.contacts.write(contact, checked, now_ms(), 0, source="CRM_UI")

    def merge(self, primary_id: str, other_id: str) -> Contact:
        """Merge two records into a new one."""
        primary, other = self.get(None, primary_id), self.get(None, other_id)
        if primary is other:
            raise Refusal(400, "VALIDATION_ERROR", "A contact can not be merged with itself.")
        return self.contacts.merge(primary, other, now_ms(), keeps_primary_id=self.options.merge_keeps_primary_id)

    def restore(self, record_id: str) -> Contact:
        """Take a record out of the bin; refused where somebody has its e-mail or a unique value by now."""
        contact = self.contacts.in_bin(record_id)
        if contact is None:
            raise not_found([record_id])
        self._check_conflicts(contact, dict(contact.properties), Claims(), contact)
        self.contacts.restore(contact, now_ms())
        return contact

    # -- one input of a batch

    def _creation(self, one: Document, claims: Claims, version: str) -> Change:
        values = self._checked(None, written_properties(one), claims, version)
        return Change(None, values, values, one.get("objectWriteTraceId"))

    def _edit(self, one: Document, claims: Claims, version: str) -> Change:
        contact = self.contacts.by_id(one["id"])
        if contact is None:
            raise not_found([one["id"]])
        values = self._checked(contact, written_properties(one), claims, version)
        return Change(contact, values, values, one.get("objectWriteTraceId"))

    def _upsertion(self, one: Document, claims: Claims, version: str) -> Change:
        key, asked = one["idProperty"], written_properties(one)
        contact = self.find(key, one["id"])
        if key == "email" and self.options.email_upsert_needs_email and not asked.get("email"):
            raise Refusal(400, "VALIDATION_ERROR", "An upsert by email must carry email among its properties.")
        if contact is None:
            asked = {key: one["id"], **asked}
        elif key == "email" and normal_id(key, asked.get("email", "")) in contact.secondary_emails:
            asked = {k: v for k, v in asked.items() if k != "email"}
        values = self._checked(contact, asked, claims, version)
        return Change(contact, values, (*values, key), one.get("objectWriteTraceId"))

    def _batch(
        self, inputs: list[Document], call: int, check: Callable[[Document, Claims], Change]
    ) -> tuple[list[Document], list[Document]]:
        """Apply a batch: without a unique trace id on every input, one bad input rejects them all."""
        traces = {t for one in inputs if isinstance(t := one.get("objectWriteTraceId"), str) and t}
        tolerant = len(traces) == len(inputs)
        claims, good, errors = Claims(), list[Change](), list[Document]()
        for one in inputs:
            try:
                good.append(check(one, claims))
            except Refusal as refusal:
                if not tolerant:
                    raise
                errors.append(refusal.batch_error(one["objectWriteTraceId"]))
        return self._shuffled([self._applied(change, call) for change in good]), errors

    def _applied(self, change: Change, call: int) -> Document:
        now = now_ms()
        contact = change.contact or self.contacts.add(now)
        self.contacts.write(contact, change.values, now, call)
        contact.traces.append((call, change.trace_id or ""))
        answer = contact.document(dict.fromkeys(("email", *change.shown)))
        answer["new"] = change.contact is None
        if self.options.echo_trace_id and change.trace_id:
            answer["objectWriteTraceId"] = change.trace_id
        return answer

    # -- the rules

    def _require_unique(self, name: str) -> None:
        found = self.schema.properties.get(name)
        if name != "email" and (found is None or not found.unique):
            raise Refusal(
                400,
                "VALIDATION_ERROR",
                f"Unable to perform update/upsert by non-unique 0-1 property {name} in portal ID {PORTAL_ID}",
            )

    def _checked(
        self, contact: Contact | None, asked: Mapping[str, str], claims: Claims, version: str
    ) -> dict[str, str]:
        """The values as they will be stored, or the refusal that names every bad one."""
        values: dict[str, str] = {}
        bad: list[InvalidValue] = []
        for name, value in asked.items():
            outcome = self._value(name, value)
            if isinstance(outcome, InvalidValue):
                bad.append(outcome)
            else:
                values[name] = outcome
        if bad:
            raise invalid_values(bad)
        if version not in ("seed", "edit"):
            self._drop_steps_back(contact, values)
        holder: object = contact if contact is not None else object()
        self._check_conflicts(contact, values, claims, holder)
        if version == "2026-09":
            self._check_validation_rules(contact, values)
        for name in values.keys() & self.schema.exclusive:
            claims.take(name, values[name], holder)
        return values

    def _value(self, name: str, value: str) -> str | InvalidValue:
        definition = self.schema.properties.get(name)
        if definition is None:
            return InvalidValue(name, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist')
        if definition.read_only:
            return InvalidValue(name, "READ_ONLY_VALUE", f'"{name}" is a read only property; its value cannot be set.')
        return definition.accept(value) if value else value

    def _check_conflicts(self, contact: Contact | None, values: dict[str, str], claims: Claims, holder: object) -> None:
        for name in values.keys() & self.schema.exclusive:
            value = values[name]
            if not value:
                continue
            if name == "email":
                owner = self.contacts.by_email(value, secondary=True)
            else:
                owner = self.contacts.by_unique(name, value)
            claimed = claims.holder(name, value)
            if (owner is None or owner is contact) and (claimed is None or claimed is holder):
                continue
            known = owner.id if owner is not None else "0"
            if name == "email":
                raise Refusal(409, "CONFLICT", f"Contact already exists. Existing ID: {known}")
            text = f"{known} already has that value."
            raise invalid_values([InvalidValue(name, "CONFLICTING_UNIQUE_VALUE", text)])

    def _drop_steps_back(self, contact: Contact | None, values: dict[str, str]) -> None:
        for name in self.schema.forward_only & values.keys():
            current = contact.properties.get(name) if contact is not None else None
            order = self.schema.properties[name].options.index
            if current and values[name] and order(values[name]) < order(current):
                del values[name]

    def _check_validation_rules(self, contact: Contact | None, values: dict[str, str]) -> None:
        after = {**(contact.properties if contact is not None else {}), **values}
        for rule in self.options.validation_rules:
            applies = all(after.get(k) == v for k, v in rule.get("when", {}).items())
            if applies and not after.get(rule["requires"]):
                text = f"{rule['requires']} is required by a validation rule."
                raise invalid_values([InvalidValue(rule["requires"], "REQUIRED_FIELD", text)])

    def _shuffled(self, results: list[Document]) -> list[Document]:
        """Results in any order but the one asked for."""
        mixed = results[:]
        self._random.shuffle(mixed)
        if len(mixed) > 1 and mixed[0] is results[0]:
            mixed.reverse()
        return mixed
