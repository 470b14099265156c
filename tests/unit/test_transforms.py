"""Transforms: what each makes of odd values, what is refused with which words, and the page that lists them."""

import json
import math
import re
import traceback
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import email_validator
import phonenumbers
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.errors import Reason
from integration.model.people import normalise_email
from mappings.transforms import (
    TRANSFORMS,
    Step,
    TransformFault,
    Unfit,
    Value,
    accepts,
    from_data,
    outcomes,
    parse,
    plain,
    run,
    to_data,
)
from mappings.transforms.fit import _SOURCES, _TARGETS
from mappings.transforms.table import BASE

# The first draw of a text reads all of Unicode, and the first number of a country its numbering plan.
ANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
BERLIN = ZoneInfo("Europe/Berlin")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "transforms.md").read_text(encoding="utf-8")
NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"


def short(part: object) -> str:
    """Name a case by the beginning of its parts, in plain letters."""
    return ascii(part)[:30]


def does(written: str, value: Value) -> Value:
    """Run what stands in YAML on a value."""
    return run(parse(yaml.safe_load(written)), value, BERLIN)


@pytest.mark.parametrize(
    ("written", "value", "result"),
    [
        # --- names
        ("full_name", "  Ada \u00a0 King\tLovelace\u200b ", "Ada King Lovelace"),
        ("full_name", ["Ada", "", " King  Lovelace"], "Ada King Lovelace"),
        ("full_name", "\u200b", None),
        ("split_name: last", "Ada", None),
        ("split_name: first", "Ada", "Ada"),
        ("split_name: last", ["Ada", "Lovelace"], "Lovelace"),
        ("split_name: first", "Ana Maria da Silva Santos", "Ana Maria"),
        ("split_name: last", "Ana Maria da Silva Santos", "da Silva Santos"),
        ("split_name: last", "Vincent VAN DER Berg", "VAN DER Berg"),
        ("split_name: last", "van der Berg", "van der Berg"),
        ("split_name: first", "van der Berg", None),
        ("split_name: first", "Van Morrison", "Van"),
        ("split_name: last", "Lovelace, Ada", "Lovelace"),
        ("split_name: first", "Lovelace, Ada", "Ada"),
        ("split_name: last", "Sammy Davis Jr.", "Davis Jr."),
        ("split_name: first", "John Smith, MD PhD", "John"),
        ("split_name: last", "José Ortega y Gasset", "Ortega y Gasset"),
        ("split_name: last", "محمد بن سلمان", "بن سلمان"),
        ("split_name: last", "山田 太郎", "山田"),
        ("split_name: last", "Ada 👩‍🚀", "👩‍🚀"),
        # --- addresses
        ("email", " Ada@Example.COM\n", "ada@example.com"),
        ("email", "jörg+lms@bücher.example", "jörg+lms@bücher.example"),
        ("e164: DE", "030 1234567", "+49301234567"),
        ("e164: de", "(0 30) 1234567", "+49301234567"),
        ("e164: DE", "+1 212 555 0123", "+12125550123"),
        ("e164", "+44 20 7946 0958 ext. 12", "+442079460958"),
        ("e164: EG", "\u200f\u0660\u0662 \u0662\u0667\u0663\u0665 \u0664\u0663\u0662\u0661", "+20227354321"),
        ('e164: "NO"', "22 12 34 56", "+4722123456"),
        # --- texts
        ("lower", "ÄÖ İ ΟΔΟΣ", "äö i\u0307 οδος"),
        ("upper", "straße", "STRASSE"),
        ("strip", "\ufeff\u200b \u3000Ada\u00a0\u2060\n", "Ada"),
        ("strip", " \u200b ", None),
        ("truncate: 3", "Adalbert", "Ada"),
        ("truncate: 8", "Adalbert", "Adalbert"),
        ("truncate: 2", "ae\u0301o", "a"),
        ("truncate: 3", "ae\u0301o", "ae\u0301"),
        ("truncate: 3", f"a{FAMILY}", "a"),
        ("truncate: 3", "🇩🇪🇫🇷", "🇩🇪"),
        ("truncate: 2", "a👍🏽", "a"),
        ("truncate: 2", "a\ud83d\ude00", "a"),
        ("truncate: 2", "각\u1100\u1161\u11a8", "각"),
        ("truncate: 5", "ab" * 1_000_000, "ababa"),
        ("prefix: 'LMS '", 7, "LMS 7"),
        ("suffix: ' %'", 12.5, "12.5 %"),
        ("suffix: ' %'", 100.0, "100 %"),
        ("join: ';'", ["a", "", "b"], "a;b"),
        ("join: ', '", [""], None),
        ("lookup: {beginner: Bronze}", "beginner", "Bronze"),
        ("lookup: {beginner: Bronze, default: None yet}", "expert", "None yet"),
        ("lookup: {1: one, '2': two}", 1, "one"),
        ("lookup: {1: one, '2': two}", 2.0, "two"),
        ("lookup: {x: ''}", "x", None),
        ("bool_text", True, "true"),
        ("bool_text: {true: 'Yes', false: 'No'}", False, "No"),
        # --- days and moments
        ("iso_date", datetime(2026, 11, 22, 23, 30, tzinfo=UTC), "2026-11-23"),
        ("iso_date", date(2026, 11, 22), "2026-11-22"),
        ("iso_datetime", NOON, "2026-11-22T12:00:00.123Z"),
        ("iso_datetime", NOON.astimezone(timezone(timedelta(hours=5, minutes=45))), "2026-11-22T12:00:00.123Z"),
        ("epoch_ms", NOON, 1795348800123),
        ("epoch_ms", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), -1000),
        ("epoch_day_ms", datetime(2026, 11, 22, 23, 30, tzinfo=UTC), 1795392000000),
        ("epoch_day_ms", date(1970, 1, 2), 86_400_000),
        # --- numbers
        ("number", " 0012.50 ", 12.5),
        ("number", "-7", -7),
        ("number", "12.0", 12),
        ("number: {decimal: ','}", "12,5", 12.5),
        ("number", 3.5, 3.5),
        ("round", 2.5, 3),
        ("round", -2.5, -3),
        ("round: 2", 2.675, 2.68),
        ("percent", 0.856, 85.6),
        ("percent: 100", 85, 85),
        ("percent", 1, 100),
        # --- what is missing
        ("default: unknown", None, "unknown"),
        ("default: 0", None, 0),
        ("default: false", None, False),
        ("default: unknown", "Ada", "Ada"),
        ("[strip, {default: unknown}, upper]", "  ", "UNKNOWN"),
        ("[]", "", None),
        ("[]", [], None),
        ("[]", False, False),
        ("[iso_date, {prefix: 'since '}]", date(2026, 1, 2), "since 2026-01-02"),
        ("[{percent: 100}, {round: 1}, {suffix: ' %'}]", 33.333, "33.3 %"),
    ],
    ids=short,
)
def test_what_comes_out(written: str, value: Value, result: Value) -> None:
    """Each transform makes of a value what the page says, and of odd ones what a person would expect."""
    made = does(written, value)
    assert made == result
    assert type(made) is type(result)


