"""Moodle's web service, answer by answer: what is sent, who was enrolled, who was refused and why."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
import requests
import responses
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.connectors.client import CallRecord
from integration.connectors.lms import moodle_check, moodle_users
from integration.connectors.lms.moodle import Moodle
from integration.connectors.lms.moodle_consequences import LINES, Then
from integration.connectors.lms.moodle_service import php_form
from integration.errors import ConfigError, ConnectionBroken, CoursewireError, Reason, RetryLater, UnknownOutcome
from integration.model.contacts import Failed
from integration.model.enrollments import (
    Enrolled,
    EnrollmentState,
    EnrollmentWrite,
    ListedCourse,
    NewUser,
    RemoteEnrollment,
    RemoteUser,
)

SITE = "https://lms.test/moodle"
PAGE = Path(__file__).resolve().parents[2] / "docs/moodle.md"
URL = f"{SITE}/webservice/rest/server.php"
ADA = RemoteUser("7", "Ada@example.com", "Ada Byron", "E-7")
Form = dict[str, str]


class Site:
    """A stand-in for one Moodle site: users, enrolments, and everything that it is told to refuse."""

    def __init__(self, http: responses.RequestsMock) -> None:
        self.users: list[dict[str, Any]] = [
            {"id": 7, "username": "ada", "email": "Ada@example.com", "fullname": "Ada Byron", "idnumber": "E-7"}
        ]
        self.enrolled: dict[tuple[str, str], int] = {}
        self.token = "first-token"
        self.calls: list[tuple[str, Form]] = []
        self.refusals: dict[str, Callable[[Form], Any]] = {}
        self.bad: dict[tuple[str, str], str] = {}
        http.add_callback(responses.POST, URL, callback=self._answer)
        http.assert_all_requests_are_fired = False

    def count(self, function: str) -> int:
        """How often a function was called."""
        return [name for name, _ in self.calls].count(function)

    def _answer(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        assert urlsplit(request.url or "").query == ""
        body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
        form = dict(parse_qsl(body, keep_blank_values=True))
        token, function = form.pop("wstoken"), form.pop("wsfunction")
        assert form.pop("moodlewsrestformat") == "json"
        self.calls.append((function, form))
        answer = refusal("invalidtoken") if token != self.token else self._of(function, form)
        return answer if isinstance(answer, tuple) else (200, {}, orjson.dumps(answer).decode())

    def _of(self, function: str, form: Form) -> Any:
        if function in self.refusals and (said := self.refusals[function](form)) is not None:
            return said
        return getattr(self, "_" + function)(form)

    def _core_user_get_users_by_field(self, form: Form) -> Any:
        values = [value for name, value in form.items() if name.startswith("values[")]
        if any("refused" in value for value in values):
            return refusal("invalidparameter")
        return [user for user in self.users if str(user.get(form["field"])) in values]

    def _core_user_create_users(self, form: Form) -> Any:
        made = records(form, "users")
        taken = {user["username"] for user in self.users} | {user["email"].lower() for user in self.users}
        if any(one["username"] in taken or one["email"].lower() in taken or "bad" in one["email"] for one in made):
            return refusal("invalidparameter", debuginfo="Username already exists: ada@example.com")
        fresh = [{"id": 100 + len(self.users) + place, **one} for place, one in enumerate(made)]
        self.users += fresh
        return [{"id": one["id"], "username": one["username"]} for one in reversed(fresh)]

    def _core_enrol_get_users_courses(self, form: Form) -> Any:
        assert form["returnusercount"] == "0"
        mine = [
            course for (user, course), suspended in self.enrolled.items() if user == form["userid"] and not suspended
        ]
        return [{"id": int(course), "fullname": "A course"} for course in mine]

    def _core_enrol_get_enrolled_users(self, form: Form) -> Any:
        options = {one["name"]: one["value"] for one in records(form, "options")}
        assert (options["onlysuspended"], options["userfields"]) == ("1", "id")
        found = sorted(int(user) for (user, course), off in self.enrolled.items() if course == form["courseid"] and off)
        start = int(options["limitfrom"])
        return [{"id": user, "fullname": "X"} for user in found[start : start + int(options["limitnumber"])]]

    def _enrol_manual_enrol_users(self, form: Form) -> Any:
        wanted = records(form, "enrolments")
        if code := next((self.bad[pair] for one in wanted if (pair := pair_of(one)) in self.bad), None):
            return refusal(code)
        assert all("timeend" not in one and one["roleid"] == "5" for one in wanted)
        self.enrolled |= {pair_of(one): int(one["suspend"]) for one in wanted}
        return None

    def _enrol_manual_unenrol_users(self, form: Form) -> Any:
        wanted = records(form, "enrolments")
        if code := next((self.bad[pair] for one in wanted if (pair := pair_of(one)) in self.bad), None):
            return refusal(code)
        for one in wanted:
            self.enrolled.pop(pair_of(one), None)
        return None


def records(form: Form, name: str) -> list[dict[str, str]]:
    """The list that PHP would make of `name[0][key]=...`."""
    found: dict[int, dict[str, str]] = {}
    for key, value in form.items():
        if key.startswith(name + "["):
            place, _, field = key.removeprefix(name)[1:-1].partition("][")
            found.setdefault(int(place), {})[field] = value
    return [found[place] for place in sorted(found)]


def pair_of(one: dict[str, str]) -> tuple[str, str]:
    """User and course of one enrolment in a form."""
    return one["userid"], one["courseid"]


def refusal(code: str, **more: str) -> dict[str, str]:
    """How Moodle says no, under HTTP 200."""
    return {"exception": "moodle_exception", "errorcode": code, "message": "Ada Byron <ada@example.com>", **more}


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def site(http: responses.RequestsMock) -> Site:
    """The site that is called."""
    return Site(http)


def config(**options: Any) -> ConnectionConfig:
    """A connection to the site."""
    named = {"name": "academy", "system": "moodle", "base_url": SITE + "/", "options": options}
    return ConnectionConfig.model_validate(named | {"credentials": {"token": {"env": "TEST_MOODLE_WS"}}})


@pytest.fixture
def moodle(monkeypatch: pytest.MonkeyPatch) -> Moodle:
    """A connector whose token is `first-token`."""
    monkeypatch.setenv("TEST_MOODLE_WS", "first-token")
    return Moodle(config())


def write(user: int | str, course: int | str, state: EnrollmentState = "enrolled") -> EnrollmentWrite:
    """One write, whose trace says what it is."""
    return EnrollmentWrite(f"{user}-{course}-{state}", str(user), str(course), state)


# --- what is sent


def test_forms_are_indexed_as_php_reads_them() -> None:
    """Lists get numbers, nothing is sent for None, and a truth is 1 or 0."""
    assert php_form({"a": [{"b": 1, "c": None}, {"b": "x"}], "d": ["y"], "e": False}) == {
        "a[0][b]": "1",
        "a[1][b]": "x",
        "d[0]": "y",
        "e": "0",
    }


def test_the_token_is_in_the_form_and_the_folder_in_the_address(
    http: responses.RequestsMock, site: Site, moodle: Moodle
) -> None:
    """A site in a sub-folder keeps it; the address, which gets logged on the way, holds no token."""
    moodle.users("id", ["7"])
    request = http.calls[0].request
    assert request.url == URL
    assert isinstance(request.body, bytes)
    assert b"wstoken=first-token" in request.body
    assert "authorization" not in {name.lower() for name in request.headers}


def test_a_token_that_was_replaced_is_read_anew(site: Site, moodle: Moodle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotating the token needs no restart; one that stays refused breaks the connection."""
    moodle.users("id", ["7"])
    site.token = "second-token"
    monkeypatch.setenv("TEST_MOODLE_WS", "second-token")
    assert moodle.users("id", ["7"]) == {"7": (ADA,)}
    site.token = "third-token"
    with pytest.raises(ConnectionBroken) as raised:
        moodle.users("id", ["7"])
    assert raised.value.reason is Reason.CREDENTIALS_REFUSED
    assert "credentials.token" in raised.value.detail


