"""The portal's webhooks: what happened is sent in signed batches until somebody says 2xx or the tries are used up.

Threads of their own send them, so no API call waits. The signer is written from the published scheme alone: it judges
the product's verifier.
"""

import base64
import hashlib
import heapq
import hmac
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
import requests

from scripts.sandbox.happenings import Happening

__all__ = ["Subscriptions", "Webhooks", "sign"]

PORTAL_ID, APP_ID = 4242, 1160452
LINGER = 0.01
"""Seconds that an event waits for others to share its request."""
TYPES = ("creation", "propertyChange", "deletion", "restore", "merge", "privacyDeletion", "associationChange")
TYPE_IDS = {"contact": "0-1", "deal": "0-3"}
DECODED = {"%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$", "%27": "'"}
DECODED |= {"%28": "(", "%29": ")", "%2A": "*", "%2C": ",", "%3B": ";"}


def sign(secret: str, url: str, body: bytes, timestamp_ms: int) -> str:
    """The `X-HubSpot-Signature-v3` of a POST of `body` to `url`."""
    for coded, plain in DECODED.items():
        url = url.replace(coded, plain)
    signed = b"POST" + url.encode() + body + str(timestamp_ms).encode()
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Who is told what, and how badly.

    `url` is called and must be on this machine; `public_url` is what is signed, as if a proxy stood in between.
    `properties` are those whose changes are told, `deal_properties` those of deals, and of `redacted` ones the value
    is hidden. `duplicates` is the chance that an event is sent twice, and of the properties in `doubled` each one is;
    every `lose_every`-th is never sent; `delay` in seconds; `shuffled` loses the order. A request that fails is sent
    again, `attempts` times in all, after growing waits. `form` "generic" writes `object.*`; `merge_payload` "primary"
    leaves the new id out, and with
    `merge_tells_ends` deletions of the merged records, and the creation of a new one, are told as well.
    `shared_event_ids`: every event has the same eventId.
    """

    url: str
    secret: str
    public_url: str = ""
    properties: tuple[str, ...] = ()
    deal_properties: tuple[str, ...] = ("dealstage",)
    types: tuple[str, ...] = TYPES
    form: Literal["classic", "generic"] = "classic"
    merge_payload: Literal["new", "primary"] = "new"
    merge_tells_ends: bool = False
    redacted: tuple[str, ...] = ()
    shared_event_ids: bool = False
    portal_id: int = PORTAL_ID
    batch: int = 100
    duplicates: float = 0.0
    doubled: tuple[str, ...] = ()
    shuffled: bool = False
    delay: float = 0.0
    lose_every: int = 0
    attempts: int = 11
    first_wait: float = 0.1
    longest_wait: float = 2.0
    timeout: float = 5.0
    concurrency: int = 4
    seed: int = 0

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> "Subscriptions":
        """Read subscriptions from JSON; an unknown name or type, or an address elsewhere, is an error."""
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in asked.items()}
        made = cls(**given)
        if set(made.types) - set(TYPES) or made.form not in ("classic", "generic"):
            raise ValueError("types or form are none of HubSpot's")
        if urlsplit(made.url).hostname not in ("127.0.0.1", "localhost"):
            raise ValueError("webhooks go to this machine only")
        return made


class Webhooks:
    """One app's webhooks, from now until `stop`."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._asked = subscriptions
        self._dice = random.Random(subscriptions.seed)
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, int, dict[str, Any]]] = []  # due, serial, attempt, event
        self._serial = self._told = self._pending = self._requests = 0
        self._outcomes: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._stopped = False
        for _ in range(subscriptions.concurrency):
            threading.Thread(target=self._work, daemon=True).start()

    def tell(self, happening: Happening) -> None:
        """Take down what happened, to be sent soon; never waits for anybody."""
        self._tell(happening)
        if happening.happened == "merge" and self._asked.merge_tells_ends:
            is_new = happening.contact_id != happening.primary_id
            for record_id in (happening.primary_id, *happening.merged_ids) if is_new else happening.merged_ids:
                self._tell(Happening("deletion", record_id, happening.at_ms, happening.source))
            if is_new:
                self._tell(Happening("creation", happening.contact_id, happening.at_ms, happening.source))

    def _tell(self, happening: Happening) -> None:
        asked = self._asked
        names = asked.properties if happening.thing == "contact" else asked.deal_properties
        unsubscribed = happening.happened == "propertyChange" and happening.property not in names
        if happening.happened not in asked.types or unsubscribed:
            return
        with self._changed:
            self._told += 1
            if asked.lose_every and self._told % asked.lose_every == 0:
                self._outcomes["lost"] += 1
                return
            event = self._event(happening)
            self._put(event, 0, asked.delay)
            doubled = happening.property in asked.doubled
            self._outcomes["doubled"] += doubled
            if self._dice.random() < asked.duplicates or doubled:
                self._outcomes["duplicates"] += 1
                self._put(event, self._dice.choice((0, 1)), asked.delay + self._dice.uniform(0, 0.2))
            self._changed.notify()

    def stop(self) -> None:
        """Send nothing more; what waits is forgotten."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def counts(self) -> dict[str, Any]:
        """How many events were `told`, and became `delivered`, `failed`, `lost`, sent twice (`duplicates`) or wait.

        An event that is sent twice is pending, and delivered or failed, twice; `doubled` were asked for by property.
        """
        with self._changed:
            became = {name: self._outcomes[name] for name in ("delivered", "failed", "lost", "duplicates", "doubled")}
            sent = {"requests": self._requests, "statuses": dict(self._statuses)}
            return {"url": self._asked.url, "told": self._told, "pending": self._pending, **became, **sent}

    def _put(self, event: dict[str, Any], attempt: int, wait: float) -> None:
        if self._asked.shuffled:
            wait += self._dice.uniform(0, 0.2)
        self._serial += 1
        self._pending += 1
        heapq.heappush(self._waiting, (time.monotonic() + LINGER + wait, self._serial, attempt, event))

    def _event(self, happening: Happening) -> dict[str, Any]:
        """The event as HubSpot writes it, without the number of the attempt."""
        asked, word = self._asked, happening.happened
        generic = asked.form == "generic" and word != "privacyDeletion"
        event: dict[str, Any] = {
            "eventId": 1 if asked.shared_event_ids else 1_000_000 + self._told,
            "subscriptionId": 20 + TYPES.index(word),
            "portalId": asked.portal_id,
            "appId": APP_ID,
            "occurredAt": happening.at_ms,
            "subscriptionType": f"{'object' if generic else happening.thing}.{word}",
            "objectId": int(happening.contact_id),
            "changeSource": happening.source,
            "sourceId": "userId:7001" if happening.source == "CRM_UI" else str(APP_ID),
        }
        if generic:
            event["objectTypeId"] = TYPE_IDS[happening.thing]
        if word == "propertyChange":
            hidden = happening.property in asked.redacted
            event["propertyName"] = happening.property
            event["propertyValue"] = "REDACTED" if hidden else happening.value
            if generic:
                event["isSensitive"] = hidden
        elif word == "merge":
            event["primaryObjectId"] = int(happening.primary_id)
            event["mergedObjectIds"] = [int(one) for one in happening.merged_ids]
            event["numberOfPropertiesMoved"] = 12
            if asked.merge_payload == "primary":
                event["objectId"] = event["primaryObjectId"]
            elif happening.contact_id != happening.primary_id:
                event["newObjectId"] = event["objectId"]
        elif word == "associationChange":
            del event["objectId"]
            event |= {"associationType": "DEAL_TO_CONTACT", "associationRemoved": happening.is_removed}
            event |= {"fromObjectId": int(happening.contact_id), "toObjectId": int(happening.other_id)}
        elif word in ("creation", "deletion"):
            event["changeFlag"] = "NEW" if word == "creation" else "DELETED"
        return event

    def _work(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while taken := self._take():
                status = self._send(session, taken)
                self._settle(taken, status)

    def _take(self) -> list[tuple[int, dict[str, Any]]]:
        """Wait for what is due and take a batch of it; nothing when it is over."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                taken: list[tuple[int, dict[str, Any]]] = []
                while self._waiting and self._waiting[0][0] <= now and len(taken) < self._asked.batch:
                    _, _, attempt, event = heapq.heappop(self._waiting)
                    taken.append((attempt, event))
                if taken:
                    self._changed.notify()  # there may be more than one request holds
                    return taken
                self._changed.wait(self._waiting[0][0] - now if self._waiting else None)
            return []

    def _send(self, session: requests.Session, taken: list[tuple[int, dict[str, Any]]]) -> int:
        asked = self._asked
        body = orjson.dumps([{**event, "attemptNumber": attempt} for attempt, event in taken])
        stamp = time.time_ns() // 1_000_000
        headers = {
            "Content-Type": "application/json",
            "X-HubSpot-Request-Timestamp": str(stamp),
            "X-HubSpot-Signature-v3": sign(asked.secret, asked.public_url or asked.url, body, stamp),
            "X-HubSpot-Signature-Version": "v1",
            "X-HubSpot-Signature": hashlib.sha256(asked.secret.encode() + body).hexdigest(),
        }
        try:
            answer = session.post(asked.url, data=body, headers=headers, timeout=asked.timeout, allow_redirects=False)
        except requests.RequestException:
            return 0
        return answer.status_code

    def _settle(self, taken: list[tuple[int, dict[str, Any]]], status: int) -> None:
        asked = self._asked
        with self._changed:
            self._requests += 1
            self._statuses[str(status)] += 1
            self._pending -= len(taken)
            if 200 <= status < 300:
                self._outcomes["delivered"] += len(taken)
                return
            for attempt, event in taken:
                if attempt + 1 >= asked.attempts:
                    self._outcomes["failed"] += 1
                else:
                    wait = min(asked.longest_wait, asked.first_wait * 2**attempt)
                    self._put(event, attempt + 1, wait * self._dice.uniform(0.5, 1.0))
            self._changed.notify()
