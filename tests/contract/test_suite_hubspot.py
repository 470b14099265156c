"""The suite's stages of HubSpot: signed batches of webhooks, and its contacts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time
from typing import Any

import orjson

from scripts.sandbox.hubspot import HubSpotSandbox
from scripts.sandbox.webhooks import sign
from tests.contract.called_promises import TOKEN
from tests.contract.inbound_promises import TOKEN as SECRET
from tests.contract.inbound_promises import URL
from tests.contract.quiet import MARK
from tests.contract.suite import ContactPromises, Crm, Delivery, InboundPromises, Sender
from tests.contract.wire import Said


class Subscription(Sender):
    """One app's webhooks."""

    system = "hubspot"
    kind_at = "subscriptionType"

    def connection(self) -> dict[str, Any]:
        """The client secret, and the address that is signed."""
        return {
            "credentials": {"token": {"env": "TEST_SUITE_TOKEN"}},
            "webhook": {"secrets": [{"env": "TEST_SUITE_SECRET"}], "public_url": URL},
            "options": {"role_property": "lms_role"},
        }

    def events(self) -> Sequence[Any]:
        """A batch of two, and one that changes a role."""
        about = {"portalId": 4242, "appId": 1, "subscriptionId": 25, "attemptNumber": 0, "objectId": 501}
        changed = about | {"subscriptionType": "contact.propertyChange", "changeSource": "CRM_UI", "sourceId": "u"}
        who = changed | {"propertyName": "jobtitle", "propertyValue": f"{MARK}@example.com"}
        role = changed | {"propertyName": "lms_role", "propertyValue": f"AE of {MARK}"}
        made = about | {"subscriptionType": "contact.creation", "changeSource": "CRM"}
        return [
            [who | {"eventId": 1, "occurredAt": 1790000000000}, made | {"eventId": 2, "occurredAt": 1790000000001}],
            [role | {"eventId": 3, "occurredAt": 1790000000002}],
        ]

    def delivery(self, said: Any, attempt: int = 1) -> Delivery:
        """Each attempt says which one it is."""
        events = [one | {"attemptNumber": attempt} if isinstance(one, dict) else one for one in said]
        return self._signed(orjson.dumps(events), SECRET, int((time() - 10 + attempt) * 1000))

    def forgeries(self, said: Any) -> Mapping[str, Delivery]:
        """Each part of what is signed changed alone."""
        raw, now = orjson.dumps(said), int(time() * 1000)
        genuine = self._signed(raw, SECRET, now)
        moved = {**genuine.headers, "x-hubspot-request-timestamp": str(now + 1)}
        return {
            "unsigned": Delivery(raw),
            "another secret": self._signed(raw, f"{SECRET}-not", now),
            "another body": genuine._replace(raw=raw + b" "),
            "another address": genuine._replace(url=f"{URL}/more"),
            "another time": genuine._replace(headers=moved),
            "an older version": Delivery(raw, {"x-hubspot-signature": genuine.headers["x-hubspot-signature-v3"]}),
        }

    @staticmethod
    def _signed(raw: bytes, secret: str, stamp: int) -> Delivery:
        signature = sign(secret, URL, raw, stamp)
        return Delivery(raw, {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(stamp)})


class Portal(Crm):
    """The sandbox that was written from HubSpot's documentation, as a process of its own."""

    system = "hubspot"
    key, field, nobody = "email", "jobtitle", "999999999"
    token_refused = Said(401, b'{"status":"error","category":"INVALID_AUTHENTICATION","message":"expired"}')
    throttled = Said(429, b'{"status":"error","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}')
    failing = Said(503, b'{"status":"error","message":"zq7@example.com"}')

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve an empty portal without limits."""
        with HubSpotSandbox(token=TOKEN, rate=100_000) as self._sandbox:
            yield self._sandbox.url

    def add(self, email: str) -> str:
        """Let it know somebody."""
        return self._sandbox.seed([{"email": email}])[0]

    def values(self, email: str) -> list[str]:
        """What the contacts with an e-mail hold."""
        return [
            str(one["properties"].get(self.field) or "")
            for one in self._sandbox.contacts()
            if one["properties"].get("email", "").lower() == email.lower()
        ]


class TestInbound(InboundPromises):
    """Webhooks."""

    stage = Subscription


class TestContacts(ContactPromises):
    """Contacts."""

    stage = Portal