@pytest.mark.parametrize(
    ("written", "value", "reason"),
    [
        ("email", "ada@example", Reason.INVALID_EMAIL),
        ("email", "ada@intranet.local", Reason.INVALID_EMAIL),
        ("email", "ada..king@example.com", Reason.INVALID_EMAIL),
        ("email", "ada\u200b@example.com", Reason.INVALID_EMAIL),
        ("email", "\u202eada@example.com", Reason.INVALID_EMAIL),
        ("email", "a" * 65 + "@example.com", Reason.INVALID_EMAIL),
        ("email", "ada@" + "a." * 200 + "com", Reason.INVALID_EMAIL),
        ("email", "ada@-example.com", Reason.INVALID_EMAIL),
        ("e164: DE", "12", Reason.INVALID_PHONE),
        ("e164: DE", "call me", Reason.INVALID_PHONE),
        ("e164", "030 1234567", Reason.INVALID_PHONE),
        ("e164: DE", "+1 000 000 0000", Reason.INVALID_PHONE),
        ("e164: DE", "9" * 100_000, Reason.INVALID_PHONE),
        ("lookup: {a: b}", "A", Reason.NO_LOOKUP_VALUE),
        ("lookup: {a: b}", "a ", Reason.NO_LOOKUP_VALUE),
        ("truncate: 2", FAMILY, Reason.UNFIT_VALUE),
        ("truncate: 5", "e" + "\u0301" * 500, Reason.UNFIT_VALUE),
        ("number", "1,5", Reason.UNFIT_VALUE),
        ("number: {decimal: ','}", "1.234,5", Reason.UNFIT_VALUE),
        ("number", "1e5", Reason.UNFIT_VALUE),
        ("number", "nan", Reason.UNFIT_VALUE),
        ("number", "٣", Reason.UNFIT_VALUE),
        ("number", "9" * 10_000, Reason.UNFIT_VALUE),
        ("number", "0.1234567890123456", Reason.UNFIT_VALUE),
        ("round", math.nan, Reason.UNFIT_VALUE),
        ("[]", math.inf, Reason.UNFIT_VALUE),
        ("[]", 10**18, Reason.UNFIT_VALUE),
        ("percent", 1.01, Reason.UNFIT_VALUE),
        ("percent: 100", -1, Reason.UNFIT_VALUE),
        ("iso_datetime", datetime(2026, 11, 22, 12), Reason.UNFIT_VALUE),  # noqa: DTZ001 - that is the point
        ("iso_date", datetime.max.replace(tzinfo=UTC), Reason.UNFIT_VALUE),
        ("epoch_ms", date(2026, 11, 22), Reason.UNFIT_VALUE),
        ("lower", 5, Reason.UNFIT_VALUE),
        ("lower", True, Reason.UNFIT_VALUE),
        ("round", True, Reason.UNFIT_VALUE),
        ("lower", ["a"], Reason.UNFIT_VALUE),
        ("join: ','", "abc", Reason.UNFIT_VALUE),
        ("join: ','", ["a", 5], Reason.UNFIT_VALUE),
        ("[]", {"first": "Ada"}, Reason.UNFIT_VALUE),
        ("[]", b"Ada", Reason.UNFIT_VALUE),
    ],
    ids=short,
)
def test_what_does_not_fit(written: str, value: Value, reason: Reason) -> None:
    """A value that cannot become what is asked for says so with a reason, whatever it is."""
    with pytest.raises(Unfit) as refused:
        does(written, value)
    assert refused.value.reason is reason
    assert refused.value.detail


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "default"])
@pytest.mark.parametrize("empty", [None, "", [], ()])
def test_empty_stays_empty(name: str, empty: Value) -> None:
    """No transform but `default` makes something of nothing."""
    assert does(TRANSFORMS[name].example, empty) is None


