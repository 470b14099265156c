"""Personal data on screens: recognisable for who knows it, useless for who does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.security import redact


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ada@example.com", "a***@e***.com"),
        ("a@b.co.uk", "a***@b***.uk"),
        ("no address", "***"),
        ("@example.com", "***"),
        ("ada@", "***"),
        ("ada@localhost", "a***@l***"),
    ],
)
def test_an_address_keeps_its_first_letters_and_its_ending(address: str, shown: str) -> None:
    """What is left of an e-mail identifies nobody."""
    assert redact.email(address) == shown


def test_a_name_keeps_its_initials() -> None:
    """What is left of a name are its initials."""
    assert redact.name("Ada  Byron-King") == "A*** B***"
    assert redact.name(" ") == ""


def test_addresses_inside_a_text_are_covered() -> None:
    """An LMS that uses e-mails as user ids does not bring them onto the screen through a detail."""
    text = "the e-mail belongs to person 5, whom this LMS calls ada@example.com, bob@example.org (2)"
    assert redact.text(text) == "the e-mail belongs to person 5, whom this LMS calls a***@e***.com, b***@e***.org (2)"


@given(st.text(st.characters(categories=["L", "N"]), min_size=2), st.text())
def test_no_address_survives_in_any_surroundings(local: str, rest: str) -> None:
    """Whatever stands around it, the address itself is not shown."""
    address = f"{local}@example.com"
    assert address not in redact.text(f"{rest} {address} {rest}")