def test_each_request_goes_through_the_gate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever halving costs is spent from the budget, and told."""
    monkeypatch.setenv("TEST_MOODLE_WS", "first-token")
    gates: list[str] = []
    told: list[CallRecord] = []
    site.bad = {("2", "12"): "invaliduser"}
    Moodle(config(), told.append, gates.append).write([write(user, 12) for user in range(1, 5)])
    assert len(gates) == len(told) == len(site.calls) > 5


# --- users


def test_users_are_found_by_each_key(site: Site, moodle: Moodle) -> None:
    """By number, e-mail whatever its case, and idnumber; one call each."""
    assert moodle.users("id", ["7", "8"]) == {"7": (ADA,)}
    assert moodle.users("email", ["Ada@example.com", "bob@example.com"]) == {"Ada@example.com": (ADA,)}
    assert moodle.users("employee_id", ["E-7"]) == {"E-7": (ADA,)}
    assert len(site.calls) == 3


def test_two_spellings_of_one_address_find_the_same_user(site: Site, moodle: Moodle) -> None:
    """Each value asked for gets its answer, also where Moodle keeps the address in capitals."""
    found = moodle.users("email", ["ada@EXAMPLE.com", "Ada@example.com"])
    assert found == {"ada@EXAMPLE.com": (ADA,), "Ada@example.com": (ADA,)}


def test_several_users_of_one_address_are_several(site: Site, moodle: Moodle) -> None:
    """Moodle may allow accounts to share an e-mail; who is suspended is said."""
    site.users.append({"id": "9", "email": "ada@example.com", "suspended": True})
    found = moodle.users("email", ["Ada@example.com"])["Ada@example.com"]
    assert [(user.id, user.is_active) for user in found] == [("7", True), ("9", False)]


def test_one_bad_address_does_not_hide_the_others(site: Site, moodle: Moodle) -> None:
    """Moodle refuses a whole look-up for one value; what cannot be asked for is not, and the rest is halved."""
    values = ["no address", "", "refused@example.com", "b@example.com", "Ada@example.com"]
    assert moodle.users("email", values) == {"Ada@example.com": (ADA,)}
    calls = len(site.calls)
    assert moodle.users("id", ["x", "0", "-1", "1 OR 1"]) == {}
    assert len(site.calls) == calls


def test_addresses_that_are_not_shown_break_the_connection(site: Site, moodle: Moodle) -> None:
    """Who cannot be told apart must not be taken for nobody, or for somebody else."""
    site.users[0].pop("email")
    site.refusals[moodle_users.FIND] = lambda _: site.users
    with pytest.raises(ConnectionBroken, match="viewuseridentity"):
        moodle.users("email", ["ada@example.com", "bob@example.com"])
    assert moodle.users("email", ["ada@example.com"])["ada@example.com"][0].id == "7"


def test_users_are_made_known(site: Site, moodle: Moodle) -> None:
    """In one call; Moodle makes the password, the login is the e-mail without what logins may not hold."""
    made = moodle.create_users(
        [NewUser("t1", "Grace.Hopper+Navy@Example.com", "Grace Brewster Hopper", "E-9"), NewUser("t2", "x@example.com")]
    )
    assert {trace: one.id for trace, one in made.items() if isinstance(one, RemoteUser)} == {"t1": "101", "t2": "102"}
    first, second = records(site.calls[0][1], "users")
    assert first["username"] == "grace.hoppernavy@example.com"
    assert (first["firstname"], first["lastname"], first["idnumber"]) == ("Grace Brewster", "Hopper", "E-9")
    assert (second["firstname"], second["lastname"], second["createpassword"]) == ("x", "-", "1")
    assert "idnumber" not in second
    assert "auth" not in second


def test_users_log_in_as_the_options_say(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With single sign-on no password is made."""
    monkeypatch.setenv("TEST_MOODLE_WS", "first-token")
    Moodle(config(auth="oidc")).create_users([NewUser("t1", "x@example.com", "X")])
    (record,) = records(site.calls[0][1], "users")
    assert (record["auth"], record.get("createpassword")) == ("oidc", None)


