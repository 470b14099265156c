"""Times, dates, numbers and truths in a file. Their form is declared, never guessed."""

import math
import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PrivateAttr

from integration.files.fields import Unfit

ISO, UNIX, UNIX_MS = "iso", "unix", "unix_ms"

_TRUTHS = {
    **dict.fromkeys(("true", "yes", "y", "1", "passed", "pass"), True),
    **dict.fromkeys(("false", "no", "n", "0", "failed", "fail"), False),
}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_ISO = re.compile(r"\d{4}-?\d\d-?\d\d([T ]\d\d:?\d\d(:?\d\d([.,]\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone; write one such as Europe/Berlin or UTC") from None
    return name


def _format(text: str) -> str:
    if text in (ISO, UNIX, UNIX_MS):
        return text
    try:
        shown = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).strftime(text)
        read = datetime.strptime(shown, text)  # noqa: DTZ007 - only whether the two agree
    except ValueError:
        read = None
    if read is None or (read.year, read.month, read.day) != (2001, 2, 3):
        raise ValueError(f"{text!r} names no day: write iso, unix, unix_ms, or as %d/%m/%Y %H:%M")
    return text


def _forms(given: object) -> object:
    if not isinstance(given, list | tuple) or not given:
        raise ValueError("must be a list, such as [iso] or ['%d/%m/%Y %H:%M', '%d/%m/%Y']")
    return given


class Times(BaseModel):
    """The forms that times have in a file, tried in this order, and the zone of those that name none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    formats: Annotated[tuple[Annotated[str, AfterValidator(_format)], ...], BeforeValidator(_forms)] = (ISO,)
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"

    _zone: ZoneInfo = PrivateAttr()

    def model_post_init(self, _: object) -> None:
        """Open the zone once."""
        self._zone = ZoneInfo(self.timezone)

    def moment(self, text: str, column: str = "time") -> datetime:
        """Return a time with its zone; a day alone is its beginning. Raises Unfit that names `column`."""
        for form in self.formats:
            try:
                read = _read(text, form)
                read = read if read.tzinfo else read.replace(tzinfo=self._zone)
                return read.astimezone(UTC)
            except (ValueError, OverflowError):
                continue
        raise Unfit(f"{column}: the time is not of the form {' or '.join(self.formats)}")

    def day(self, text: str, column: str = "date") -> date:
        """Return a day as it is written; of a time with a zone, the day in that zone. Raises Unfit."""
        for form in self.formats:
            try:
                read = _read(text, form)
                return (read.astimezone(self._zone) if form in (UNIX, UNIX_MS) else read).date()
            except (ValueError, OverflowError):
                continue
        raise Unfit(f"{column}: the date is not of the form {' or '.join(self.formats)}")


@lru_cache(maxsize=8192)  # an export says the same few moments again and again
def _read(text: str, form: str) -> datetime:
    """Return a time as a form reads it, with a zone where it names one. Raises ValueError, OverflowError."""
    if form == ISO:
        if not _ISO.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text)
    if form in (UNIX, UNIX_MS):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number(text) / (1000 if form == UNIX_MS else 1))
    return datetime.strptime(text, form)  # noqa: DTZ007 - the caller knows the zone


def number(text: str, column: str = "number", *, decimal: str = ".") -> float:
    """Return a number; `decimal` is its decimal mark, a percent sign behind it is left out. Raises Unfit."""
    value = _number(text, decimal)
    if value is None:
        raise Unfit(f"{column}: this is no number, written with {decimal!r} as its decimal mark")
    return value


@lru_cache(maxsize=8192)  # scores are few
def _number(text: str, decimal: str) -> float | None:
    plain = text.removesuffix("%").strip()
    if decimal != ".":
        plain = "x" if "." in plain else plain.replace(decimal, ".")
    return value if _NUMBER.fullmatch(plain) and math.isfinite(value := float(plain)) else None


def truth(text: str, column: str = "truth") -> bool:
    """Return whether a text says yes. Raises Unfit where it says neither yes nor no."""
    found = _TRUTHS.get(text.casefold())
    if found is None:
        raise Unfit(f"{column}: this says neither true nor false; say under values: what its words mean")
    return found
