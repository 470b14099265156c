"""Which courses of an LMS anything here names: those of its events, and those of pathways."""

from sqlalchemy import Connection

from integration.storage import courses
from mappings import store


def named_courses(db: Connection, connection: str) -> list[str]:
    """Return the ids of a connection's courses that an event, a decision or a published pathway names, in order."""
    pathways = store.active(db).pathways.pathways.values()
    taught = {course.course.id for one in pathways for course in one.courses if course.course.connection == connection}
    return sorted(taught | {course.external_id for course in courses.listed(db, connection)})
