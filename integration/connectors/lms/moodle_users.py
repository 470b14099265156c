"""Moodle's users: found by number, e-mail or idnumber, and made known."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from integration.connectors.lms.moodle_consequences import Problem
from integration.connectors.lms.moodle_service import Service, apart, number, rows
from integration.errors import ConnectionBroken, Reason
from integration.model.contacts import Failed
from integration.model.enrollments import NewUser, RemoteUser, UserKey

FIND: Final = "core_user_get_users_by_field"
CREATE: Final = "core_user_create_users"
FIELDS: Final[Mapping[UserKey, str]] = MappingProxyType({"id": "id", "email": "email", "employee_id": "idnumber"})

_ADDRESS: Final = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
_NOT_IN_LOGINS: Final = re.compile(r"[^-._@a-z0-9]")
_NO_NAME: Final = "-"
_LONGEST_NAME: Final = 100


def find(service: Service, by: UserKey, values: Sequence[str]) -> dict[str, tuple[RemoteUser, ...]]:
    """Return the users found, by the value asked for. A value that Moodle refuses to look for is nobody's.

    Some databases under Moodle tell capitals from small letters, so an e-mail is asked for as it was given and in
    small letters. Raises as `Service.ask`, and ConnectionBroken where the token may not see what it looks up by.
    Source: Moodle, user/externallib.php.
    """
    asked: dict[str, list[str]] = defaultdict(list)
    for value in dict.fromkeys(values):
        if _can_be_asked(by, value.strip()):
            asked[_normal(by, value)].append(value)
    found: dict[str, list[RemoteUser]] = defaultdict(list)

    def send(keys: Sequence[str]) -> Any:
        spellings = dict.fromkeys(one for key in keys for one in (key, *map(str.strip, asked[key])))
        return service.ask(FIND, {"field": FIELDS[by], "values": list(spellings)}, records=len(keys))

    for keys, answer in apart(list(asked), send):
        if isinstance(answer, Problem):
            continue
        for row in rows(answer, FIND):
            found[_key_of(by, row, keys)].append(_user(row))
    return {value: tuple(found[key]) for key in found for value in asked.get(key, ())}


def create(service: Service, users: Sequence[NewUser], auth: str | None) -> dict[str, RemoteUser | Failed]:
    """Make users known, in as few calls as there are refusals; keyed by trace.

    `auth` is the plugin they log in by; without one Moodle makes a password and mails it to them. One that is refused
    alone is looked for, because Moodle does not say whether its login is taken. Raises as `Service.ask`; whoever was
    made before that is found by their e-mail the next time.
    """
    answers: dict[str, RemoteUser | Failed] = {}
    by_login: dict[str, NewUser] = {}
    for user in users:
        twin = by_login.setdefault(login(user.email), user)
        if twin is not user:
            answers[user.trace] = Failed(Reason.CONFLICT, f"the same login as {twin.trace}")
        elif not _ADDRESS.fullmatch(user.email.strip()):
            answers[user.trace] = Failed(Reason.INVALID_EMAIL, "Moodle takes no user without a valid e-mail")
            del by_login[login(user.email)]

    def send(part: Sequence[str]) -> Any:
        records = [_new(name, by_login[name], auth) for name in part]
        return service.ask(CREATE, {"users": records}, records=len(part), writes=True)

    for part, answer in apart(list(by_login), send):
        if isinstance(answer, Problem):
            answers[by_login[part[0]].trace] = _refused(service, part[0], by_login[part[0]], answer)
            continue
        for row in rows(answer, CREATE, writes=True):
            user_made = by_login.get(str(row.get("username")).lower())
            if user_made is not None:
                answers[user_made.trace] = RemoteUser(
                    number(row["id"]), user_made.email, user_made.full_name, user_made.employee_id
                )
    return answers


def login(email: str) -> str:
    """Return the login of a new user: the e-mail in small letters, without what Moodle leaves out of logins.

    Source: Moodle, PARAM_USERNAME.
    """
    return _NOT_IN_LOGINS.sub("", email.strip().lower())


def _new(name: str, user: NewUser, auth: str | None) -> dict[str, object]:
    first, _, last = (user.full_name or "").strip().rpartition(" ")
    # Moodle demands both, and both with something in them.
    first, last = (first.strip(), last) if first else (last or user.email.strip().partition("@")[0], _NO_NAME)
    return {
        "username": name,
        "email": user.email.strip(),
        "firstname": first[:_LONGEST_NAME],
        "lastname": last[:_LONGEST_NAME],
        "idnumber": user.employee_id,
        "auth": auth,
        "createpassword": None if auth else 1,
    }


def _refused(service: Service, name: str, user: NewUser, problem: Problem) -> Failed:
    """Return what the refusal of one new user means: their login or e-mail is taken, or it is not as it must be."""
    for field, value in (("username", name), ("email", user.email.strip())):
        answer = service.ask(FIND, {"field": field, "values": [value]}, records=1)
        for row in [] if isinstance(answer, Problem) else rows(answer, FIND):
            if str(row.get("email", "")).lower() == user.email.strip().lower():
                return Failed(Reason.CONFLICT, "there is a user with this e-mail", existing_id=number(row["id"]))
            return Failed(Reason.CONFLICT, f"the {field} belongs to a user whose e-mail is another or not shown")
    return Failed(problem.reason, problem.detail)


def _key_of(by: UserKey, row: Mapping[str, Any], keys: Sequence[str]) -> str:
    given = row.get(FIELDS[by])
    if given not in (None, ""):
        return _normal(by, str(given))
    if len(keys) == 1:
        return keys[0]
    raise ConnectionBroken(
        Reason.SCOPE_MISSING,
        f"Moodle does not show the {FIELDS[by]} of users to the token's user; give it moodle/user:viewalldetails and "
        "moodle/site:viewuseridentity, and name the field in showuseridentity",
    )


def _user(row: Mapping[str, Any]) -> RemoteUser:
    texts = {name: str(row[name]) for name in ("email", "fullname", "idnumber") if row.get(name)}
    gone = row.get("suspended") in (True, 1, "1") or row.get("confirmed") in (False, 0, "0")
    return RemoteUser(number(row["id"]), texts.get("email"), texts.get("fullname"), texts.get("idnumber"), not gone)


def _can_be_asked(by: UserKey, value: str) -> bool:
    """Say whether Moodle would look for this: one value that it would not spoils the call for all of them."""
    if by == "id":
        return bool(number(value))
    return bool(_ADDRESS.fullmatch(value)) if by == "email" else bool(value)


def _normal(by: UserKey, value: str) -> str:
    return value.strip() if by == "id" else value.strip().lower()
