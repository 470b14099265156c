"""The benchmark's own arithmetic: what it says must be right before anyone tunes by it."""

import io
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import orjson
import pytest
from rich.console import Console

from integration.connectors.crm.hubspot_paths import PATHS
from integration.errors import ConfigError
from integration.security.signatures import decode_secret, verify
from scripts.bench import show
from scripts.bench.arena import Arena
from scripts.bench.asked import Asked
from scripts.bench.baseline import properties_of
from scripts.bench.crm import OPERATIONS, Account
from scripts.bench.expectation import Expectation
from scripts.bench.figures import Figure, Line, Measured, Panel, Row, Sample, Turn, at_least, at_most, percentile
from scripts.bench.load import Connection, Fired
from scripts.bench.plot import as_svg, round_step
from scripts.bench.record import as_json
from scripts.bench.rows import ROWS
from scripts.bench.scene import ACADEMY, TIMEZONE, Scene, request_of, seeds_of, truth_of
from scripts.bench.table import show_row, show_verdict, written
from scripts.sandbox.truth import expected_contacts

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = 1_795_000_000.0
SCENE = Scene("unit", people=7, events=30, seed=5, at=AT)


def never(_: Arena, __: Turn) -> Sample:
    """Measure nothing."""
    raise AssertionError


ROW = Row(
    key="row",
    title="A row & <its> title",
    lines=(
        Line("fast", "ours & theirs", "/s", "ours", at_least(100)),
        Line("slow", "waits", "ms", "baseline", at_most(30)),
        Line("plain", "no bar", "MB"),
    ),
    measure=never,
    minutes=(1, 2),
    panels=(Panel("How <fast> & how slow", "per second", ("fast", "slow")),),
)


def measured(*samples: Sample, failure: str | None = None) -> Measured:
    """Return the row with these repetitions."""
    return Measured(ROW, samples, failure)


def shown(show_it: Callable[[Console], object], *, colour: bool = False) -> str:
    """Return what is printed."""
    out = io.StringIO()
    show_it(Console(file=out, width=120, force_terminal=colour, color_system="standard" if colour else None))
    return out.getvalue()


# -- figures


@pytest.mark.parametrize(("percent", "value"), [(50, 3), (95, 5), (99, 5), (20, 1), (21, 2), (100, 5)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    """Nearest rank: so many per cent of the values do not exceed it."""
    assert percentile([5, 1, 4, 2, 3], percent) == value


def test_a_percentile_of_nothing_is_no_number() -> None:
    """It must not read as 0 milliseconds."""
    assert math.isnan(percentile([], 50))


@pytest.mark.parametrize(
    ("line", "values", "met"),
    [
        (ROW.lines[0], [90.0, 110.0, 100.0], True),
        (ROW.lines[0], [99.0, 99.9, 500.0], False),
        (ROW.lines[1], [30.0], True),
        (ROW.lines[1], [1.0, 30.1, 31.0], False),
        (ROW.lines[1], [math.nan], False),
        (ROW.lines[2], [1.0], None),
    ],
)
def test_the_median_is_held_to_the_bar(line: Line, values: list[float], *, met: bool | None) -> None:
    """Neither the best nor the worst repetition counts; what could not be measured does not pass."""
    assert Figure(line, values).met is met


def test_a_row_that_failed_is_not_met() -> None:
    """However good the repetitions before it were."""
    assert measured({"fast": 200.0}).met
    assert not measured({"fast": 200.0}, failure="wrong result").met
    assert not measured({"fast": 200.0, "slow": 31.0}).met


# -- the table


def test_a_missed_bar_is_red_and_said_with_its_number() -> None:
    """In the table and once more at the end; a bar that is met is not."""
    found = measured({"fast": 90.0, "slow": 10.0}, {"fast": 80.0, "slow": 12.0}, {"fast": 130.0, "slow": 11.0})
    text = shown(lambda console: show_row(console, found), colour=True)
    assert re.search(r"\x1b\[1;31mMISSED", text)
    plain = shown(lambda console: show_row(console, found))
    assert re.search(r"ours & theirs +90 /s +80 - 130 +>= 100 +MISSED", plain)
    assert re.search(r"waits +11 ms +10 - 12 +<= 30 +ok", plain)
    verdicts = shown(lambda console: show_verdict(console, [found]))
    assert "row missed: ours & theirs is 90 /s, the bar is >= 100" in verdicts
    assert "waits" not in verdicts


def test_a_failure_is_said_with_its_sentence() -> None:
    """A wrong result is no figure."""
    found = measured(failure="wrong result: 3 properties differ")
    assert "FAILED wrong result: 3 properties differ" in shown(lambda console: show_row(console, found))
    assert "row failed" in shown(lambda console: show_verdict(console, [found]))


def test_all_bars_met_is_said() -> None:
    """With how many there were."""
    assert "All 2 bars met." in shown(
        lambda c: show_verdict(c, [measured({"fast": 100.0, "slow": 30.0, "plain": 1.0})])
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4567, "0.46"), (12.34, "12.3"), (1234.5, "1,234"), (0.0, "0"), (3.0, "3"), (math.nan, "-")],
)
def test_figures_are_written_with_the_digits_that_mean_something(value: float, text: str) -> None:
    """Three or so."""
    assert written(value) == text