def test_one_who_is_there_already_does_not_keep_the_others_out(site: Site, moodle: Moodle) -> None:
    """Each gets an answer of their own: made, taken by whom, taken by somebody else, or not as it must be."""
    site.users.append({"id": 8, "username": "bob@example.com", "email": "robert@example.com"})
    users = [
        NewUser("there", "Ada@example.com"),
        NewUser("new", "new@example.com"),
        NewUser("login", "bob@example.com"),
        NewUser("bad", "bad@example.com"),
        NewUser("twin", "NEW@example.com"),
        NewUser("none", "nobody"),
    ]
    made = moodle.create_users(users)
    assert isinstance(made["new"], RemoteUser)
    assert made["there"] == Failed(Reason.CONFLICT, "there is a user with this e-mail", existing_id="7")
    reasons = {trace: one.reason for trace, one in made.items() if isinstance(one, Failed)}
    assert reasons == {
        "there": Reason.CONFLICT,
        "login": Reason.CONFLICT,
        "bad": Reason.INVALID_VALUE,
        "twin": Reason.CONFLICT,
        "none": Reason.INVALID_EMAIL,
    }
    assert [trace for trace, one in made.items() if isinstance(one, Failed) and one.existing_id] == ["there"]
    assert all("@" not in one.detail for one in made.values() if isinstance(one, Failed))


