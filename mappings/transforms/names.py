"""A person's name as one text, or as a first and a last name guessed from it.

No rule splits all names of the world; this one knows particles, "Last, First", endings such as Jr., and that Chinese
and Korean names begin with the family's. Systems that know the parts should send the parts.
"""

import re
from collections.abc import Sequence

from mappings.transforms.texts import strip

# fmt: off
_PARTICLES = frozenset(
    {
        "af", "al", "av", "bin", "bint", "binti", "da", "das", "de", "degli", "dei", "del", "dela", "della", "den",
        "der", "di", "do", "dos", "du", "el", "ibn", "la", "las", "le", "les", "lo", "los", "san", "st", "st.",
        "ten", "ter", "van", "vd", "vom", "von", "zu", "zum", "zur", "بن", "بنت",
    }
)
# fmt: on
_JOINING = frozenset({"y", "i", "e"})
_ENDINGS = frozenset({"jr", "sr", "ii", "iii", "iv", "phd", "md"})
_FAMILY_FIRST = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]+ [\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]+")


def full_name(given: str | Sequence[str]) -> str:
    """Return a name, or the parts of one in their order, as one text with single blanks."""
    parts = [given] if isinstance(given, str) else given
    return " ".join(word for word in map(strip, " ".join(parts).split()) if word)


def split_name(given: str, part: str) -> str:
    """Return the `first` or the `last` name; a single word is a first name, and the last one is then empty."""
    first, last = _split(full_name(given))
    return first if part == "first" else last


def _split(name: str) -> tuple[str, str]:
    head, _, tail = (side.strip() for side in name.partition(","))
    if head and tail and "," not in tail and not all(_bare(word) in _ENDINGS for word in tail.split()):
        return tail, head
    if _FAMILY_FIRST.fullmatch(name):
        family, own = name.split()
        return own, family
    words = name.split()
    start = _start_of_last(words)
    return " ".join(words[:start]).rstrip(","), " ".join(words[start:])


def _start_of_last(words: Sequence[str]) -> int:
    """Return the place of the word with which the last name begins; their number where there is none."""
    end = len(words)
    while end > 1 and _bare(words[end - 1]) in _ENDINGS:
        end -= 1
    if end < 2:  # noqa: PLR2004 - one word has no second one
        return end if end == len(words) else 0
    for place in range(end - 1):
        # A capital at the start is a first name: "Van Morrison", "Al Gore".
        if words[place].lower() in _PARTICLES and (place or words[place].islower()):
            return place
    if end > 2 and words[end - 2].lower() in _JOINING:  # noqa: PLR2004 - "Ortega y Gasset" is three words
        return max(end - 3, 1)
    return end - 1


def _bare(word: str) -> str:
    return word.replace(".", "").strip(" ,").lower()