# --- what an admin may write wrongly


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("lowr", "no transform `lowr`; the nearest is lower"),
        ("Truncate: 3", "the nearest is {truncate: 100}"),
        ("truncate:100", "the nearest is {truncate: 100}"),
        ("qqq", "no transform `qqq`; there are full_name, split_name"),
        ("", "a transform is a name"),
        ("[strip, null]", "a transform is a name"),
        ("[[strip]]", "a transform is a name"),
        ("7", "a transform is a name"),
        ("{}", "a transform is a name"),
        ("{7: 8}", "no transform `7`"),
        ("{strip: null, lower: null}", "two transforms stand in one; write a list"),
        ("lower: 1", "`lower` takes no argument; write lower"),
        ("truncate", "a whole number from 1 to 1000000; write for example {truncate: 100}"),
        ("truncate: 0", "a whole number from 1"),
        ("truncate: yes", "a whole number from 1"),
        ("truncate: '5'", "a whole number from 1"),
        ("round: -1", "a whole number from 0 to 10"),
        ("percent: 10", "1 or 100"),
        ("percent: 1.0", "1 or 100"),
        ("split_name", "first or last"),
        ("split_name: [last]", "first or last"),
        ("prefix: +49", "YAML reads a number there; put it in quotes"),
        ("prefix", "needs a text"),
        ("join: ''", "needs a text"),
        ("suffix: 2026-11-22", "YAML reads a date there; put it in quotes"),
        ("e164: NO", 'YAML reads NO without quotes as a "no"'),
        ("e164: XX", "two letters of a country"),
        ("e164: 49", "two letters of a country"),
        ("lookup: {}", "a mapping from each value to its text"),
        ("lookup: [a, b]", "a mapping from each value to its text"),
        ("lookup: {yes: sure}", "a key that is no text: YAML reads true or false there"),
        ("lookup: {a: }", "no text for the key a: YAML reads nothing there"),
        ("lookup: {a: [b]}", "YAML reads a list or a mapping there"),
        ("lookup: {a: no}", "no text for the key a: YAML reads true or false"),
        ("lookup: {1: a, '1': b}", "the key 1 twice"),
        ("bool_text: {true: 'Yes'}", "a text for true and one for false"),
        ("bool_text: {true: Yes, false: No}", "put it in quotes"),
        ("number: ','", "nothing but the mark before the fraction"),
        ("number: {decimal: ';'}", "nothing but the mark before the fraction"),
        ("default", "needs a value"),
        ("default: [a]", "a text, a number, true or false"),
        ("default: 2026-11-22", "YAML reads a date; put it in quotes"),
        ("default: .nan", "cannot use this value"),
    ],
)
def test_faults_say_what_to_write(written: str, says: str) -> None:
    """Whoever wrote a transform wrongly reads what is wrong and what to write instead."""
    with pytest.raises(TransformFault) as fault:
        parse(yaml.safe_load(written))
    assert says in str(fault.value)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_examples_are_right(transform: object) -> None:
    """What an error message or the page tells to write can be written."""
    example = TRANSFORMS[getattr(transform, "name", "")].example
    [step] = parse(yaml.safe_load(example))
    assert step.name in example


