"""Which files of a folder are meant, and which of them are whole: nobody reads what is still written."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from integration.files.pickup import Pickup
from integration.ports import RemoteFile

UNFINISHED = (".tmp", ".part", ".filepart", ".partial", ".swp")
"""What programs put behind the name of a file until it is whole."""


def meant(listed: Iterable[RemoteFile], pickup: Pickup) -> list[RemoteFile]:
    """Return the files that a connection takes, in the order of their names."""
    pattern = pickup.pattern.casefold()
    return [
        one
        for one in sorted(listed)
        if fnmatchcase(one.name.casefold(), pattern)
        and not one.name.startswith(".")
        and not one.name.casefold().endswith(UNFINISHED)
        and not one.name.endswith(pickup.companions)
    ]


def is_marked(one: RemoteFile, listed: Mapping[str, RemoteFile], marker: str) -> bool:
    """Say whether the marker of a file lies there; one that is older than the file was meant for another."""
    found = listed.get(one.name + marker)
    return found is not None and found.modified >= one.modified
