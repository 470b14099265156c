"""Prints what several processes say as one stream of lines, each with the name of who said it.

Nobody ever waits for the reader of our output: a paused terminal or a full pipe costs lines, a closed one
costs all of them, and the work goes on.
"""

import codecs
import contextlib
import os
import queue
import re
import sys
import threading
import time
from typing import IO, TextIO

CHUNK = 64 * 1024  # bytes read at once; a longer line is printed in pieces
BACKLOG = 10_000  # lines waiting for a slow terminal
PATIENCE = 0.5  # seconds for a full backlog to move before lines are dropped
COLOURS = (36, 33, 35, 32, 34, 31)  # ANSI foregrounds, told apart on dark and on light
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")  # all but tab, newline and the escape of colours


class Console:
    """Collects lines from any thread and writes them in order from one of its own."""

    def __init__(self, out: TextIO, names: list[str]) -> None:
        self._out = out
        self._width = max((len(name) for name in names), default=0)
        coloured = _is_terminal(out) and "NO_COLOR" not in os.environ
        self._colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names) if coloured}
        self._lines: queue.Queue[str | None] = queue.Queue(BACKLOG)
        self._dropped = 0
        self._broken = False
        self._readers: list[threading.Thread] = []
        self._writer = threading.Thread(target=self._write_all, name="console", daemon=True)
        self._writer.start()

    def say(self, name: str, text: str) -> None:
        """Print one line under this name."""
        label = f"{name:<{self._width}} |"
        if colour := self._colours.get(name):
            label = f"\x1b[{colour}m{label}\x1b[0m"
        line = f"{label} {CONTROL.sub(UNREADABLE, text)}\n"
        try:
            self._lines.put(line, timeout=0 if self._dropped else PATIENCE)
        except queue.Full:
            self._dropped += 1

    def follow(self, name: str, stream: IO[bytes]) -> None:
        """Print every line of this stream until its other end is closed, then close it."""
        reader = threading.Thread(target=self._read, args=(name, stream), name=f"read-{name}", daemon=True)
        self._readers = [old for old in self._readers if old.is_alive()] + [reader]
        reader.start()

    def close(self, timeout: float = 2) -> None:
        """Print what has arrived; takes at most twice `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for reader in self._readers:
            reader.join(max(0, deadline - time.monotonic()))
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=timeout)
            self._writer.join(timeout)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        with stream:
            while chunk := os.read(stream.fileno(), CHUNK):
                *lines, rest = (rest + decoder.decode(chunk)).split("\n")
                for line in lines:
                    self.say(name, line.removesuffix("\r"))
                if len(rest) >= CHUNK:
                    self.say(name, rest)
                    rest = ""
        if rest:
            self.say(name, rest)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._write(f"... {dropped} lines were not printed, because the output was blocked\n")
            self._write(line)
            if self._lines.empty():
                self._flush()
        self._flush()

    def _write(self, line: str) -> None:
        if self._broken:
            return
        try:
            encoding = getattr(self._out, "encoding", None) or "utf-8"
            self._out.write(line.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError):
            self._give_up()

    def _flush(self) -> None:
        if not self._broken:
            try:
                self._out.flush()
            except (OSError, ValueError):
                self._give_up()

    def _give_up(self) -> None:
        self._broken = True
        if self._out is sys.stdout:
            # Else the interpreter fails once more, and with an exit code, when it flushes at the end.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._out.fileno())
                os.close(nowhere)


def _is_terminal(out: TextIO) -> bool:
    try:
        return out.isatty()
    except ValueError:  # closed
        return False