# -- the drawing and the document


def test_the_drawing_is_well_formed_and_has_units_and_both_schemes() -> None:
    """Names are escaped, every bar has its label, and a dark page has colours of its own."""
    root = ET.fromstring(as_svg([measured({"fast": 90.0, "slow": 10.0}, {"fast": 130.0, "slow": 12.0})]))  # noqa: S314
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "How <fast> & how slow" in texts
    assert "ours & theirs" in texts
    assert "per second" in texts
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 2 + 3  # two bars, three in the legend
    assert "prefers-color-scheme: dark" in ET.tostring(root, "unicode")


def test_the_drawing_leaves_out_what_was_not_measured() -> None:
    """No row, or no number: no panel, and still a drawing."""
    for found in (measured(failure="no"), measured({"fast": math.nan})):
        root = ET.fromstring(as_svg([found]))  # noqa: S314
        assert "How <fast> & how slow" not in [text.text for text in root.iter()]


@pytest.mark.parametrize(("least", "step"), [(0.3, 0.5), (1, 1), (1.1, 2), (260, 500), (5.01, 10), (0.002, 0.002)])
def test_axes_have_round_steps(least: float, step: float) -> None:
    """1, 2 or 5 times a power of ten, never less than asked."""
    assert round_step(least) == pytest.approx(step)


def test_the_document_holds_every_value() -> None:
    """Of every repetition, with its bar; what could not be measured is null."""
    asked = Asked(quick=True, repeat=2)
    found = measured({"fast": 90.0, "slow": math.nan}, {"fast": 110.0, "slow": math.nan})
    document = orjson.loads(as_json(asked, {"cores": "2"}, [found]))
    assert document["measured_on"] == {"cores": "2"}
    assert document["asked"]["repetitions"] == 2
    figures = document["rows"]["row"]["figures"]
    assert figures["fast"]["values"] == [90.0, 110.0]
    assert figures["fast"]["bar"] == {"at_least": 100}
    assert figures["fast"]["met"] is True
    assert figures["slow"]["values"] == [None, None]


# -- what is asked for


def test_rows_are_chosen_by_name() -> None:
    """In their own order; a name that is none is said."""
    assert [row.key for row in show.chosen(" live,accept ")] == ["accept", "live"]
    assert len(show.chosen("")) == len(ROWS)
    with pytest.raises(ConfigError, match="no row burts"):
        show.chosen("burts,live")


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.key)
def test_panels_draw_lines_that_exist(row: Row) -> None:
    """A renamed line must not silently vanish from the drawing; and every row is drawn."""
    keys = [line.key for line in row.lines]
    assert len(set(keys)) == len(keys)
    assert row.panels
    assert [key for panel in row.panels for key in panel.keys if key not in keys] == []