def test_the_page_s_own_rules_can_be_written() -> None:
    """The field maps that open the page lead to properties of the types they name."""
    sources = {"full_name": "name", "phone": "phone", "certified": "bool", "level": "string", "score": "number"}
    [block] = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    maps = yaml.safe_load(block)
    assert maps.keys() == sources.keys()
    for field, place in maps.items():
        assert accepts(parse(place["transform"]), sources[field], place["type"]) is None


# --- chains of all kinds, drawn

_KEYS = st.one_of(st.text(max_size=4), st.integers(-9, 9))
_ARGUMENTS: dict[str, st.SearchStrategy[object]] = {
    "split_name": st.sampled_from(["first", "last"]),
    "e164": st.sampled_from([None, *sorted(phonenumbers.SUPPORTED_REGIONS)]),
    "truncate": st.integers(1, 30),
    "prefix": st.text(min_size=1, max_size=5),
    "suffix": st.text(min_size=1, max_size=5),
    "join": st.text(min_size=1, max_size=3),
    "lookup": st.dictionaries(_KEYS, st.text(max_size=5), min_size=1).filter(lambda d: len({*map(str, d)}) == len(d)),
    "bool_text": st.one_of(st.none(), st.fixed_dictionaries({True: st.text(max_size=4), False: st.text(max_size=4)})),
    "number": st.sampled_from([None, {"decimal": ","}, {"decimal": "."}]),
    "round": st.one_of(st.none(), st.integers(0, 10)),
    "percent": st.sampled_from([None, 1, 100]),
    "default": st.one_of(st.text(min_size=1, max_size=9), st.integers(-999, 999), st.booleans(), st.just("2026-11-22")),
}


@st.composite
def chains(draw: st.DrawFn, *, most: int = 4) -> tuple[Step, ...]:
    """Draw a chain as YAML would give it, of up to `most` transforms."""
    names = draw(st.lists(st.sampled_from(sorted(TRANSFORMS)), max_size=most))
    return parse([{name: draw(_ARGUMENTS.get(name, st.none()))} for name in names])


_EMAILS = st.one_of(
    st.emails(), st.builds("{}@{}".format, st.text(max_size=9), st.sampled_from(["example.com", "b.c"]))
)
_PHONES = st.builds(
    "{}{}".format, st.sampled_from(["", "+", "+49", "0", "00"]), st.text("0123456789 -()/ ext", max_size=18)
)
_ANY_TEXT = st.text(st.characters())
_DRAWN: dict[str, st.SearchStrategy[Value]] = {
    "string": _ANY_TEXT,
    "email": st.one_of(_EMAILS, _ANY_TEXT),
    "phone": st.one_of(_PHONES, _ANY_TEXT),
    "name": st.text(st.sampled_from("aAé بج山한 ,.-\u200b👩\u200d")),
    "number": st.one_of(st.integers(), st.floats()),
    "bool": st.booleans(),
    "datetime": st.one_of(st.datetimes(), st.datetimes(timezones=st.timezones())),
    "date": st.dates(),
    "list": st.lists(st.text(max_size=5)),
}


def end_of(steps: tuple[Step, ...], value: Value) -> Value | Unfit:
    """Return what a chain ends with, the error among it; anything else that is raised fails the test."""
    try:
        return run(steps, value, BERLIN)
    except Unfit as unfit:
        return unfit


@ANY
@given(st.sampled_from(sorted(_DRAWN)), chains(), st.sampled_from(sorted(_TARGETS)), st.data())
def test_a_chain_ends_in_a_value_or_in_unfit(
    source: str, steps: tuple[Step, ...], target: str, data: st.DataObject
) -> None:
    """Whatever the value, nothing but Unfit is raised; a chain that is accepted never meets the wrong kind."""
    result = end_of(steps, data.draw(st.one_of(st.none(), _DRAWN[source])))
    accepted = accepts(steps, source, target) is None
    if isinstance(result, Unfit):
        assert not (accepted and "was given" in result.detail)
    else:
        assert result is None or isinstance(result, str | int | float | bool | date | list)
        assert result not in ("", [])
        if accepted and result is not None:
            assert holds(target, result)


