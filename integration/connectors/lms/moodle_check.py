"""What `coursewire check` says about a Moodle site: reached, let in, and which functions the token lacks."""

from collections.abc import Callable
from typing import Any, Final

from integration.connectors.lms import moodle_enrollments, moodle_users
from integration.errors import ConnectionBroken, CoursewireError, Reason
from integration.ports import Finding

SITE: Final = "core_webservice_get_site_info"
COURSES: Final = "core_course_get_courses_by_field"
STATUS_OF: Final = "core_completion_get_course_completion_status"
ALWAYS: Final = (
    SITE,
    moodle_users.FIND,
    moodle_enrollments.COURSES_OF,
    moodle_enrollments.USERS_OF,
    moodle_enrollments.ENROL,
    moodle_enrollments.UNENROL,
    COURSES,
    STATUS_OF,
)
"""The functions that the token's service must hold, beside `core_user_create_users` where users are made known."""


def findings(where: str, site: Callable[[], Any], *, creates_users: bool) -> list[Finding]:
    """Return one finding per question. `site` reads what the site says of itself and of the token; raises nothing."""
    try:
        told = site()
    except ConnectionBroken as error:
        about = "the token" if error.reason is Reason.CREDENTIALS_REFUSED else "the web service"
        return [Finding(True, f"Moodle answers at {where}"), Finding(False, f"{about} is refused", error.detail)]
    except CoursewireError as error:
        advice = "see that base_url is the address of the site, with its sub-folder, and that this machine may call it"
        return [Finding(False, f"Moodle cannot be reached at {where}", f"{advice}. {error.detail} ({error.reason})")]
    listed = told.get("functions") if isinstance(told, dict) else None
    if not isinstance(listed, list):
        return [Finding(False, f"what answers at {where} is not as Moodle answers", "see that base_url is right")]
    held = {one.get("name") for one in listed if isinstance(one, dict)}
    needed = (*ALWAYS, *((moodle_users.CREATE,) if creates_users else ()))
    lacking = [
        Finding(False, f"the token may not call {name}", "add this function to the external service of the token")
        for name in needed
        if name not in held
    ]
    right = [Finding(True, f"Moodle answers at {where}"), Finding(True, "the token is accepted")]
    return [*right, *(lacking or [Finding(True, f"functions that the token may call: all {len(needed)} needed")])]
