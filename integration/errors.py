"""Errors grouped by consequence, each with a stable reason code.

The code is what the database, the logs, the metrics and `docs/reasons.md` share; the sentence beside it is for
people. Nothing personal ever goes into either.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something is in the state it is in. Stable: rename one only with a migration."""

    # --- the endpoint's answers
    UNKNOWN_CONNECTION = "unknown_connection"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    MISSING_SIGNATURE = "missing_signature"
    BAD_SIGNATURE = "bad_signature"
    BAD_TOKEN = "bad_token"  # noqa: S105 - a reason, not a secret
    BAD_TIMESTAMP = "bad_timestamp"
    STALE_TIMESTAMP = "stale_timestamp"
    MALFORMED_BODY = "malformed_body"
    USER_REFUSED = "user_refused"
    DATABASE_AWAY = "database_away"
    SECRET_UNREADABLE = "secret_unreadable"  # noqa: S105 - a reason, not a secret
    # --- what became of an event
    APPLIED = "applied"
    DUPLICATE_FACT = "duplicate_fact"
    NO_ROUTE = "no_route"
    UNKNOWN_TYPE = "unknown_type"
    ID_REUSE = "id_reuse"
    HOSTILE_JSON = "hostile_json"
    INVALID_EVENT = "invalid_event"
    MISSING_FIELD = "missing_field"
    NO_IDENTITY = "no_identity"
    INVALID_EMAIL = "invalid_email"
    EMAIL_TAKEN = "email_taken"
    AMBIGUOUS_PERSON = "ambiguous_person"
    EMPLOYEE_ID_TAKEN = "employee_id_taken"
    EXCLUDED = "excluded"
    CONNECTION_REMOVED = "connection_removed"
    CRASH_LOOP = "crash_loop"
    INTERNAL_ERROR = "internal_error"
    SEAL_KEY_MISSING = "seal_key_missing"
    IGNORED_BY_DECISION = "ignored_by_decision"
    ECHO = "echo"
    OLD_NEWS = "old_news"
    NOT_MAPPED = "not_mapped"
    UNKNOWN_CONTACT = "unknown_contact"
    DEAL_NOT_ASKED = "deal_not_asked"
    ERASED = "erased"
    OTHER_ACCOUNT = "other_account"
    NOTHING_LEARNED = "nothing_learned"
    # --- what became of a person's fields in one system
    WRITTEN = "written"
    UNCHANGED = "unchanged"
    UNKNOWN_PERSON = "unknown_person"
    PERSON_IGNORED = "person_ignored"
    NO_EMAIL = "no_email"
    CONTACT_SHARED = "contact_shared"
    CONTACT_GONE = "contact_gone"
    CONTACT_MERGED = "contact_merged"
    CONTACT_DELETED = "contact_deleted"
    PERSON_MERGED = "person_merged"
    ACCOUNT_GONE = "account_gone"
    FIELD_LOOP = "field_loop"
    CONFLICT = "conflict"
    INVALID_VALUE = "invalid_value"
    VALIDATION_RULE = "validation_rule"
    UNFIT_VALUE = "unfit_value"
    INVALID_PHONE = "invalid_phone"
    NO_LOOKUP_VALUE = "no_lookup_value"
    UNKNOWN_PROPERTY = "unknown_property"
    RATE_LIMITED = "rate_limited"
    DAILY_LIMIT = "daily_limit"
    SERVER_ERROR = "server_error"
    NETWORK_ERROR = "network_error"
    UNKNOWN_OUTCOME = "unknown_outcome"
    MALFORMED_ANSWER = "malformed_answer"
    BATCH_REJECTED = "batch_rejected"
    CREDENTIALS_REFUSED = "credentials_refused"
    SCOPE_MISSING = "scope_missing"
    LEASE_EXPIRED = "lease_expired"
    PAUSED = "paused"
    BUDGET_SPENT = "budget_spent"
    CIRCUIT_OPEN = "circuit_open"
    RULES_UNREADABLE = "rules_unreadable"
    GAVE_UP = "gave_up"
    # --- what became of an activity on a contact's timeline
    DELIVERED = "delivered"
    NO_CONTACT = "no_contact"
    RETRACTED = "retracted"
    ACTIVITY_REFUSED = "activity_refused"
    ACTIVITY_UNDEFINED = "activity_undefined"
    # --- what became of a role, and of an enrolment
    DECIDED = "decided"
    SETTLING = "settling"
    STORM_GUARD = "storm_guard"
    DEAL_READ = "deal_read"
    DEAL_GONE = "deal_gone"
    ENROLLED = "enrolled"
    NOT_OURS = "not_ours"
    UNKNOWN_LEARNER = "unknown_learner"
    AMBIGUOUS_LEARNER = "ambiguous_learner"
    UNKNOWN_COURSE = "unknown_course"
    ENROLLMENT_REFUSED = "enrollment_refused"
    # --- what became of a file, and of a row in one
    FILE_UNREADABLE = "file_unreadable"
    FILE_CUT = "file_cut"
    CHECKSUM_MISSING = "checksum_missing"
    CHECKSUM_DIFFERS = "checksum_differs"
    COLUMN_MISSING = "column_missing"
    ROW_UNREADABLE = "row_unreadable"
    ROW_INCOMPLETE = "row_incomplete"
    ROW_INVALID = "row_invalid"
    ROW_REFUSED = "row_refused"
    ROWS_DISAGREE = "rows_disagree"
    MASS_CHANGE = "mass_change"
    FILE_GONE = "file_gone"
    HOST_KEY_UNKNOWN = "host_key_unknown"


class CoursewireError(Exception):
    """The root of our errors: a reason code and a sentence for people, never a payload."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        """Keep `reason` for machines and `detail` (one sentence, nothing personal) for people."""
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class RetryLater(CoursewireError):
    """Try again, not before `after` seconds have passed (None: the caller's own back-off)."""

    def __init__(self, reason: Reason, detail: str = "", *, after: float | None = None) -> None:
        """`after` in seconds, as the other side asked for it."""
        super().__init__(reason, detail)
        self.after = after


class UnknownOutcome(RetryLater):
    """The request may or may not have taken effect: what we believe of the other side is void."""


class Rejected(CoursewireError):
    """Never again as it is: the row is dead until a person changes something."""


class BatchRejected(CoursewireError):
    """The whole batch was refused and no record was named: halve it until the bad one stands alone."""


class NeedsAttention(CoursewireError):
    """A person must decide: the row is parked with its evidence."""


class Ignored(CoursewireError):
    """Nothing to do, and that is right."""


class ConnectionBroken(CoursewireError):
    """Credentials refused: stop the connection, keep its backlog, alert."""


class Refused(CoursewireError):
    """The endpoint says no: HTTP status and reason, rendered as RFC 9457 problem JSON."""

    def __init__(self, status: int, reason: Reason, detail: str) -> None:
        """`status` is the HTTP status to answer with."""
        super().__init__(reason, detail)
        self.status = status


class ConfigError(Exception):
    """The configuration is wrong; the text says what, where, and what to write instead."""