@ANY
@given(st.sampled_from(sorted(_DRAWN)), chains(most=2), st.data())
def test_outcomes_are_all_there_are(source: str, steps: tuple[Step, ...], data: st.DataObject) -> None:
    """A chain that is accepted ends with one of the texts that were counted, or with nothing."""
    last = parse(data.draw(st.sampled_from([{"lookup": {"a": "b", "default": "c"}}, "bool_text", {"default": "x"}])))
    chain = (*steps, *last)
    known, result = outcomes(chain), end_of(chain, data.draw(_DRAWN[source]))
    if known is not None and accepts(chain, source, "string") is None and not isinstance(result, Unfit):
        assert result is None or result in known


def holds(target: str, result: Value) -> bool:
    """Say whether a property of a type could hold a value, by the value itself."""
    match target, result:
        case "number", int() | float():
            fits = float(plain(result)) == result
        case "number", _:
            fits = re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", str(result)) is not None
        case "bool", _:
            fits = isinstance(result, bool) or result in ("true", "false")
        case "date", int():
            fits = result % 86_400_000 == 0
        case "date", str():
            fits = date.fromisoformat(result) is not None
        case "datetime", str():
            fits = datetime.fromisoformat(result).tzinfo is not None
        case "datetime", _:
            fits = isinstance(result, datetime | int)
        case _:
            fits = not isinstance(result, list)
    return fits


@ANY
@given(chains(), st.one_of(*_DRAWN.values()))
def test_what_is_unfit_is_not_told(steps: tuple[Step, ...], value: Value) -> None:
    """Neither the error nor its traceback holds the value, so both may be logged."""
    marked = f"Zq{value}Zq" if isinstance(value, str) else value
    result = end_of(steps, marked)
    if isinstance(result, Unfit):
        told = f"{result.detail}{result!r}" + "".join(traceback.format_exception(result))
        assert "Zq" not in told
        assert len(str(marked)) < 8 or str(marked) not in told


@ANY
@given(chains())
def test_steps_are_kept_as_json(steps: tuple[Step, ...]) -> None:
    """What Postgres keeps is read back as the same steps, which can be keys."""
    kept = json.loads(json.dumps(to_data(steps)))
    assert from_data(kept) == parse(kept) == steps
    assert hash(from_data(kept)) == hash(steps)
    assert parse(yaml.safe_load(yaml.safe_dump(to_data(steps)))) == steps


@pytest.mark.parametrize("written", ["lower", "upper", "strip", "full_name", "truncate: 7", "email", "e164: DE"])
@ANY
@given(value=st.one_of(_ANY_TEXT, _EMAILS, _PHONES))
def test_twice_is_as_good_as_once(written: str, value: str) -> None:
    """A value that came back from the CRM is not changed again."""
    once = end_of(parse(yaml.safe_load(written)), value)
    if not isinstance(once, Unfit):
        assert does(written, once) == once


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_numbers_of_every_country(region: str) -> None:
    """The example of each country's plan, as it is dialled at home, is known with its country."""
    example = phonenumbers.example_number(region)
    assert example is not None
    at_home = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)
    once = does(f'e164: "{region}"', at_home)
    assert once == f"+{example.country_code}{phonenumbers.national_significant_number(example)}"
    assert does("e164", once) == once


@ANY
@given(_EMAILS)
def test_an_email_is_the_library_s_and_ours(address: str) -> None:
    """The short cut for plain addresses decides as the library does, and people are found by what is written."""
    compared = normalise_email(address)
    try:
        email_validator.validate_email(compared or "", check_deliverability=False, strict=True)
    except email_validator.EmailNotValidError:
        compared = None
    try:
        assert does("email", address) == compared
    except Unfit:
        assert compared is None


@ANY
@given(st.text(st.sampled_from("ae\u0301\u200d👩🏽🇩🇪\u1100\u1161\u11a8\ufe0f ")), st.integers(1, 9))
def test_truncate_is_a_beginning(text: str, limit: int) -> None:
    """What is left is a beginning of the text, not too long, and the next mark does not belong to it."""
    try:
        kept = does(f"truncate: {limit}", text) or ""
    except Unfit:
        return
    assert isinstance(kept, str)
    assert text.startswith(kept)
    assert len(kept) <= limit
    if kept != text:
        assert text[len(kept)] not in "\u0301\u200d\ufe0f🏽"
        assert kept[-1:] != "\u200d"