# --- enrolments


def test_enrolments_that_are_there(site: Site, moodle: Moodle) -> None:
    """Active, suspended and none; one call per user, and one per course that somebody is not active in."""
    site.enrolled = {("7", "12"): 0, ("7", "13"): 1, ("8", "12"): 0}
    found = moodle.enrollments([("7", "12"), ("7", "13"), ("8", "12"), ("8", "13"), ("x", "12")])
    assert found == {
        ("7", "12"): RemoteEnrollment("enrolled"),
        ("7", "13"): RemoteEnrollment("concluded"),
        ("8", "12"): RemoteEnrollment("enrolled"),
    }
    assert len(site.calls) == 3


def test_suspended_people_of_a_large_course_are_found(site: Site, moodle: Moodle) -> None:
    """The list of a course is read to its end."""
    site.enrolled = {(str(user), "12"): 1 for user in range(1, 1502)}
    assert moodle.enrollments([("1501", "12")]) == {("1501", "12"): RemoteEnrollment("concluded")}
    assert site.count("core_enrol_get_enrolled_users") == 2


def test_what_is_wanted_is_written_in_one_call_each(site: Site, moodle: Moodle) -> None:
    """Enrolled, suspended and removed; whether it is there by our doing is said."""
    site.enrolled = {("8", "12"): 0, ("9", "12"): 0, ("10", "12"): 1}
    writes = [write(7, 12), write(8, 12, "concluded"), write(9, 12, "removed"), write(10, 12)]
    assert moodle.write(writes) == {
        "7-12-enrolled": Enrolled(created=True),
        "8-12-concluded": Enrolled(),
        "9-12-removed": Enrolled(),
        "10-12-enrolled": Enrolled(),
    }
    assert site.enrolled == {("7", "12"): 0, ("8", "12"): 1, ("10", "12"): 0}
    assert (site.count("enrol_manual_enrol_users"), site.count("enrol_manual_unenrol_users")) == (1, 1)


def test_what_is_so_already_is_not_written(site: Site, moodle: Moodle) -> None:
    """An enrolment that a teacher made keeps its end of access; nobody is enrolled only to be suspended."""
    site.enrolled = {("7", "12"): 0, ("8", "12"): 1}
    writes = [write(7, 12), write(8, 12, "concluded"), write(9, 12, "concluded")]
    assert set(moodle.write(writes).values()) == {Enrolled()}
    assert site.count("enrol_manual_enrol_users") == 0


def test_a_course_that_takes_nobody_is_asked_once(site: Site, moodle: Moodle) -> None:
    """Its people are refused with its reason, all others are enrolled, and it costs few calls."""
    site.bad = {(str(user), "13"): "wsnoinstance" for user in range(1, 11)}
    answers = moodle.write([write(user, course) for user in range(1, 11) for course in (12, 13, 14)])
    refused = {trace for trace, one in answers.items() if isinstance(one, Failed)}
    assert refused == {f"{user}-13-enrolled" for user in range(1, 11)}
    assert {one.reason for one in answers.values() if isinstance(one, Failed)} == {Reason.UNKNOWN_COURSE}
    assert len(site.enrolled) == 20
    assert site.count("enrol_manual_enrol_users") <= 12


