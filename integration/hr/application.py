"""A file that was fetched: known by its content, judged as a whole, asked about where it is too much, then told."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from integration.errors import Reason, Rejected
from integration.files.mapping import mapping_hash
from integration.files.reader import reader_of
from integration.files.row import Mark, Reader, Row
from integration.files.source import opened
from integration.hr import guard
from integration.hr.examination import Examination
from integration.hr.mapping import HrMapping
from integration.hr.rejections import Rejections
from integration.hr.translation import RowSaid, Translation
from integration.model.results import POLLED
from integration.ports import Folder, Received, RemoteFile
from integration.storage import hr_files, hr_rows, inbox
from integration.storage.base import be_patient
from integration.storage.hr_files import Filed

if TYPE_CHECKING:
    from integration.hr.collector import Collector

CHUNK: Final = 1_000
DEATHS: Final = 10
"""A file that ended so many workers, or could not be settled so often, is left alone."""
HOLD_SECONDS: Final = 20.0

Holding = Callable[[], AbstractContextManager[Connection]]


@dataclass
class Application:
    """Settles the files of one look. `holding` opens a transaction under the lease of the look."""

    of: "Collector"
    holding: Holding
    mapping: HrMapping
    held_at: float = field(default_factory=time.monotonic)

    def still(self) -> None:
        """Hold the folder for another while, where that is due. Raises LookTaken."""
        if time.monotonic() - self.held_at > HOLD_SECONDS:
            with self.holding():
                self.held_at = time.monotonic()

    def take(self, folder: Folder, filed: Filed, listed: RemoteFile, path: Path, sha256: bytes) -> Filed:
        """Settle a file: applied, held, rejected, or as one before. Raises LookTaken, and what a folder does."""
        if filed.sha256 not in (None, sha256):
            with self.holding() as db:  # another content of the same size and second
                hr_files.gone(db, filed, Reason.FILE_GONE.value)
                hr_files.see(db, filed.connection, listed, self.of.ring)
            return filed
        with self.holding() as db:
            filed = hr_files.take(db, filed.id, sha256, mapping_hash(self.mapping), self.of.pickup.mode)
            filed = self._compared(db, filed)
        if filed.status not in ("seen", "taking", "released"):
            return self.tidy(folder, filed, listed.name)
        rejections_path = path.with_name("rejected.csv")
        try:
            if filed.attempts > DEATHS:
                raise Rejected(Reason.CRASH_LOOP, "it ended every worker that took it")  # noqa: TRY301
            with Rejections.open(rejections_path) as rejections:
                filed = self._judged(filed, path, rejections)
            if filed.status == "held":
                return filed
        except Rejected as error:
            filed = self._reported(folder, filed, listed.name, rejections_path)
            with self.holding() as db:
                hr_rows.clear(db, filed.id)
                filed = hr_files.settle(
                    db, filed.id, "rejected", reason=error.reason.value, detail=_both(error.detail, filed.detail)
                )
            return self.tidy(folder, filed, listed.name)
        filed = self._told(filed, reader_of(path, self.mapping.file))
        filed = self._reported(folder, filed, listed.name, rejections_path)
        with self.holding() as db:
            hr_rows.clear(db, filed.id)
            filed = hr_files.settle(db, filed.id, "applied", detail=filed.detail)
        return self.tidy(folder, filed, listed.name)

    def _compared(self, db: Connection, filed: Filed) -> Filed:
        """Return a file as it stands once its content is known: whether one before it held the same."""
        before = hr_files.same_content(db, filed) if filed.status == "seen" else None
        if before is None:
            return filed
        if before.status == "held" and not before.lies:
            went_on = hr_files.goes_on(db, filed.id, before.id)
            hr_files.settle(db, before.id, "same", detail=f"it went on as file {filed.id}")
            passed = before.line > 1 or before.actor is not None
            return hr_files.settle(
                db, went_on.id, "taking" if passed and before.line > 1 else "released" if passed else "seen"
            )
        newest = hr_files.newest(db, filed.connection)
        is_news = (
            before.status == "applied"
            and newest is not None
            and newest.moment is not None
            and newest.sha256 != filed.sha256
            and filed.modified >= int(newest.moment.timestamp())
        )
        if is_news:
            return filed  # what was said once is said again, and after something else
        return hr_files.settle(
            db, filed.id, "same", reason=before.reason, detail=f"it holds the same as file {before.id}"
        )

    def _judged(self, filed: Filed, path: Path, rejections: Rejections) -> Filed:
        """Return a file as it may be applied, or held. Raises Rejected where nothing of it can be taken."""
        reader = reader_of(path, self.mapping.file)
        reader.require(self.mapping.columns())
        with self.holding() as db:
            hr_rows.clear(db, filed.id)
        rows = self._examination(filed).examine(reader, rejections, ends_whole=self._is_proven() or _ends_whole(path))
        with self.holding() as db:
            be_patient(db)
            for line in hr_rows.judge(db, filed.id):
                sentence = "another row says something else of the same employee at the same time"
                rejections.add(line, Reason.ROWS_DISAGREE, sentence)
            rejected = rejections.reasons.total()
            if rows and rejected == rows:
                most = rejections.reasons.most_common(1)[0][0]
                raise Rejected(most, f"none of its {rows} rows can be taken")
            if filed.status == "taking":
                return filed
            counted = hr_rows.count(db, filed.connection, filed.id)
            counts = {"rows": rows, "rejected": rejected, **counted._asdict()}
            before = hr_files.newest(db, filed.connection, full=True) if filed.mode == "full" else None
            stops = guard.stops(counted, before.counts.get("employees") if before else None, self.of.pickup.guard)
            if stops and filed.status != "released":
                return hr_files.settle(
                    db, filed.id, "held", reason=Reason.MASS_CHANGE.value, detail="; ".join(stops), counts=counts
                )
            if filed.mode == "delta":
                counts.pop("absent")
            return hr_files.settle(db, filed.id, "taking", counts=counts)

    def _is_proven(self) -> bool:
        """Say whether something else than the end of the last line says that a file was not cut off."""
        return self.of.pickup.checksum is not None or self.mapping.file.trailer is not None

    def _examination(self, filed: Filed) -> Examination:
        def stage(staged: list[hr_rows.Staged]) -> None:
            with self.holding() as db:
                hr_rows.stage(db, filed.id, staged)

        return Examination(
            translation=self._translation(filed),
            keys=self.of.keys,
            dated=any(one.issued_at for one in self.mapping.certificates),
            stage=stage,
        )

    def _translation(self, filed: Filed) -> Translation:
        assert filed.moment is not None  # noqa: S101 - it was taken
        return Translation(self.mapping, filed.moment)

    def _told(self, filed: Filed, reader: Reader) -> Filed:
        """Put what is news into the inbox, chunk by chunk, each with the mark behind it in one transaction."""
        translation = self._translation(filed)
        rows = reader.rows(Mark(filed.byte_offset, filed.line))
        while chunk := list(islice(rows, CHUNK)):
            said: dict[int, RowSaid] = {}
            for row in chunk:
                try:
                    if isinstance(row, Row):
                        said[row.line] = translation.said(row.values)
                except Rejected:
                    continue  # noted before
            with self.holding() as db:
                filed = self._tell(db, filed, said, chunk[-1].after)
        return filed

    def _tell(self, db: Connection, filed: Filed, said: dict[int, RowSaid], after: Mark) -> Filed:
        lines = sorted(said)
        news = sorted(hr_rows.news(db, filed.connection, filed.id, lines))
        told: list[Received] = []
        requests: list[str] = []
        for line in news:
            key = said[line].key(self.of.keys).hex()
            for place, one in enumerate(said[line].told()):
                content = said[line].content(self.of.keys, dated=True).hex()
                told.append(one.received(f"hr:{key}:{content}:{said[line].at.isoformat()}:{place}"))
                requests.append(f"hr:{filed.id}:line:{line}")
        inbox.tell(db, filed.connection, POLLED, told, self.of.ring, requests)
        hr_rows.keep(db, filed.connection, filed.id, lines)
        counts = {**filed.counts, "told": filed.counts.get("told", 0) + len(news)}
        return hr_files.advance(db, filed.id, after.offset, after.line, counts)

    def _reported(self, folder: Folder, filed: Filed, name: str, rejections: Path) -> Filed:
        """Write the rows that were rejected into the folder of rejected files, where there are any."""
        if not rejections.exists():
            return filed
        with rejections.open() as read:
            number = sum(1 for _ in read) - 1
        if number <= 0 or folder.put(self.of.pickup.rejected, f"{name}.rejected.csv", rejections):
            return filed
        return filed._replace(detail=_both(filed.detail, "the server does not let us write down its rejected rows"))

    def tidy(self, folder: Folder, filed: Filed, name: str) -> Filed:
        """Move a settled file and what belongs to it away; the ledger knows it where the server forbids that."""
        pickup = self.of.pickup
        target = pickup.rejected if filed.status == "rejected" else pickup.processed
        for ending in pickup.companions:
            folder.move(f"{name}{ending}", target, f"{filed.id}-{name}{ending}")
        moved = folder.move(name, target, f"{filed.id}-{name}")
        with self.holding() as db:
            hr_files.moved(db, filed.id, moved=moved)
        return filed._replace(moved=moved, lies=not moved)


def _both(one: str | None, other: str | None) -> str | None:
    return "; ".join(filter(None, (one, other))) or None


def _ends_whole(path: Path) -> bool:
    """Say whether the last line of a file has its end."""
    last = b""
    with opened(path) as stream:
        while block := stream.read(1 << 18):
            last = block[-1:]
    return last in (b"\n", b"\r")