@ANY
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e17, max_value=1e17))
def test_numbers_are_written_without_an_exponent(number: float) -> None:
    """A number as text is the same number, in digits."""
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]*[1-9])?", plain(number))
    assert float(plain(number)) == number


# --- from field to property


@pytest.mark.parametrize(
    ("written", "source", "target", "says"),
    [
        ("[]", "list", "string", "`join` makes a text of it"),
        ("[]", "string", "number", "`number` reads a text as one"),
        ("[]", "string", "bool", "a `lookup` that gives nothing but true and false would do"),
        ("[]", "string", "date", "map a field of type date"),
        ("[]", "date", "datetime", "cannot hold a day"),
        ("[]", "datetime", "enumeration", "cannot hold a date and time"),
        ("epoch_ms", "datetime", "date", "`epoch_day_ms`"),
        ("lower", "datetime", "string", "`lower` takes a text, and what comes to it is a date and time"),
        ("epoch_ms", "date", "datetime", "`epoch_ms` takes a date and time, and what comes to it is a day"),
        ("bool_text", "string", "string", "`bool_text` takes yes or no, and what comes to it is a text"),
        ("default: 1", "string", "string", "`default` is a number, and what it stands in for is a text"),
        ("default: x", "datetime", "string", "`default` takes"),
        ("[iso_date, {default: soon}]", "datetime", "date", "cannot hold a text"),
        ("lookup: {a: 'true', default: maybe}", "string", "bool", "cannot hold a text"),
        ("[]", "colour", "string", "no field type colour"),
        ("[]", "string", "colour", "no property type colour"),
        ("[]", "string", "string", None),
        ("[]", "datetime", "date", None),
        ("epoch_day_ms", "datetime", "date", None),
        ("iso_datetime", "datetime", "datetime", None),
        ("bool_text", "bool", "bool", None),
        ("bool_text: {true: 'Yes', false: 'No'}", "bool", "enumeration", None),
        ("[iso_date, {default: '1970-01-01'}]", "datetime", "date", None),
        ("[lower, {lookup: {a: 'true', default: 'false'}}]", "string", "bool", None),
        ("lookup: {beginner: '10', expert: '20.5'}", "string", "number", None),
        ("[{join: ';'}, {truncate: 100}]", "list", "string", None),
    ],
)
def test_which_property_a_chain_fits(written: str, source: str, target: str, says: str | None) -> None:
    """What cannot work is refused before it is published, in a sentence that says why."""
    sentence = accepts(parse(yaml.safe_load(written)), source, target)
    assert sentence is None if says is None else says in (sentence or "")


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        ("[]", None),
        ("default: x", None),
        ("bool_text", {"true", "false"}),
        ("lookup: {a: b, c: '', default: d}", {"b", "d"}),
        ("[{lookup: {a: b}}, {default: x}, upper, {suffix: '!'}]", {"B!", "X!"}),
        ("[{lookup: {a: b}}, {prefix: c}, {lookup: {cb: d, z: e}}]", {"d", "e"}),
        ("[{lookup: {a: '1'}}, number]", None),
    ],
)
def test_the_texts_that_can_come_out(written: str, texts: set[str] | None) -> None:
    """The options that an enumeration must have are known before any value is seen."""
    assert outcomes(parse(yaml.safe_load(written))) == texts


# --- the page


def table(header: str) -> list[list[str]]:
    """Return the rows of the page's table that begins with a header."""
    body = PAGE.split(header, 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in body.splitlines()[2:]]


def test_the_page_lists_every_transform_as_it_is() -> None:
    """Names, kinds, arguments and meanings on the page are those of the code, in its order."""
    assert table("| name |") == [
        [
            f"`{one.name}`",
            ", ".join(one.takes),
            one.gives or "the same",
            f"{one.told}: `{one.example}`" if one.told else "",
            one.meaning,
        ]
        for one in TRANSFORMS.values()
    ]


def test_the_page_says_what_fits_which_property() -> None:
    """The second table of the page is the one that field maps are checked by."""
    said = table("| type of the property |")
    assert said == [[f"`{name}`", ", ".join(f for f in BASE if f in forms)] for name, forms in _TARGETS.items()]
    assert _DRAWN.keys() == _SOURCES.keys()
