"""A look at a folder of HR: what is whole is fetched, known by its content, judged as a whole, and then told.

Between two steps the process may be killed: each is repeated, and none does anything a second time.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Final
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection, Engine

from integration.errors import ConfigError, ConnectionBroken, CoursewireError, Reason, Rejected
from integration.files import mapping as mapping_files
from integration.files.pickup import Pickup
from integration.hr import checksum, finished
from integration.hr.application import Application
from integration.hr.mapping import HrMapping
from integration.ports import FileServer, Folder, RemoteFile
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import hr_files, hr_looks, rings
from integration.storage.base import AWAY
from integration.storage.hr_files import Filed
from integration.storage.hr_looks import LookTaken

log = structlog.get_logger(__name__)

COLLECT_FILES: Final = "files.collect"
"""The operation that looks at a folder."""

PATIENCE = timedelta(seconds=30)
"""How long a file must stand still where no marker says that it is whole."""

AGAIN_SECONDS = 300.0
"""When a folder is looked at again whose server was away, or where a file waits for its checksum."""

SOON = timedelta(hours=1)
"""How long a checksum is looked for beside the clock; the next look by the clock looks for it, too."""


@dataclass(slots=True)
class Collected:
    """What a look led to: files that were settled or wait for a reason, how many must stand still, what went wrong.

    `again`: after how many seconds the folder is worth another look, None = by the clock. `is_busy`: somebody else was
    at the folder, so nothing was done.
    """

    files: list[Filed] = field(default_factory=list)
    waiting: int = 0
    again: float | None = None
    trouble: CoursewireError | None = None
    is_busy: bool = False


@dataclass(frozen=True, kw_only=True)
class Collector:
    """Collects the files of one connection; built once per process by the composition root."""

    engine: Engine
    connection: str
    server: FileServer
    pickup: Pickup
    mapping: Path
    ring: KeyRing
    keys: IndexKeys
    patience: timedelta = PATIENCE

    def run(self, *, only_due: bool = True) -> Collected:
        """Look at the folder once, where nobody else does, and take what is whole."""
        lease = uuid4()
        with self.engine.begin() as db:
            rings.heard(db, self.connection, COLLECT_FILES)
            if not hr_looks.claim(db, self.connection, lease, only_due=only_due):
                return Collected(is_busy=True)
        visit, again = _Visit(self, lease), None
        try:
            mapping = mapping_files.load(self.mapping, HrMapping)
            with self.server.open() as folder:
                visit.look(folder, mapping)
            again = self.patience.total_seconds() + 1 if visit.done.waiting else visit.done.again
        except (LookTaken, *AWAY):
            return visit.done  # whoever finds the folder abandoned looks again
        except ConfigError as error:
            visit.done.trouble = Rejected(Reason.RULES_UNREADABLE, str(error))
        except CoursewireError as error:
            visit.done.trouble = error
            again = None if isinstance(error, ConnectionBroken) else AGAIN_SECONDS
        self._end(lease, again, visit.done.trouble)
        return visit.done

    def _end(self, lease: UUID, again: float | None, trouble: CoursewireError | None) -> None:
        with self.engine.begin() as db:
            reason = trouble.reason.value if trouble else None
            detail = trouble.detail if trouble else None
            hr_looks.end(db, self.connection, lease, again=again, reason=reason, detail=detail)
        if trouble:
            log.warning("hr.failed", connection=self.connection, reason=trouble.reason.value)


@dataclass
class _Visit:
    """One look, under a lease."""

    of: Collector
    lease: UUID
    done: Collected = field(default_factory=Collected)

    @contextmanager
    def holding(self) -> Iterator[Connection]:
        """A transaction that nobody else's look can be in as well. Raises LookTaken."""
        with self.of.engine.begin() as db:
            hr_looks.hold(db, self.of.connection, self.lease)
            yield db

    def look(self, folder: Folder, mapping: HrMapping) -> None:
        """Note what lies there, and take what is whole in the order of the names."""
        listed = {one.name: one for one in folder.files()}
        chosen = finished.meant(listed.values(), self.of.pickup)
        known, rested = self._note(listed, chosen)
        apply = Application(self.of, self.holding, mapping)
        for one in chosen:
            filed = known[one.name]
            if filed.status in ("applied", "rejected", "same"):
                if filed.moved is None:
                    apply.tidy(folder, filed, one.name)
            elif filed.status in ("taking", "released"):
                self._take(folder, apply, filed, one)
            elif filed.status == "seen":
                is_still = filed.id in rested
                if self._is_whole(filed, one, listed, is_still=is_still):
                    self._take(folder, apply, filed, one, is_still=is_still)

    def _note(
        self, listed: dict[str, RemoteFile], chosen: Sequence[RemoteFile]
    ) -> tuple[dict[str, Filed], frozenset[int]]:
        """Bring the ledger up to what lies there; return its files by name, and those that stand still."""
        of = self.of
        with self.holding() as db:
            known = {one.called(of.ring): one for one in hr_files.lying(db, of.connection)}
            for name, one in known.items():
                now = listed.get(name)
                if now is None or not (one.is_as(now) or one.status == "seen"):
                    hr_files.gone(db, one, Reason.FILE_GONE.value)
                elif not one.is_as(now):
                    hr_files.grown(db, one.id, now)
            still = {one.called(of.ring) for one in hr_files.lying(db, of.connection)}
            for new in chosen:
                if new.name not in still:
                    hr_files.see(db, of.connection, new, of.ring)
            rested = hr_files.rested(db, of.connection, of.patience) & {
                one.id for name, one in known.items() if name in listed and one.is_as(listed[name])
            }
            return {one.called(of.ring): one for one in hr_files.lying(db, of.connection)}, frozenset(rested)

    def _is_whole(self, filed: Filed, one: RemoteFile, listed: dict[str, RemoteFile], *, is_still: bool) -> bool:
        """Say whether a file may be read; the checksum that lies beside one is compared once both were fetched."""
        pickup = self.of.pickup
        if pickup.marker and not finished.is_marked(one, listed, pickup.marker):
            return False
        if pickup.checksum:
            beside = listed.get(one.name + pickup.checksum)
            if beside is None:
                self._wait(filed, _lacks(pickup.checksum), is_still=is_still)
            return beside is not None
        if pickup.marker:
            return True
        self.done.waiting += not is_still
        return is_still

    def _wait(self, filed: Filed, why: Rejected, *, is_still: bool) -> None:
        """Leave a file where it lies: somebody may write to it still, and once it stands still it is said why."""
        if not is_still:
            self.done.waiting += 1
            return
        with self.holding() as db:
            noted = hr_files.waits(db, filed.id, why.reason.value, why.detail)
        self.done.files.append(noted)
        if datetime.now(UTC) - noted.seen_at < SOON:
            self.done.again = AGAIN_SECONDS
        log.warning("hr.waits", connection=self.of.connection, run=filed.id, reason=why.reason.value)

    def _take(
        self, folder: Folder, apply: Application, filed: Filed, one: RemoteFile, *, is_still: bool = True
    ) -> None:
        place = Path(mkdtemp(prefix="coursewire-"))  # of this user alone
        try:
            path = place / f"file{''.join(Path(one.name).suffixes[-2:])}"
            path.touch(0o600)
            try:
                sha256 = folder.fetch(one.name, path, apply.still)
            except Rejected as error:
                self.done.trouble = error  # the others go on
                return
            listed = {other.name: other for other in folder.files()}
            if listed.get(one.name) != one or path.stat().st_size != one.size:
                self.done.waiting += 1  # somebody writes to it
                return
            # What was begun was proven then, and its content is known since.
            wrong = self._disproved(folder, listed, one, sha256, place / "sum") if filed.status == "seen" else None
            if wrong:
                self._wait(filed, wrong, is_still=is_still)
                return
            settled = apply.take(folder, filed, one, path, sha256)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        self.done.files.append(settled)
        log.info("hr.file", connection=self.of.connection, run=settled.id, status=settled.status)

    def _disproved(
        self, folder: Folder, listed: dict[str, RemoteFile], one: RemoteFile, sha256: bytes, path: Path
    ) -> Rejected | None:
        """Return why the checksum beside a file does not say that it is whole, None where it does or need not."""
        ending = self.of.pickup.checksum
        if not ending:
            return None
        beside = listed.get(one.name + ending)
        if beside is None:
            return _lacks(ending)
        said = None
        if beside.size <= checksum.LARGEST:
            try:
                folder.fetch(beside.name, path, lambda: None)
            except Rejected as error:
                return Rejected(Reason.CHECKSUM_MISSING, f"its {ending}: {error.detail}")
            said = checksum.said_in(path)
        if said is None:
            return Rejected(
                Reason.CHECKSUM_DIFFERS, f"its {ending} says no SHA-256 in one line, as sha256sum writes it"
            )
        if said != sha256:
            return Rejected(
                Reason.CHECKSUM_DIFFERS, f"its {ending} is of another content than the {one.size} bytes there"
            )
        return None


def _lacks(ending: str) -> Rejected:
    return Rejected(Reason.CHECKSUM_MISSING, f"no {ending} lies beside it")
