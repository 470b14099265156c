"""A CRM whose webhooks come twice, in no order and not all of them, while people are at it and a worker is killed."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from integration.errors import Reason
from scripts.sandbox.catalogue import COURSES
from scripts.sandbox.deliveries import Learner, compose
from scripts.sandbox.webhooks import sign
from tests.faults.installation import settled
from tests.faults.wired import Wired, wired

CLIENT_SECRET = "5f0c8a52-77b1-4f0d-8f0e-fault-tests"
PUBLIC_URL = "https://sync.example.org/webhooks/crm"
SHOWN = ("courses_completed_count", "last_course_completed")
BODY = b'[{"subscriptionType":"contact.creation","objectId":7,"occurredAt":1790000000000,"eventId":1,"portalId":4242}]'


def with_webhooks(place: Path) -> None:
    """Let the connections file say that the CRM sends webhooks."""
    (place / "client_secret").write_text(CLIENT_SECRET, "utf-8")
    (place / "client_secret").chmod(0o644)
    path = place / "coursewire.yaml"
    said = f"    webhook: {{secrets: [{{file: {place / 'client_secret'}}}], public_url: '{PUBLIC_URL}'}}\n"
    place_of_it = "    options: {timezone: Europe/Berlin, activity: none}\n"
    text = path.read_text("utf-8")
    assert place_of_it in text
    path.write_text(text.replace(place_of_it, said + place_of_it), "utf-8")


@pytest.fixture(scope="module")
def home(master_keys: str) -> Iterator[Wired]:
    """One installation for all tests of this file."""
    with wired(master_keys, prepare=with_webhooks) as made:
        yield made


def people(first: int, count: int = 12) -> list[Learner]:
    """Return learners nobody has heard of."""
    return [Learner(f"h-{n}", f"h{n}@example.com", f"Hinted {n}") for n in range(first, first + count)]


def complete(home: Wired, learners: Sequence[Learner], course: int) -> None:
    """Let all of them complete a course, one after the other."""
    begun = datetime.now(UTC).replace(microsecond=0) - timedelta(days=9 - course)
    home.accept(
        [
            compose("course.completed", one, COURSES[course], passed=True, occurred_at=begun + timedelta(minutes=n))
            for n, one in enumerate(learners)
        ]
    )


def listen(home: Wired, **manners: object) -> None:
    """Let the CRM tell what happens from now on."""
    url = f"{home.url}/webhooks/crm"
    home.crm.send_webhooks(url, CLIENT_SECRET, public_url=PUBLIC_URL, properties=list(SHOWN), batch=5, **manners)


def rest(home: Wired) -> None:
    """Wait until nothing is on its way, here or there; the books balance."""
    home.crm.webhooks_settled(60)
    engine = home.engine()
    try:
        books = settled(engine)
    finally:
        engine.dispose()
    assert (books.unaccounted, books.waiting, books.dead, books.parked) == (0, 0, 0, 0), books


def shown(home: Wired, learners: Sequence[Learner]) -> list[tuple[str, str]]:
    """Return what their contacts show: number of courses and the last one, of each contact once."""
    addresses = {one.email for one in learners}
    found = [each["properties"] for each in home.crm.contacts() if each["properties"]["email"] in addresses]
    return [(each[SHOWN[0]], each[SHOWN[1]]) for each in found]


def merge(home: Wired, one: Learner, other: Learner) -> None:
    """Merge the contacts of two learners."""
    ids = [contact["id"] for learner in (one, other) if (contact := home.crm.contact(learner.email))]
    home.crm.merge(*ids)


def test_contacts_are_right_whatever_becomes_of_the_hints_about_them(home: Wired) -> None:
    """Hints doubled, shuffled and lost, people editing and merging, a worker killed: the contacts show the truth."""
    learners = people(100)
    complete(home, learners, 0)
    rest(home)
    listen(home, duplicates=0.5, shuffled=True, lose_every=7)
    for n, one in enumerate(learners[:8]):
        home.crm.edit(one.email or "", {SHOWN[0]: "77", SHOWN[1]: f"By hand {n}"})
        if n == 3:
            merge(home, learners[8], learners[9])
            complete(home, learners, 1)
            home.kill_worker()
    merge(home, learners[11], learners[10])
    rest(home)
    complete(home, learners, 2)  # for those whose hint was lost: news is what reaches everybody
    rest(home)
    assert shown(home, learners) == [("3", COURSES[2].name)] * 10
    assert home.ask("SELECT count(*) FROM people WHERE merged_into IS NOT NULL") == 2
    assert home.crm.webhooks()["lost"] > 0
    assert home.ask("SELECT count(*) FROM sync_state WHERE status <> 'in_step'") == 0

    # Now all hints come, and nothing else happens: what they cost is bounded by what people did.
    listen(home, duplicates=1.0, shuffled=True)
    since = len(home.crm.calls())
    for one in learners[:6]:
        for value in ("70", "71", "72"):
            home.crm.edit(one.email or "", {SHOWN[0]: value})
    merge(home, learners[6], learners[7])
    rest(home)
    assert shown(home, learners) == [("3", COURSES[2].name)] * 9
    calls = Counter(call["operation"] for call in home.crm.calls()[since:])
    edits, merges = 6 * 3, 1
    # A look and a correction for each edit at worst, and one more look where the CRM speaks of it before we have
    # heard the answer; batches make it a few. A merge is read by itself as well.
    assert calls.total() <= 3 * edits + 6 * merges, calls
    assert not [name for name in home.crm.stats()["calls"] if "search" in name]


def test_what_is_forged_or_stale_changes_nothing_in_between(home: Wired) -> None:
    """Each one is answered 401 and leaves no row, while genuine ones beside it are all taken."""
    learners = people(200, 4)
    complete(home, learners, 0)
    rest(home)
    before = home.ask("SELECT count(*) FROM inbox_keys WHERE connection = 'crm'")
    listen(home)
    now = time.time_ns() // 1_000_000
    forged = [(f"guessed {n}", now) for n in range(5)] + [(CLIENT_SECRET, now - 301_000 - n) for n in range(5)]
    answers: Counter[tuple[int, str]] = Counter()
    for n, (secret, stamp) in enumerate(forged):
        home.crm.edit(learners[n % 4].email or "", {SHOWN[0]: str(50 + n)})
        headers = {
            "content-type": "application/json",
            "x-hubspot-signature-v3": sign(secret, PUBLIC_URL, BODY, stamp),
            "x-hubspot-request-timestamp": str(stamp),
        }
        answer = requests.post(f"{home.url}/webhooks/crm", data=BODY, headers=headers, timeout=20)
        answers[answer.status_code, answer.json()["reason"]] += 1
    rest(home)
    assert answers == {(401, Reason.BAD_SIGNATURE.value): 5, (401, Reason.STALE_TIMESTAMP.value): 5}
    counts = home.crm.webhooks()
    assert counts["statuses"].keys() == {"202"}
    assert home.ask("SELECT count(*) FROM inbox_keys WHERE connection = 'crm'") == int(str(before)) + counts["told"]
    assert shown(home, learners) == [("1", COURSES[0].name)] * 4