def test_whether_it_is_ours_is_not_claimed_where_it_cannot_be_seen(site: Site, moodle: Moodle) -> None:
    """Without the right to see suspended people, an enrolment may have been there before."""
    site.refusals["core_enrol_get_enrolled_users"] = lambda _: refusal("nopermissions")
    assert moodle.write([write(7, 12)]) == {"7-12-enrolled": Enrolled(created=False)}


def test_what_is_gone_need_not_be_removed(site: Site, moodle: Moodle) -> None:
    """Moodle refuses to remove a deleted user, or from a deleted course; only what is left there is a failure."""
    site.bad = {("7", "12"): "invalidparameter", ("8", "12"): "invalidrecord", ("9", "12"): "invalidrecord"}
    site.enrolled = {("8", "12"): 0, ("9", "12"): 1}
    answers = moodle.write([write(user, 12, "removed") for user in (7, 8, 9)])
    assert answers.pop("7-12-removed") == Enrolled()
    assert {one.reason for one in answers.values() if isinstance(one, Failed)} == {Reason.UNKNOWN_COURSE}
    assert len([one for one in answers.values() if isinstance(one, Failed)]) == 2
    site.refusals["core_enrol_get_enrolled_users"] = lambda _: refusal("nopermissions")
    assert isinstance(moodle.write([write(7, 12, "removed")])["7-12-removed"], Failed)
    site.refusals["core_enrol_get_enrolled_users"] = lambda _: refusal("invalidrecord")
    assert moodle.write([write(7, 12, "removed")]) == {"7-12-removed": Enrolled()}


def test_writes_that_cannot_be_sent_fail_alone(site: Site, moodle: Moodle) -> None:
    """An id that is none, and a second write for one enrolment, are told apart from the rest."""
    answers = moodle.write([write("ada", 12), write(7, "intro"), write(7, 12), write(7, 12, "removed")])
    reasons = {trace: one.reason for trace, one in answers.items() if isinstance(one, Failed)}
    assert reasons == {
        "ada-12-enrolled": Reason.INVALID_VALUE,
        "7-intro-enrolled": Reason.INVALID_VALUE,
        "7-12-removed": Reason.CONFLICT,
    }
    assert site.enrolled == {("7", "12"): 0}


def test_what_was_answered_before_a_fault_counts(site: Site, moodle: Moodle) -> None:
    """A fault in the middle takes nobody's answer away; whoever has none is written again."""
    site.enrolled = {("9", "12"): 0}
    site.refusals["enrol_manual_unenrol_users"] = lambda _: refusal("dmlwriteexception")
    assert moodle.write([write(7, 12), write(9, 12, "removed")]) == {"7-12-enrolled": Enrolled(created=True)}
    with pytest.raises(UnknownOutcome):
        moodle.write([write(9, 12, "removed")])


@settings(max_examples=30, deadline=None)
@given(bad=st.sets(st.integers(1, 12)))
def test_every_bad_record_is_found_and_every_good_one_written(bad: set[int]) -> None:
    """Whoever is bad in a batch, exactly they are refused, and it costs at most two calls for each record."""
    with pytest.MonkeyPatch.context() as patch, responses.RequestsMock() as mock:
        patch.setenv("TEST_MOODLE_WS", "first-token")
        site = Site(mock)
        site.bad = {(str(user), "12"): "invalidrecord" for user in bad}
        answers = Moodle(config()).write([write(user, 12) for user in range(1, 13)])
        assert {trace for trace, one in answers.items() if isinstance(one, Failed)} == {f"{u}-12-enrolled" for u in bad}
        assert set(site.enrolled) == {(str(user), "12") for user in range(1, 13) if user not in bad}
        assert site.count("enrol_manual_enrol_users") <= 23


