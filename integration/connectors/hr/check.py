"""What `coursewire check` says about the files of HR: whether the server is the one that is meant and lets us in."""

from integration.connectors.hr.sftp import Sftp
from integration.errors import ConnectionBroken, CoursewireError, Reason
from integration.ports import Finding, WhatIsWanted


class Check:
    """Asks one server; changes nothing there."""

    def __init__(self, server: Sftp) -> None:
        self._server = server

    def check(self, wanted: WhatIsWanted | None = None) -> list[Finding]:
        """Return a finding for each question that could be asked."""
        where = f"{self._server.address.host}:{self._server.address.port}"
        right = [Finding(True, f"the SFTP server {where} answers, and has the key that is pinned")]
        try:
            with self._server.open() as folder:
                right.append(Finding(True, "the server lets us in"))
                number = len(folder.files())
        except ConnectionBroken as error:
            if error.reason is Reason.HOST_KEY_UNKNOWN:
                advice = "Ask the people of the server whether its key was changed, and write the new one into host_key"
                return [Finding(False, error.detail, advice)]
            return [*right[:1], Finding(False, "the server does not let us in", error.detail)]
        except CoursewireError as error:
            return [Finding(False, f"the folder on {where} cannot be read", f"{error.detail} ({error.reason})")]
        return [*right, Finding(True, f"the folder can be read; files in it: {number}")]
