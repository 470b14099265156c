"""What can go wrong before an embedded server runs, each with the sentence a person reads on the terminal."""

from pathlib import Path


class EmbeddedUnavailable(RuntimeError):
    """An embedded server cannot run here; the message says what to install or which variable to set."""


class PortTaken(EmbeddedUnavailable):
    """Something else listens on the port the server was to have."""


class FilesDamaged(EmbeddedUnavailable):
    """The server cannot read the files it kept."""


class MemoryHeld(EmbeddedUnavailable):
    """Processes of a killed server still hold the memory it shared with them."""


class FolderInUse(EmbeddedUnavailable):
    """Another process owns this data folder."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"Coursewire already runs on {path} ({who}). Stop it first, or set COURSEWIRE_DATA_DIR to another folder."
        )
