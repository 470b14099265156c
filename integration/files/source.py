"""The bytes of a file, unpacked on the way, and the lines in them."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import IO, Self, cast

from integration.errors import Reason, Rejected

_PACKED: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    ".gz": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    ".bz2": lambda file: cast("IO[bytes]", bz2.BZ2File(file)),
    ".xz": lambda file: cast("IO[bytes]", lzma.LZMAFile(file)),  # noqa: SIM115 - closed with the file
}
_BLOCK = 1 << 18


def _as_it_is(file: IO[bytes]) -> IO[bytes]:
    return file


LONGEST_LINE = 1 << 20
"""Bytes; a line that is longer is no row of any export, but a file of another kind."""

UTF8_BOM = b"\xef\xbb\xbf"

_NO_TEXT = (
    (b"\xff\xfe", "this is UTF-16; save it as UTF-8 (in Excel: CSV UTF-8; elsewhere: iconv -f UTF-16 -t UTF-8)"),
    (b"\xfe\xff", "this is UTF-16; save it as UTF-8 (in Excel: CSV UTF-8; elsewhere: iconv -f UTF-16 -t UTF-8)"),
    (b"PK\x03\x04", "this is a workbook or a ZIP archive; save the sheet as CSV UTF-8, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "this is a workbook of an old kind (.xls); save the sheet as CSV UTF-8"),
    (b"\x1f\x8b", "this is packed by gzip; give it a name that ends in .gz"),
    (b"BZh", "this is packed by bzip2; give it a name that ends in .bz2"),
    (b"\xfd7zXZ\x00", "this is packed by xz; give it a name that ends in .xz"),
)


def bare_name(path: Path) -> str:
    """Return the file's name in lower case, without what says how it is packed."""
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in _PACKED if name.endswith(ending)), name)


def content_hash(path: Path) -> bytes:
    """Return the SHA-256 of a file as it lies there. Raises Rejected(FILE_UNREADABLE)."""
    with _told(), path.open("rb") as file:
        return file_digest(file, "sha256").digest()


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking it by its name; reading it raises Rejected(FILE_UNREADABLE) where it is damaged.

    Raises the same, with what to do, for what is plainly no text: UTF-16, workbooks, archives.
    """
    with _told(), path.open("rb") as file:
        stream = _PACKED.get(path.suffix.lower(), _as_it_is)(file)
        head = stream.read(8)
        for magic, sentence in _NO_TEXT:
            if head.startswith(magic):
                raise Rejected(Reason.FILE_UNREADABLE, sentence)
        if len(head) > 1 and b"" in (head[::2].strip(b"\0"), head[1::2].strip(b"\0")):
            raise Rejected(Reason.FILE_UNREADABLE, _NO_TEXT[0][1])
        stream.seek(0)
        yield stream


class LongLine(bytes):
    """In the place of a line above LONGEST_LINE: nothing of it, but how long it was."""

    length: int

    @classmethod
    def of(cls, length: int) -> Self:
        """Return what stands for a line of so many bytes."""
        line = cls()
        line.length = length
        return line


def lines(stream: IO[bytes], *, at_returns: bool) -> Iterator[bytes]:
    """Return the lines that follow, each with its end; `at_returns`: a lone carriage return ends one, too."""
    rest, lost = b"", 0
    while block := stream.read(_BLOCK):
        block = rest + block
        pieces = block.splitlines(keepends=True) if at_returns else _at_line_feeds(block)
        # What ends in a carriage return may go on with a line feed in the next block.
        rest = b"" if pieces[-1].endswith(b"\n") else pieces.pop()
        if lost and pieces:
            pieces[0] = LongLine.of(lost + len(pieces[0]))
            lost = 0
        if len(block) > LONGEST_LINE:
            pieces = [LongLine.of(len(piece)) if len(piece) > LONGEST_LINE else piece for piece in pieces]
        yield from pieces
        if len(rest) > LONGEST_LINE and not rest.endswith(b"\r"):
            rest, lost = b"", lost + len(rest)
    if lost or len(rest) > LONGEST_LINE:
        yield LongLine.of(lost + len(rest))
    elif rest:
        yield rest


def _at_line_feeds(block: bytes) -> list[bytes]:
    pieces = [piece + b"\n" for piece in block.split(b"\n")]
    last = pieces.pop()[:-1]
    return [*pieces, last] if last else pieces


@contextmanager
def _told() -> Iterator[None]:
    """Say in a sentence what the system says of a file, without its name."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        sentence = "the packed file is damaged or breaks off; have it sent again"
        raise Rejected(Reason.FILE_UNREADABLE, sentence) from error
    except OSError as error:
        said = error.strerror or "it cannot be read"
        raise Rejected(Reason.FILE_UNREADABLE, f"the file cannot be read: {said}") from error