# --- refusals and faults


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        ("invalidtoken", ConnectionBroken, Reason.CREDENTIALS_REFUSED),
        ("accessexception", ConnectionBroken, Reason.SCOPE_MISSING),
        ("nopermissions", ConnectionBroken, Reason.SCOPE_MISSING),
        ("forcepasswordchangenotice", ConnectionBroken, Reason.SCOPE_MISSING),
        ("sitemaintenance", RetryLater, Reason.SERVER_ERROR),
        ("dmlreadexception", RetryLater, Reason.SERVER_ERROR),
    ],
)
def test_refusals_of_everything(
    site: Site, moodle: Moodle, code: str, error: type[CoursewireError], reason: Reason
) -> None:
    """What is nobody's record stops or pauses the connection, though the status is 200; nothing personal is said."""
    site.refusals[moodle_users.FIND] = lambda _: refusal(code, debuginfo="ada@example.com")
    with pytest.raises(error) as raised:
        moodle.users("email", ["ada@example.com"])
    assert raised.value.reason is reason
    assert "ada" not in str(raised.value).lower()


@pytest.mark.parametrize("line", [line for line in LINES if line.then in (Then.RECORD, Then.COURSE)])
def test_refusals_of_one_enrolment(site: Site, moodle: Moodle, line: Any) -> None:
    """What is about one record is that record's answer, with Moodle's code and nothing else of its text."""
    for code in (one.replace("*", "x") for one in line.codes):
        site.bad = {("7", "12"): code}
        assert moodle.write([write(7, 12)]) == {"7-12-enrolled": Failed(line.reason, f"{line.words} ({code})")}


def test_the_page_holds_the_table() -> None:
    """An administrator finds each line of the table, in its order, and all functions that the service must hold."""
    text = PAGE.read_text("utf-8")
    lines = [f"| {', '.join(f'`{one}`' for one in x.codes)} | {x.then} | `{x.reason}` | {x.words} |" for x in LINES]
    assert "\n".join(lines) in text
    assert all(f"`{name}`" in text for name in (*moodle_check.ALWAYS, moodle_users.CREATE))


@pytest.mark.parametrize(
    ("answer", "read", "wrote"),
    [
        ((503, {"Retry-After": "30"}, "<html>Maintenance</html>"), RetryLater, RetryLater),
        ((200, {}, "<html>This site is undergoing maintenance</html>"), RetryLater, UnknownOutcome),
        ((500, {}, ""), RetryLater, UnknownOutcome),
        ((502, {}, "<html>"), RetryLater, UnknownOutcome),
        ((404, {}, "<html>"), RetryLater, RetryLater),
        ((303, {"Location": "https://elsewhere.test"}, ""), RetryLater, RetryLater),
        ((429, {}, ""), RetryLater, RetryLater),
        ((403, {}, "web services are not enabled"), ConnectionBroken, ConnectionBroken),
        ((401, {}, ""), ConnectionBroken, ConnectionBroken),
        ((200, {}, '{"exception": 5, "errorcode": ["x"], "message": "Ada"}'), RetryLater, None),
        ((200, {}, '"yes"'), RetryLater, UnknownOutcome),
        ((200, {}, '[{"id": 1}]'), None, UnknownOutcome),
    ],
)
def test_answers_that_are_no_answers(
    site: Site, moodle: Moodle, answer: Any, read: type[CoursewireError] | None, wrote: type[CoursewireError] | None
) -> None:
    """A read is repeated; a write is repeated as one that may have happened, unless it surely did not."""
    site.refusals = {"core_enrol_get_users_courses": lambda _: answer}
    if read and "errorcode" not in answer[2]:
        with pytest.raises(read) as raised:
            moodle.enrollments([("7", "12")])
        assert type(raised.value) is read
    site.refusals = {"enrol_manual_enrol_users": lambda _: answer}
    if wrote is None:
        assert isinstance(moodle.write([write(7, 12)])["7-12-enrolled"], Failed)
        return
    with pytest.raises(wrote) as raised_too:
        moodle.write([write(7, 12)])
    assert type(raised_too.value) is wrote


