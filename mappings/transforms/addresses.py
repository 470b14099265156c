"""Where a person is reached: telephone numbers and e-mail addresses, checked without asking the network."""

import re
from functools import lru_cache

import email_validator
import phonenumbers

from integration.errors import Reason
from integration.model.people import normalise_email
from mappings.transforms.values import Unfit

_PLAIN_LOCAL_PART = re.compile(r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*")
_LONGEST_LOCAL_PART = 64


def e164(text: str, region: str | None) -> str:
    """Return a number as `+4930123456`; `region` is the country of numbers without `+`, None = those are refused.

    An extension is left out, as E.164 has none. Raises Unfit where no such number can exist.
    """
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_valid_number(number):
        country = f"a number of {region} or one" if region else "one"
        raise Unfit(Reason.INVALID_PHONE, f"the telephone number is not {country} that begins with + and a country")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def email(text: str) -> str:
    """Return an address as `integration.model.people.normalise_email` does, if mail can be sent to it.

    That function says by what people are compared, and lets through all that looks like an address; this one decides
    what may be written to a CRM, so it refuses more and changes nothing: what is written is what is looked up.
    Raises Unfit for what email-validator refuses, among it domains that no mail reaches (`.local`, `.test`).
    """
    address = normalise_email(text)
    if address is None or not _stands(address):
        raise Unfit(Reason.INVALID_EMAIL, "the e-mail is no address that mail can be sent to")
    return address


def _stands(address: str) -> bool:
    local, _, domain = address.rpartition("@")
    if address.isascii() and len(local) <= _LONGEST_LOCAL_PART and _PLAIN_LOCAL_PART.fullmatch(local):
        return _domain_stands(domain)
    return _is_valid(address)


# A tenth of a millisecond each, nearly all of it for the domain, and 50,000 people have few of those.
@lru_cache(maxsize=4096)
def _domain_stands(domain: str) -> bool:
    return _is_valid(f"x@{domain}")


def _is_valid(address: str) -> bool:
    try:
        email_validator.validate_email(address, check_deliverability=False, strict=True)
    except email_validator.EmailNotValidError:
        return False
    return True