# -- scenes


def test_a_scene_is_the_same_wherever_it_is_composed() -> None:
    """Sender and judge compose it apart from each other."""
    again = Scene(**orjson.loads(orjson.dumps(SCENE)))
    assert again.deliveries() == SCENE.deliveries()
    assert len({one.webhook_id for one in SCENE.deliveries()}) == SCENE.events
    other = Scene("unit", people=7, events=30, seed=6, at=AT).deliveries()
    assert [one.webhook_id for one in other] != [one.webhook_id for one in SCENE.deliveries()]


def test_who_a_webhook_is_about_is_known_in_order_of_sending() -> None:
    """Live latency is matched by it."""
    about = [orjson.loads(one.body)["data"]["learner"]["email"] for one in SCENE.deliveries()]
    assert SCENE.addressed() == about
    assert seeds_of([SCENE, SCENE]) == [{"email": email} for email in SCENE.emails()]


def test_the_truth_of_a_scene_counts_every_completion_once() -> None:
    """30 completions of 7 people: two of them have five, the others four; a second round adds to it."""
    counts = sorted(int(one["courses_completed_count"]) for one in truth_of(SCENE).values())
    assert counts == [4, 4, 4, 4, 4, 5, 5]
    again = Scene("unit", people=7, events=30, seed=9, at=AT + 100, version=2)
    assert sorted(int(one["courses_completed_count"]) for one in truth_of(SCENE, again).values()) == [8] * 5 + [10] * 2


def test_requests_are_signed_as_the_endpoint_wants_it() -> None:
    """One that is refused would be measured as one that is accepted."""
    request = request_of(SCENE.deliveries()[0], "/webhooks/academy", SECRET, int(AT))
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "POST /webhooks/academy HTTP/1.1"
    assert int(headers["content-length"]) == len(body)
    assert verify(headers, body, [decode_secret(SECRET)], AT) == 0


# -- the baseline


def test_the_baseline_computes_what_the_judge_expects() -> None:
    """Otherwise it would be fast at being wrong."""
    bodies = [orjson.loads(one.body) for one in SCENE.deliveries()]
    failed = {**bodies[0], "data": {**bodies[0]["data"], "passed": False}}
    failed["timestamp"] = "2027-01-01T00:00:00Z"
    deliveries = [*SCENE.deliveries()]
    truth = expected_contacts(deliveries, ACADEMY, TIMEZONE, datetime.now(UTC))
    for email, expected in truth.items():
        mine = [one for one in bodies if one["data"]["learner"]["email"] == email]
        rows = [
            {"at": one["timestamp"], "name": one["data"]["course"]["name"], "passed": one["data"]["passed"]}
            for one in mine
        ]
        properties = properties_of(mine[0]["data"]["learner"], rows)
        assert {name: properties[name] for name in expected} == expected
    one = {"at": failed["timestamp"], "name": "x", "passed": False}
    assert properties_of(failed["data"]["learner"], [one])["courses_completed_count"] == "0"


# -- the two ends


def test_when_the_last_contact_became_right_is_kept() -> None:
    """An older state written over a right one is noticed, and the clock runs on until it is mended."""
    expectation = Expectation.of({"a@example.com": {"n": "2"}, "b@example.com": {"n": "1"}})
    expectation.see({"email": "a@example.com", "n": "1"}, 1.0)
    expectation.see({"email": "b@example.com", "n": "1"}, 2.0)
    assert expectation.right_at() is None
    expectation.see({"email": "a@example.com", "n": "2"}, 3.0)
    expectation.see({"email": "nobody@example.com", "n": "2"}, 4.0)
    assert expectation.right_at() == 3.0
    expectation.see({"email": "b@example.com", "n": "0"}, 5.0)
    assert (expectation.right_at(), expectation.spoilt) == (None, 1)
    expectation.see({"email": "b@example.com", "n": "1"}, 6.0)
    assert expectation.right_at() == 6.0