def test_a_maintenance_page_says_how_long(site: Site, moodle: Moodle) -> None:
    """The pause that is asked for is kept."""
    site.refusals = {"enrol_manual_enrol_users": lambda _: (503, {"Retry-After": "30"}, "<html>")}
    with pytest.raises(RetryLater) as raised:
        moodle.write([write(7, 12)])
    assert raised.value.after == 30


def test_a_lost_answer_leaves_the_outcome_open(
    http: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch, moodle: Moodle
) -> None:
    """A read that brings nothing is asked again; nothing was sent, so nothing is unknown."""
    http.post(URL, body=requests.ConnectionError())
    with pytest.raises(RetryLater) as raised:
        moodle.users("id", ["7"])
    assert raised.value.reason is Reason.NETWORK_ERROR


# --- the catalogue, and whether it works


def test_the_catalogue(site: Site, moodle: Moodle) -> None:
    """All courses but the front page; what is hidden is not active."""
    listed = [
        {"id": 1, "fullname": "Front page"},
        {"id": 2, "fullname": "Front page of a site that was moved", "format": "site"},
        {"id": 12, "fullname": "Algebra", "visible": 1},
        {"id": 13, "fullname": "Old algebra", "visible": 0},
        {"id": 14, "fullname": "Not told"},
    ]
    site.refusals[moodle_check.COURSES] = lambda _: {"courses": listed, "warnings": []}
    assert list(moodle.courses()) == [
        ListedCourse("12", "Algebra"),
        ListedCourse("13", "Old algebra", is_active=False),
        ListedCourse("14", "Not told"),
    ]


def told(site: Site, functions: tuple[str, ...]) -> None:
    """Let the site say which functions the token may call."""
    about = {"sitename": "Academy", "functions": [{"name": name, "version": "1"} for name in functions]}
    site.refusals[moodle_check.SITE] = lambda _: about


def test_check_names_what_the_token_lacks(site: Site, moodle: Moodle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every function that we call, and creating users only where they are created."""
    told(site, moodle_check.ALWAYS)
    assert [one.ok for one in moodle.check()] == [True, True, True]
    told(site, moodle_check.ALWAYS[:-2])
    lacking = [one.what for one in moodle.check() if not one.ok]
    assert lacking == [f"the token may not call {name}" for name in moodle_check.ALWAYS[-2:]]
    told(site, moodle_check.ALWAYS)
    assert [one.what for one in Moodle(config(create_users=True)).check() if not one.ok] == [
        "the token may not call core_user_create_users"
    ]


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (refusal("invalidtoken"), "the token is refused"),
        (refusal("accessexception"), "the web service is refused"),
        ((404, {}, "<html>"), f"Moodle cannot be reached at {SITE}"),
        ({"hello": "world"}, f"what answers at {SITE} is not as Moodle answers"),
    ],
)
def test_check_says_what_is_wrong(site: Site, moodle: Moodle, answer: Any, what: str) -> None:
    """It raises nothing, and each failure has advice."""
    site.refusals[moodle_check.SITE] = lambda _: answer
    failed = [one for one in moodle.check() if not one.ok]
    assert [one.what for one in failed] == [what]
    assert all(one.advice for one in failed)


def test_a_connection_may_enrol_or_hear_or_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not named is not there; a connection that is for nothing is a mistake that says what to write."""
    webhook = {"secrets": [{"env": "NOT_SET"}]}
    hears = ConnectionConfig.model_validate({"name": "academy", "system": "moodle", "webhook": webhook})
    assert registry.enrollments(hears) is None
    assert not registry.enrolls(hears)
    assert registry.inbound(hears) is not None
    found = registry.doctor(hears)
    assert found is not None
    assert [one.ok for one in found.check()] == [False]
    assert registry.inbound(config()) is None
    assert isinstance(registry.enrollments(config()), Moodle)
    with pytest.raises(ConfigError, match="MOODLE_TOKEN"):
        registry.doctor(ConnectionConfig.model_validate({"name": "academy", "system": "moodle"}))
    with pytest.raises(ConfigError, match="base_url"):
        registry.enrollments(config().model_copy(update={"base_url": None}))
    with pytest.raises(ConfigError, match="token"):
        registry.enrollments(config().model_copy(update={"credentials": {}}))
