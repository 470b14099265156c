"""From the folder of HR to the contact, through the real processes: beat, worker, and the one beside it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest

from integration.hr.collector import COLLECT_FILES
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.embedded.servers import EmbeddedServers
from tests.faults.installation import Installation
from tests.forked import run_command
from tests.processes import gone, until
from tests.sftp import Drop

MAPPING = """
fields:
  employee_id: WorkerID
  email: Mail
  job_title: Title
"""
HR = """
  hr:
    system: hr_files
    base_url: {url}
    credentials: {{key: {{file: {key}}}}}
    files: {{host_key: "{pin}", mapping: hr.yaml, mode: full, marker: .done}}
    poll: {{every: hour, at: "00:{minute:02}"}}
"""
ROUTE = "  - {from: hr, to: crm, flows: {employment: realtime}, unknown_person: create}\n"
RULES = """
system: hubspot
contact:
  job_title: {property: jobtitle, type: string}
"""
HEAD = "WorkerID,Mail,Title\n"


class Company:
    """A company whose HR leaves files on a server, and whose CRM shows what they say."""

    def __init__(self, place: Path, crm: HubSpotSandbox, drop: Drop, home: Installation) -> None:
        """Nothing runs yet but the two systems."""
        self.place, self.crm, self.drop, self.home = place, crm, drop, home

    def coursewire(self, *words: str) -> str:
        """Run a command; return what it printed."""
        done = run_command(words, env=self.home.environment, cwd=self.place)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def leave(self, name: str, text: str) -> None:
        """Let HR leave a whole file."""
        self.drop.put(name, text)
        self.drop.put(f"{name}.done", "")

    def look(self) -> None:
        """Let the folder be due, and what a dead process has held be free."""
        with psycopg.connect(self.home.database_url) as db:
            db.execute("UPDATE hr_looks SET due_at = now(), lease_until = now()")

    def two_hours_later(self) -> None:
        """Let the first rules be older than the last full hour, at which the folder is due by the clock."""
        with psycopg.connect(self.home.database_url) as db:
            db.execute("UPDATE rule_sets SET published_at = published_at - %s", [timedelta(hours=2)])

    def title(self, email: str) -> str | None:
        """Return the title that the CRM shows."""
        contact = self.crm.contact(email)
        return contact["properties"].get("jobtitle") if contact else None

    def collecting(self) -> list[psutil.Process]:
        """Return the process that collects, if there is one."""
        started = psutil.Process(self.home.pid("worker")).children()
        return [one for one in started if COLLECT_FILES in one.cmdline()]


@pytest.fixture
def company(tmp_path: Path, servers: EmbeddedServers, database_url: str, master_keys: str) -> Iterator[Company]:
    """The four roles under `up`, with rules that show titles; the folder of HR is empty."""
    (tmp_path / "server").mkdir()
    settings = {"database_url": database_url, "broker_url": servers.broker_url, "master_keys": master_keys}
    with HubSpotSandbox(token="sandbox-token") as crm, Drop(tmp_path / "server").running() as drop:
        home = Installation(tmp_path, crm.url, **settings)
        made = Company(tmp_path, crm, drop, home)
        hr = HR.format(url=drop.url, key=drop.key_file, pin=drop.pin, minute=0)
        path = tmp_path / "coursewire.yaml"
        path.write_text(path.read_text("utf-8").replace("\nroutes:", f"{hr}routes:") + ROUTE, "utf-8")
        (tmp_path / "hr.yaml").write_text(MAPPING)
        (tmp_path / "rules").mkdir()
        (tmp_path / "rules" / "crm.yaml").write_text(RULES)
        try:
            home.start()
            made.coursewire("rules", "publish", "rules", "--yes")
            yield made
        finally:
            home.stop()


def test_what_hr_leaves_in_a_folder_is_on_the_contact(company: Company) -> None:
    """A new file each time the clock says so; one whose worker was killed under it is taken all the same."""
    people = [f"p{n}@example.com" for n in range(300)]
    company.leave("staff-1.csv", HEAD + "".join(f"00{n},{one},SDR\n" for n, one in enumerate(people)))
    company.two_hours_later()
    until(lambda: all(company.title(one) == "SDR" for one in (people[0], people[-1])), 90)
    until(lambda: company.drop.names("processed") == ["staff-1.csv", "staff-1.csv.done"])

    company.leave("staff-2.csv", HEAD + "".join(f"00{n},{one},AE\n" for n, one in enumerate(people)))
    company.look()
    until(company.collecting, 60)
    [beside] = company.collecting()
    company.home.signal("worker")
    until(lambda: gone(beside.pid))
    company.look()
    until(lambda: all(company.title(one) == "AE" for one in (people[0], people[-1])), 90)
    assert '"status": "applied"' in company.coursewire("hr", "list", "--json")
