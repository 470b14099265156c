"""Transforms of texts and lists; what they take and give stands in `table.py`."""

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence

from integration.errors import Reason
from mappings.transforms.values import Unfit, unfit

Pairs = tuple[tuple[str, str], ...]

# White space of Unicode, and the marks without width that copying from web pages and sheets leaves at the ends.
_BLANK = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
_ZERO_WIDTH_JOINER = "\u200d"
_OTHERWISE = "default"


def strip(text: str) -> str:
    """Return the text without blanks at its ends, those without width among them."""
    return text.strip(_BLANK)


def truncate(text: str, limit: int) -> str:
    """Return at most `limit` characters (code points), never a part of what is seen as one.

    Raises Unfit where the first one seen alone is longer.
    """
    if len(text) <= limit:
        return text
    cut = limit
    while cut and _belong_together(text, cut):
        cut -= 1
    if not cut:
        raise unfit("its first character alone, with all its marks, is longer than the text may be")
    return text[:cut]


def _belong_together(text: str, at: int) -> bool:
    """Say whether the characters before and after a cut are seen as one (the main rules of Unicode annex 29)."""
    before, after = text[at - 1], text[at]
    if unicodedata.category(after).startswith("M") or _ZERO_WIDTH_JOINER in (before, after):
        return True
    if _is_flag_letter(after):
        run = 0
        while run < at and _is_flag_letter(text[at - 1 - run]):
            run += 1
        return run % 2 == 1
    skin_tone = "\U0001f3fb" <= after <= "\U0001f3ff"
    low_surrogate = "\udc00" <= after <= "\udfff" and "\ud800" <= before <= "\udbff"
    korean = "\u1160" <= after <= "\u11ff" and "\u1100" <= before <= "\u11ff"
    tag = "\U000e0020" <= after <= "\U000e007f"
    return skin_tone or low_surrogate or korean or tag or (before, after) == ("\r", "\n")


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def join(entries: Sequence[str], separator: str) -> str:
    """Return the entries that are not empty as one text."""
    return separator.join(entry for entry in entries if entry)


def lookup(text: str, pairs: Pairs) -> str:
    """Return what the text stands for, to the letter; `pairs` are sorted. Raises Unfit where nothing is said."""
    for wanted in (text, _OTHERWISE):
        at = bisect_left(pairs, (wanted,))
        if at < len(pairs) and pairs[at][0] == wanted:
            return pairs[at][1]
    raise Unfit(Reason.NO_LOOKUP_VALUE, "the value is not in the lookup, and the lookup has no default")


def bool_text(answer: bool, pairs: Pairs) -> str:
    """Return the text for yes or for no."""
    return dict(pairs)["true" if answer else "false"]
