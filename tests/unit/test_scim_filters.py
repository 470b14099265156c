"""Filters and paths: those that clients use are understood, all else is a clear no, and nothing ever breaks."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from integration.scim.attributes import ENTERPRISE
from integration.scim.paths import filter_of, matches, path_of
from integration.scim.refusal import Refusal
from integration.scim.resource import resource_of

ADA = resource_of(
    {
        "userName": "Ada@Example.com",
        "externalId": "X-1",
        "active": True,
        "title": 'The "first"',
        "name": {"familyName": "Byron"},
        "emails": [{"type": "work", "value": "ada@example.com"}, {"type": "home", "value": "ada@home.example"}],
        ENTERPRISE: {"employeeNumber": "0042", "manager": {"value": "m-1"}},
    }
) | {"id": "2819c223-7f76-453a-919d-413861904646"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('userName eq "ada@example.com"', True),
        ('username EQ "ADA@EXAMPLE.COM"', True),
        ('userName eq "bob"', False),
        ('externalId eq "X-1"', True),
        ('externalId eq "x-1"', False),
        ("id eq 2819c223-7f76-453a-919d-413861904646 and manager eq m-1", True),
        ('id eq "2819c223-7f76-453a-919d-413861904646" and manager eq "m-2"', False),
        ('emails[type eq "work"].value eq "ada@example.com"', True),
        ('emails[type eq "home"].value eq "ada@example.com"', False),
        ('emails.value eq "ADA@home.example"', True),
        ('emails eq "ada@home.example"', True),
        ('emails[type eq "work" and value eq "ada@example.com"]', True),
        ('emails[type eq "home" and value eq "ada@example.com"]', False),
        ("active eq true", True),
        ('active eq "True"', True),
        ("active eq False", False),
        ("title pr", True),
        ("nickName pr", False),
        ('title eq "the \\"first\\""', True),
        (f'{ENTERPRISE}:employeeNumber eq "0042"', True),
        (f'{ENTERPRISE}:employeeNumber eq "42"', False),
        ('name.familyName eq "byron" AND active eq true', True),
    ],
)
def test_filters_that_clients_send(text: str, holds: bool) -> None:
    """`eq` with `and` as Entra ID and Okta write it, ids without quotes, and who is there at all."""
    assert matches(ADA, filter_of(text)) is holds


@pytest.mark.parametrize(
    "text",
    [
        'userName sw "a"',
        'userName eq "a" or userName eq "b"',
        'not (userName eq "a")',
        '(userName eq "a")',
        'userName eq "a" and',
        "userName eq",
        "userName",
        "emails",
        'userName eq "a" "b"',
        'meta.lastModified gt "2026-01-01T00:00:00Z"',
        'emails[shoe eq "x"].value eq "y"',
        "",
        'userName eq "\\x"',
        "x" * 2_001,
    ],
)
def test_what_is_not_supported_is_said(text: str) -> None:
    """With the status and the word that RFC 7644 has for it, and without a word of what was asked."""
    with pytest.raises(Refusal) as raised:
        filter_of(text)
    assert (raised.value.status, raised.value.scim_type) in {(400, "invalidFilter"), (400, "invalidPath")}
    assert '"a"' not in raised.value.detail


@given(st.text(max_size=80))
@example('emails[type eq "' + "[" * 40)
@example("urn:" * 20)
@example("a" * 60 + "[")
def test_no_text_breaks_a_reader(text: str) -> None:
    """It is understood or refused."""
    for read in (path_of, filter_of):
        reader: Any = read
        with suppress(Refusal):
            reader(text)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=100))
def test_any_name_can_be_asked_for(name: str) -> None:
    """Whatever is quoted as JSON quotes it finds whoever has exactly this name."""
    assume(name.strip())
    user = resource_of({"userName": name})
    assert matches(user, filter_of(f"userName eq {orjson.dumps(name).decode()}"))
