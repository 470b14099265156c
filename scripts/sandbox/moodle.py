"""A Moodle site over real HTTP: the web service functions that enrol people, and the plugin that tells of them.

Written from Moodle's own code, not from the connector it judges: all refusals under HTTP 200, all of a call or nothing,
null where a write is done.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["MoodleSite", "WebserviceError", "event", "serving"]

_STEP = re.compile(r"\[([^\]]*)\]")
_SUSPENDED, _ACTIVE = 1, 0


class WebserviceError(Exception):
    """What a function refuses, by its exception class and code."""

    def __init__(self, code: str, exception: str = "moodle_exception") -> None:
        """`code` is what clients read."""
        super().__init__(code)
        self.code = code
        self.exception = exception


class MoodleSite:
    """Users, courses and manual enrolments of one site. `calls` counts the functions that were called.

    `enrolments` holds 0 (active) or 1 (suspended) by user and course, `writes` each enrolment that was written.
    `completed` says when somebody has met the criteria of a course, in seconds since 1970; courses of `no_criteria`
    have none. `closed` are courses without manual enrolment; `down` answers everything with a page instead of JSON.
    """

    def __init__(self, token: str, courses: dict[int, str]) -> None:
        """Courses by number; 1 is the front page and comes by itself."""
        self.token = token
        self.courses = {1: "Front page", **courses}
        self.users: dict[int, dict[str, Any]] = {}
        self.enrolments: dict[tuple[int, int], int] = {}
        self.writes: list[tuple[int, int, int | None]] = []
        self.closed: set[int] = set()
        self.completed: dict[tuple[int, int], int] = {}
        self.no_criteria: set[int] = set()
        self.calls: Counter[str] = Counter()
        self.down = False
        self._lock = threading.Lock()

    def add_user(self, email: str, *, username: str | None = None, idnumber: str = "") -> int:
        """Make somebody known, and return their number."""
        number = len(self.users) + 2
        login = (username or email).lower()
        self.users[number] = {"id": number, "username": login, "email": email, "fullname": email, "idnumber": idnumber}
        return number

    def answer(self, form: list[tuple[str, str]]) -> Any:
        """Return what the web service answers to a form."""
        given = _as_php(form)
        with self._lock:
            try:
                return self._called(given)
            except WebserviceError as refused:
                return {"exception": refused.exception, "errorcode": refused.code, "message": "Refused"}

    def _called(self, given: dict[str, Any]) -> Any:
        if given.pop("wstoken", None) != self.token:
            raise WebserviceError("invalidtoken")
        function = str(given.pop("wsfunction", ""))
        self.calls[function] += 1
        known: Callable[[dict[str, Any]], Any] | None = getattr(self, f"_{function}", None)
        if known is None:
            raise WebserviceError("accessexception", "webservice_access_exception")
        return known(given)

    def _core_webservice_get_site_info(self, _: dict[str, Any]) -> Any:
        names = [name[1:] for name in dir(self) if name.startswith(("_core_", "_enrol_"))]
        return {"sitename": "Sandbox", "functions": [{"name": name, "version": "2024100700"} for name in names]}

    def _core_user_get_users_by_field(self, given: dict[str, Any]) -> Any:
        values = _list(given.get("values"))
        if given["field"] == "email" and not all("@" in value for value in values):
            raise WebserviceError("invalidparameter", "invalid_parameter_exception")
        return [user for user in self.users.values() if str(user[given["field"]]) in values]

    def _core_user_create_users(self, given: dict[str, Any]) -> Any:
        before, made = dict(self.users), []
        for wanted in _list(given["users"]):
            taken = {user["username"] for user in self.users.values()}
            mails = {user["email"].lower() for user in self.users.values()}
            blank = not (wanted["firstname"].strip() and wanted["lastname"].strip())
            if blank or wanted["username"] in taken or wanted["email"].lower() in mails:
                self.users = before
                raise WebserviceError("invalidparameter", "invalid_parameter_exception")
            number = self.add_user(wanted["email"], username=wanted["username"], idnumber=wanted.get("idnumber", ""))
            made.append({"id": number, "username": wanted["username"]})
        return made

    def _core_enrol_get_users_courses(self, given: dict[str, Any]) -> Any:
        mine = [course for (user, course), off in self.enrolments.items() if user == int(given["userid"]) and not off]
        return [{"id": course, "fullname": self.courses[course], "visible": 1} for course in mine]

    def _core_enrol_get_enrolled_users(self, given: dict[str, Any]) -> Any:
        options = {one["name"]: int(one["value"]) for one in _list(given.get("options")) if one["value"].isdigit()}
        wanted = _SUSPENDED if options.get("onlysuspended") else None
        course = self._course(given["courseid"])
        found = sorted(u for (u, c), off in self.enrolments.items() if c == course and wanted in (None, off))
        start = options.get("limitfrom", 0)
        shown = found[start : start + options.get("limitnumber", 10**6)]
        return [{name: self.users[user][name] for name in ("id", "fullname", "email", "idnumber")} for user in shown]

    def _core_completion_get_course_completion_status(self, given: dict[str, Any]) -> Any:
        course, user = self._course(given["courseid"]), int(given["userid"])
        if (user, course) not in self.enrolments:
            raise WebserviceError("usernotenroled")
        if course in self.no_criteria:
            raise WebserviceError("nocriteriaset")
        at = self.completed.get((user, course))
        met = {"type": 4, "title": "Activity", "status": "Yes" if at else "No", "complete": bool(at), "details": {}}
        early = met | {"complete": True, "status": "Yes", "timecompleted": 86_400}
        criteria = [early, met | {"timecompleted": at}]
        return {"completionstatus": {"completed": bool(at), "aggregation": 1, "completions": criteria}, "warnings": []}

    def _enrol_manual_enrol_users(self, given: dict[str, Any]) -> Any:
        def enrol(one: dict[str, str], user: int, course: int) -> None:
            if "roleid" not in one:
                raise WebserviceError("invalidparameter", "invalid_parameter_exception")
            state = _SUSPENDED if one.get("suspend", "0") == "1" else _ACTIVE
            self.enrolments[user, course] = state
            self.writes.append((user, course, state))

        return self._all_or_nothing(given, enrol)

    def _enrol_manual_unenrol_users(self, given: dict[str, Any]) -> Any:
        def unenrol(_: dict[str, str], user: int, course: int) -> None:
            self.enrolments.pop((user, course), None)
            self.writes.append((user, course, None))

        return self._all_or_nothing(given, unenrol)

    def _core_course_get_courses_by_field(self, _: dict[str, Any]) -> Any:
        listed = [{"id": number, "fullname": name, "visible": 1} for number, name in self.courses.items()]
        return {"courses": listed, "warnings": []}

    def _all_or_nothing(self, given: dict[str, Any], act: Callable[[dict[str, str], int, int], None]) -> None:
        before, written = dict(self.enrolments), len(self.writes)
        try:
            for one in _list(given["enrolments"]):
                act(one, *self._open(one))
        except WebserviceError:
            self.enrolments = before
            del self.writes[written:]
            raise

    def _open(self, one: dict[str, str]) -> tuple[int, int]:
        course = self._course(one["courseid"])
        if course in self.closed:
            raise WebserviceError("wsnoinstance")
        if int(one["userid"]) not in self.users:
            raise WebserviceError("codingerror", "coding_exception")
        return int(one["userid"]), course

    def _course(self, given: str) -> int:
        if int(given) not in self.courses:
            raise WebserviceError("invalidrecord", "dml_missing_record_exception")
        return int(given)


def event(name: str, *, learner: int, course: int, at: int, token: str, **more: Any) -> bytes:
    """Return the body that the plugin local_webhooks posts for an event; `at` in seconds since 1970, actor the cron."""
    body = {"eventname": name, "userid": "0", "relateduserid": str(learner), "courseid": str(course), "objectid": None}
    return orjson.dumps(
        body | {"timecreated": at, "other": None, "host": "sandbox", "token": token, "extra": ""} | more
    )


@contextmanager
def serving(site: MoodleSite, folder: str = "/moodle") -> Iterator[str]:
    """Serve a site on the loopback while the block runs, and yield its address."""

    async def rest(request: Request) -> Response:
        if site.down:
            return Response("<html>This site is undergoing maintenance</html>", 503, media_type="text/html")
        form = parse_qsl((await request.body()).decode(), keep_blank_values=True)
        return Response(orjson.dumps(await run_in_threadpool(site.answer, form)), media_type="application/json")

    app = Starlette(routes=[Route(f"{folder}/webservice/rest/server.php", rest, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{folder}"
    finally:
        server.should_exit = True
        thread.join(5)


def _as_php(form: list[tuple[str, str]]) -> dict[str, Any]:
    """Return a form as PHP makes nested arrays of it: `a[0][b]=c`; lists are dicts by number."""
    found: dict[str, Any] = {}
    for name, value in form:
        first, _, rest = name.partition("[")
        keys = [first, *_STEP.findall(f"[{rest}" if rest else "")]
        place = found
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    return found


def _list(given: Any) -> list[Any]:
    return [given[key] for key in sorted(given, key=int)] if isinstance(given, dict) else []