def test_the_crm_applies_limits_and_knows_who_is_right() -> None:
    """The sandbox's portal and limit, its calls counted by answer."""
    account = Account()
    account.control(
        "begin",
        {
            "seeds": [{"email": "a@example.com"}],
            "expected": {"a@example.com": {"email": "a@example.com", "lms_source": "academy"}},
            "rate": 2,
        },
    )
    write = {
        "inputs": [
            {
                "idProperty": "email",
                "id": "a@example.com",
                "properties": {"email": "a@example.com", "lms_source": "academy"},
            }
        ]
    }
    assert account.call("contacts.batch_upsert", orjson.dumps(write), "", 7.0)[0] == 200
    assert account.control("state", {})["right_at"] == 7.0
    assert account.call("contacts.batch_update", b'{"inputs": [{"id": "1", "properties": {}}]}', "", 8.0)[0] == 404
    status, body, headers = account.call("contacts.batch_upsert", orjson.dumps(write), "", 9.0)
    assert (status, body["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
    assert headers["X-HubSpot-RateLimit-Remaining"] == "0"
    state = account.control("state", {})
    assert state["calls"] == {
        "contacts.batch_upsert 200": 1,
        "contacts.batch_update 404": 1,
        "contacts.batch_upsert 429": 1,
    }
    assert state["last_call_at"] == 9.0
    listed = account.call("contacts.list", b"", "limit=100&properties=email,lms_source", 10.0)[1]
    assert listed.get("policyName") or [one["properties"]["lms_source"] for one in listed["results"]] == ["academy"]
    assert account.call("contacts.batch_upsert", b"no JSON", "", 10.0)[0] in (400, 429)


def test_the_crm_answers_where_the_connector_calls() -> None:
    """Every batch path of every API version."""
    for operation in ("contacts.batch_read", "contacts.batch_update", "contacts.batch_upsert"):
        for path in PATHS[operation].values():
            assert OPERATIONS[path] == operation


class Ear:
    """Stands in for a volley under way."""

    def __init__(self) -> None:
        self.heard_of: list[tuple[int, int]] = []

    def is_free(self, connection: Connection) -> None:
        connection.number = 4

    def heard(self, number: int, status: int) -> None:
        self.heard_of.append((number, status))

    def lost(self, connection: Connection) -> None:
        raise AssertionError


def test_answers_are_taken_whole_in_whatever_pieces_they_come() -> None:
    """Head and body apart, or one answer after the other; one without a body as well."""
    ear = Ear()
    connection = Connection(ear)  # type: ignore[arg-type]
    connection.connection_made(None)
    for piece in (b"HTTP/1.1 202 x\r\nContent-Le", b"ngth: 5\r\n\r\nab", b"cde"):
        assert ear.heard_of == []
        connection.data_received(piece)
    connection.data_received(b"HTTP/1.1 503 x\r\n\r\n")
    assert ear.heard_of == [(4, 202), (4, 503)]


def test_a_rate_counts_what_was_accepted() -> None:
    """From the first request sent to the last 202; refusals and what was never sent are no part of it."""
    fired = Fired(
        sent=[10.0, 10.5, 11.0, 0.0], answered=[10.2, 12.0, 19.0, 0.0], status=[202, 202, 503, 0], tries=3, cpu=0
    )
    assert fired.accepted() == [0, 1]
    assert fired.rate() == pytest.approx(1.0)
    assert fired.milliseconds() == pytest.approx([200, 1500])


def test_nothing_names_this_machine() -> None:
    """The facts that go into a published table are versions and sizes."""
    source = Path(show.__file__).with_name("machine.py").read_text("utf-8")
    for telling in ("node(", "gethostname", "getcwd", "uname(", "getuser"):
        assert telling not in source
