"""Commands as processes of their own that need not import the product first.

To import it takes a second of a core, a hundred times. One process per process of pytest has done so once, and each
command is a fork of it: with its own environment, folder, input, output and exit code. That the interpreter starts a
command by its name is proved by every test of a role.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["tasks.cli"])
STREAMS = ("in", "out", "err")


def run_command(
    words: Sequence[str], *, env: Mapping[str, str], cwd: Path, typed: str = "", timeout: float = 60
) -> CompletedProcess[str]:
    """Run a `coursewire` command to its end, which `typed` is typed to; raises TimeoutExpired."""
    with TemporaryDirectory() as place:
        streams = [Path(place) / name for name in STREAMS]
        streams[0].write_text(typed, "utf-8")
        process = CONTEXT.Process(target=_become, args=([*words], dict(env), cwd, streams))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired([*words], timeout)
        out, err = (stream.read_text("utf-8") for stream in streams[1:])
        return CompletedProcess([*words], process.exitcode, out, err)


def _become(words: Sequence[str], env: Mapping[str, str], cwd: Path, streams: Sequence[Path]) -> None:
    """Be what `python -m tasks.cli` starts."""
    for number, (stream, mode) in enumerate(zip(streams, ("r", "w", "w"), strict=True)):
        with stream.open(mode, encoding="utf-8") as opened:
            os.dup2(opened.fileno(), number)
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["coursewire", *words]
    from tasks.cli import main  # noqa: PLC0415 - it is there already, and only here

    main()
