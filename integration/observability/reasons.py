"""Every reason code in words: what happened, and what to do next. `docs/reasons.md` shows the same table.

Written for the person who looks at a stuck record. Nothing here names a customer, an address or a value.
"""

import re
from typing import NamedTuple

from integration.errors import Reason


class Words(NamedTuple):
    """A reason for people: two sentences, each complete."""

    happened: str
    next: str

    def next_for(self, name: int | str) -> str:
        """Return what to do next about one event or person, its name in place of the word ID."""
        return about(self.next, name)


_NOTHING = "Nothing to do."
_BY_ITSELF = "Nothing to do: it is tried again by itself."

WORDS: dict[Reason, Words] = {
    # --- the endpoint's answers
    Reason.UNKNOWN_CONNECTION: Words(
        "A webhook came for a connection that takes none.",
        "Correct the address at the sender, or add the connection to the connections file.",
    ),
    Reason.BODY_TOO_LARGE: Words(
        "A webhook's body was larger than the limit of the endpoint.",
        "Have the sender split it, or import it from a file.",
    ),
    Reason.BODY_TOO_SLOW: Words(
        "A webhook's body did not arrive in time.",
        "Look at the network or proxy in between; the sender will send it again.",
    ),
    Reason.UNSUPPORTED_MEDIA_TYPE: Words(
        "A webhook said that its body is no JSON.",
        "Have the sender set content-type to application/json.",
    ),
    Reason.MISSING_SIGNATURE: Words(
        "A webhook came without the headers that prove who sent it.",
        "Switch signing on at the sender, and see that no proxy drops the headers.",
    ),
    Reason.BAD_SIGNATURE: Words(
        "A webhook was signed with a secret that this connection does not have, or changed on its way.",
        "Compare the secret at the sender with the one that webhook.secrets names, and where the sender signs the "
        "address it calls, as HubSpot does, that one with webhook.public_url.",
    ),
    Reason.BAD_TOKEN: Words(
        "A request came without a bearer token that this connection knows.",
        "Compare the token at the sender with those that webhook.secrets names; `coursewire check` says whether they "
        "can be read.",
    ),
    Reason.BAD_TIMESTAMP: Words(
        "A webhook's timestamp is no whole number.",
        "Have the sender write the header webhook-timestamp as whole seconds since 1970; HubSpot writes milliseconds.",
    ),
    Reason.STALE_TIMESTAMP: Words(
        "A webhook's timestamp is too far from the clock of this machine.",
        "Set both clocks by NTP; an old request that somebody sent again is rightly refused.",
    ),
    Reason.MALFORMED_BODY: Words(
        "A webhook's body is not what its format demands.",
        "Have the sender send one whole JSON object.",
    ),
    Reason.USER_REFUSED: Words(
        "A SCIM request was refused; nothing of it was done, and its answer says why.",
        "Read the answer in the log of the identity provider. Some refusals are usual: 404 and 409 tell it what is "
        "here.",
    ),
    Reason.DATABASE_AWAY: Words(
        "The endpoint could not reach Postgres and accepted nothing.",
        "Run `coursewire check`; the sender will send it again.",
    ),
    Reason.SECRET_UNREADABLE: Words(
        "The endpoint could not read the secret of this connection.",
        "Run `coursewire check` and put the secret where it says.",
    ),
    # --- what became of an event
    Reason.APPLIED: Words("The event became a fact about the person, or had us look at their contact.", _NOTHING),
    Reason.DUPLICATE_FACT: Words("The event said what was known already.", _NOTHING),
    Reason.NO_ROUTE: Words(
        "No route carries events of this flow away from their connection.",
        "Add the flow to a route in the connections file, if it should go somewhere.",
    ),
    Reason.UNKNOWN_TYPE: Words(
        "The event is of a type that has no meaning here.",
        "Nothing to do; switch the type off at the sender to save the traffic.",
    ),
    Reason.ID_REUSE: Words(
        "The sender used one id for two different bodies; the second one was kept and not applied.",
        "Read it with `coursewire events show ID --reveal`, then apply it with "
        "`coursewire parked resolve ID --release` or drop it with `--ignore`.",
    ),
    Reason.HOSTILE_JSON: Words(
        "The body is JSON that strict readers refuse: nested too deeply, NaN, or broken text.",
        "Have the sender repair it and send it under a new id, or correct it here: `coursewire dead edit ID`.",
    ),
    Reason.INVALID_EVENT: Words(
        "A field of the event has a value that it cannot have; the detail names the field.",
        "Correct it with `coursewire dead edit ID`, or have the sender repair it and send it under a new id.",
    ),
    Reason.MISSING_FIELD: Words(
        "A field that the event needs is absent; the detail names it.",
        "Add it with `coursewire dead edit ID`, or have the sender add it and send the event under a new id.",
    ),
    Reason.NO_IDENTITY: Words(
        "The learner is not known here and came without an e-mail.",
        "Decide whose event it is: `coursewire parked resolve ID --person PERSON`, or `--new-person`.",
    ),
    Reason.INVALID_EMAIL: Words(
        "An e-mail is no address that mail can be sent to: its property was left out, or the event waits, as its "
        "learner is not known.",
        "Correct the e-mail in the LMS; a parked event needs a decision: "
        "`coursewire parked resolve ID --person PERSON`, or `--new-person`.",
    ),
    Reason.EMAIL_TAKEN: Words(
        "The learner's e-mail belongs to a person whom the same LMS calls otherwise: a new login, or somebody else.",
        "Decide: `coursewire parked resolve ID --person PERSON` where they are one human, else `--new-person`.",
    ),
    Reason.AMBIGUOUS_PERSON: Words(
        "Several people could be the learner.",
        "Decide which one: `coursewire parked resolve ID --person PERSON`, or `--new-person`.",
    ),
    Reason.EMPLOYEE_ID_TAKEN: Words(
        "The LMS reported an employee id that belongs to another person, so it was not taken over.",
        "Correct the employee id in the LMS; the next event takes it over. Everything else is written.",
    ),
    Reason.EXCLUDED: Words(
        "The identity rules leave this learner out, so nothing of them is written to a CRM.",
        "Nothing to do, unless that is not meant: then correct the identity rules of the learning system and publish.",
    ),
    Reason.CONNECTION_REMOVED: Words(
        "The connection is not in the connections file any more: nobody can read its events, compare its contacts or "
        "ask it.",
        "Nothing, if that is meant. Else add it again: comparisons and polls begin at their times, events go on after "
        "`coursewire parked release --reason connection_removed`. Drop an event: "
        "`coursewire parked resolve ID --ignore`.",
    ),
    Reason.CRASH_LOOP: Words(
        "Three workers ended while they had this one record alone; it was set aside to save the others.",
        "Look for the end of a worker in the logs and report it; once it is mended, run `coursewire dead replay ID`.",
    ),
    Reason.INTERNAL_ERROR: Words(
        "The program failed on this one record; the rest went on.",
        "Look for the traceback in the worker's log and report it; once it is mended, run `coursewire dead replay ID`.",
    ),
    Reason.SEAL_KEY_MISSING: Words(
        "A sealed value does not open with the master keys of this process.",
        "Add the key that is missing to COURSEWIRE_MASTER_KEYS of every process, behind the newest one, then run "
        "`coursewire parked release --reason seal_key_missing`.",
    ),
    Reason.IGNORED_BY_DECISION: Words("A person decided that this event is not to be applied.", _NOTHING),
    Reason.ECHO: Words("The CRM said what we believe of the contact: most often our own write.", _NOTHING),
    Reason.OLD_NEWS: Words("The CRM said what happened before we last looked at the contact.", _NOTHING),
    Reason.NOT_MAPPED: Words(
        "The CRM said that a property changed which no rule fills, or of a contact that is not written.",
        "Nothing to do; subscribe to fewer properties there to save the traffic.",
    ),
    Reason.DEAL_NOT_ASKED: Words(
        "The CRM said something of a deal, and no role rule asks for deals, so it was not read.",
        "Nothing to do; end the subscription to deals there to save the traffic.",
    ),
    Reason.UNKNOWN_CONTACT: Words(
        "The CRM said something of a contact that stands for nobody here, and nobody waits for one.", _NOTHING
    ),
    Reason.ERASED: Words(
        "The event is about a person who was erased, so it was not applied and its payload was dropped.", _NOTHING
    ),
    Reason.OTHER_ACCOUNT: Words(
        "The event is of another account in which the same app is installed.",
        "Nothing to do, unless options.portal_id (HubSpot) or options.root_account_uuid (Canvas) names the wrong "
        "account.",
    ),
    Reason.NOTHING_LEARNED: Words(
        "The event is of a type that is taken, and this one says nothing of a learner that may be kept; the detail "
        "says why.",
        _NOTHING,
    ),
    # --- what became of a person's fields in one system
    Reason.WRITTEN: Words("The fields were written.", _NOTHING),
    Reason.UNCHANGED: Words("The system held these values already, so no call was spent.", _NOTHING),
    Reason.UNKNOWN_PERSON: Words(
        "The system does not know this person, and the route says to hold them.",
        "Create the contact there, and it is found within the day (mostly the hour); or set unknown_person: create for "
        "the route, restart, and run `coursewire parked release --reason unknown_person`.",
    ),
    Reason.PERSON_IGNORED: Words(
        "The system does not know this person, and the route says to ignore such people, or the identity rules do.",
        "Nothing to do, unless that is not meant: then set unknown_person there to hold or create.",
    ),
    Reason.NO_EMAIL: Words(
        "The contact would have to be created, which needs an e-mail, and none is known.",
        "Add the person's e-mail in the LMS, or create the contact by hand and run `coursewire parked resolve ID`.",
    ),
    Reason.CONTACT_SHARED: Words(
        "The contact that was found stands for another person already.",
        "Compare the two people, correct the e-mail or the LMS id on the contact, and run "
        "`coursewire parked resolve ID`.",
    ),
    Reason.CONTACT_GONE: Words("The contact was deleted on the other side; it is looked for anew.", _BY_ITSELF),
    Reason.CONTACT_MERGED: Words(
        "The contact was merged into another one on the other side; it is read anew.", _BY_ITSELF
    ),
    Reason.CONTACT_DELETED: Words(
        "The contact was deleted on the other side, and contacts that were deleted stay so.",
        "Restore it there, or create another one with this person's e-mail: it is found by itself, or at once with "
        "`coursewire parked resolve ID`.",
    ),
    Reason.PERSON_MERGED: Words(
        "The person became one with another, because the system merged their contacts; nothing is due for them.",
        _NOTHING,
    ),
    Reason.ACCOUNT_GONE: Words(
        "The company was deleted on the other side; its contacts say where they are when they are read.",
        _NOTHING,
    ),
    Reason.FIELD_LOOP: Words(
        "Somebody over there put a property back each time it was written, so it is left alone for a day.",
        "Look at the contact's history for who changes it, mostly a workflow; switch that off, or let the CRM own the "
        "property in the field rules.",
    ),
    Reason.CONFLICT: Words(
        "A value that must be unique belongs to another contact.",
        "Find the other contact that has this `lms_user_id` or e-mail, and correct or merge the two; it is looked at "
        "again by itself, or at once with `coursewire parked resolve ID`.",
    ),
    Reason.INVALID_VALUE: Words(
        "The system refuses a value; the detail names the property.",
        "Correct the property's type or options there, or map another property in the field rules, then run "
        "`coursewire dead replay ID`.",
    ),
    Reason.VALIDATION_RULE: Words(
        "A rule that the customer has for these records refuses the write; the detail says which property it demands.",
        "Fill that property there, or except integrations from the rule, then run `coursewire dead replay ID`.",
    ),
    Reason.UNFIT_VALUE: Words(
        "A value cannot become what the field rules ask for, so its property was left out; the detail says why.",
        "Correct the value in the LMS, or the transforms of the field in the rules; the other fields are written.",
    ),
    Reason.INVALID_PHONE: Words(
        "A telephone number is none that can exist, so its property was left out.",
        "Correct it in the LMS, or give the transform e164 the country of numbers without +; the other fields are "
        "written.",
    ),
    Reason.NO_LOOKUP_VALUE: Words(
        "A value is not in the lookup of its field rule, so its property was left out.",
        "Add the value to the lookup, or the key default for all others; the other fields are written.",
    ),
    Reason.UNKNOWN_PROPERTY: Words(
        "A property does not exist there, or may not be written.",
        "Create the property, then run `coursewire connections resume CONNECTION`; by itself it is tried again each "
        "hour. The other fields are written meanwhile.",
    ),
    Reason.RATE_LIMITED: Words("The system asked us to slow down.", _BY_ITSELF),
    Reason.DAILY_LIMIT: Words(
        "The daily number of calls of the account is used up.",
        "It goes on after midnight there; raise the limit, or move flows to nightly, if this is often so.",
    ),
    Reason.SERVER_ERROR: Words(
        "The system answered with a fault of its own.",
        "It is tried again by itself; look at the vendor's status page if it lasts.",
    ),
    Reason.NETWORK_ERROR: Words(
        "The system could not be reached.",
        "It is tried again by itself; run `coursewire check` if it lasts.",
    ),
    Reason.UNKNOWN_OUTCOME: Words(
        "The answer to a write was lost, so the contact is read before anything is sent again.", _BY_ITSELF
    ),
    Reason.MALFORMED_ANSWER: Words(
        "The system's answer was not what its documentation says.",
        "It is tried again by itself; see that base_url leads to the system and not to a proxy's page.",
    ),
    Reason.BATCH_REJECTED: Words(
        "The system refused the record without saying why, even when it was sent alone.",
        "Compare the person's fields with what the properties take (the detail holds what the system said), mend that, "
        "and run `coursewire dead replay ID`.",
    ),
    Reason.CREDENTIALS_REFUSED: Words(
        "The system refuses our credentials, so all calls to it rest; its backlog waits.",
        "Put a valid token where the connection's credentials point; it is tried again every minute.",
    ),
    Reason.SCOPE_MISSING: Words(
        "The credentials are valid but lack a permission, so all calls to the system rest; its backlog waits.",
        "Grant the permission that the worker's log or `coursewire check` names; it is tried again every minute.",
    ),
    Reason.LEASE_EXPIRED: Words("A worker ended in the middle of its work.", _BY_ITSELF),
    Reason.PAUSED: Words("The connection was paused before this record's turn came.", _BY_ITSELF),
    Reason.BUDGET_SPENT: Words(
        "The calls that the system allows us are spent for the moment, so this record waits its turn.", _BY_ITSELF
    ),
    Reason.CIRCUIT_OPEN: Words(
        "The system failed several times in a row, so it is left alone for a while and then tried with one call.",
        _BY_ITSELF,
    ),
    Reason.RULES_UNREADABLE: Words(
        "The published rules hold something that this version of coursewire does not know, so nothing is written.",
        "Install the version that published them on every machine; what waits then goes out by itself.",
    ),
    Reason.GAVE_UP: Words(
        "The record failed for three days while the system was there; the detail names the last trouble.",
        "Read the tries with `coursewire dead show ID`, mend the cause, and run `coursewire dead replay ID`.",
    ),
    # --- what became of an activity on a contact's timeline
    Reason.DELIVERED: Words("The activity is on the contact's timeline.", _NOTHING),
    Reason.NO_CONTACT: Words(
        "The activity waits for its contact, which the system does not have yet, or not any more.",
        "Nothing to do here: it goes out when the contact is found or created; `coursewire person show` says why that "
        "is not so.",
    ),
    Reason.RETRACTED: Words(
        "The learning system took the fact back before the activity was written, so it is not written.", _NOTHING
    ),
    Reason.ACTIVITY_REFUSED: Words(
        "The token may not write activities, or the account's tier has no custom events; contacts are written as ever, "
        "the activities wait.",
        "Grant what `coursewire check` names, or set activity: note for the connection and restart; then run "
        "`coursewire connections resume CONNECTION`, or wait: it is tried every few minutes.",
    ),
    Reason.ACTIVITY_UNDEFINED: Words(
        "The custom event that activities are written as is not defined in the account, so the activities wait; "
        "contacts are written as ever.",
        "Run `coursewire check --apply`, then `coursewire connections resume CONNECTION`, or wait: it is tried every "
        "few minutes.",
    ),
    # --- what became of a role, and of an enrolment
    Reason.DECIDED: Words(
        "The role was read, and the pathways that it deserves are assigned.",
        _NOTHING,
    ),
    Reason.SETTLING: Words(
        "The role was changed a moment ago, and is left alone until it has settled, so that a slip enrols nobody.",
        _BY_ITSELF,
    ),
    Reason.STORM_GUARD: Words(
        "More people changed roles or left within an hour than the guard lets through; this one waits for "
        "somebody's word.",
        "If that is meant, run `coursewire parked release --reason storm_guard`; if not, mend the roles in the CRM, "
        "and who has left in HR: where it is as before, they leave by themselves.",
    ),
    Reason.DEAL_READ: Words(
        "The deal was read: which stages it has reached is known, and of which contacts it is.",
        _NOTHING,
    ),
    Reason.DEAL_GONE: Words(
        "The deal is not in the CRM any more; the stages that it had reached before still count.",
        _NOTHING,
    ),
    Reason.ENROLLED: Words(
        "The enrolment is as the pathways want it.",
        _NOTHING,
    ),
    Reason.NOT_OURS: Words(
        "The enrolment is not wanted any more, and was not made by a rule of ours, so it stays as it is.",
        _NOTHING,
    ),
    Reason.UNKNOWN_LEARNER: Words(
        "The learning system does not know this person, and may not be told to create them.",
        "Create the user there with the person's e-mail, which is found within the day; or set create_users: true in "
        "the connection's options, restart, and run `coursewire parked release --reason unknown_learner`.",
    ),
    Reason.AMBIGUOUS_LEARNER: Words(
        "Several users of the learning system have this person's e-mail or employee id.",
        "Leave one of them active there; it is looked at again by itself.",
    ),
    Reason.UNKNOWN_COURSE: Words(
        "The learning system does not have this course, or does not let us enrol in it.",
        "Correct the course in the pathway, or permit the enrolment there; it is looked at again by itself.",
    ),
    Reason.ENROLLMENT_REFUSED: Words(
        "The learning system does not take this learner in this course; the detail says why.",
        "Correct what the detail names there or in the rules; it is looked at again by itself.",
    ),
    # --- what became of a file, and of a row in one
    Reason.FILE_UNREADABLE: Words(
        "The file is not what its name says, damaged, or no text that can be read.",
        "Do what the sentence says, and hand the file in again.",
    ),
    Reason.FILE_CUT: Words(
        "The file ends in the middle of a row, or without the trailer that counts its rows: it was cut off on its way, "
        "or a quote is missing.",
        "Have the file written and sent again. Nothing of a file of HR was taken, nor of one whose trailer is wrong; "
        "of other files of history the rows before it count.",
    ),
    Reason.CHECKSUM_MISSING: Words(
        "The checksum that says that a file is whole does not lie beside it, so nothing of it was read.",
        "Have it written beside the file, behind whose name it has the ending that files.checksum names.",
    ),
    Reason.CHECKSUM_DIFFERS: Words(
        "The file is not the one whose checksum lies beside it: cut off, changed on its way, or the checksum is of an "
        "earlier file; nothing of it was taken.",
        "Have the file and its checksum sent again; a look that finds them equal takes it.",
    ),
    Reason.COLUMN_MISSING: Words(
        "The file lacks a column that the mapping names, so nothing of it was taken.",
        "Correct the column's name in the mapping, or have the column exported.",
    ),
    Reason.ROW_UNREADABLE: Words(
        "A row of a file is not written as the file should be: quotes, number of fields, encoding.",
        "Correct the row where the file came from, or in the file of rejected rows, and hand it in again.",
    ),
    Reason.ROW_INCOMPLETE: Words(
        "A row of a file lacks a value that is needed; the sentence names the field.",
        "Complete the row where the file came from, or in the file of rejected rows, and hand it in again.",
    ),
    Reason.ROW_INVALID: Words(
        "A value in a row of a file is not of the form that the mapping declares; the sentence names the column.",
        "Declare the form in the mapping, or correct the row, and hand it in again.",
    ),
    Reason.ROW_REFUSED: Words(
        "The database refuses what a row of a file says, though the row is written as declared; the others were taken.",
        "Correct the row in the file of rejected rows, and hand it in again; the sentence has the database's word.",
    ),
    Reason.ROWS_DISAGREE: Words(
        "Several rows of a file say different things of one employee at the same time, so none of them counts.",
        "Leave one row for each employee, or map changed_at to the column that says when each row was changed.",
    ),
    Reason.MASS_CHANGE: Words(
        "The file would make more people leavers than one file may, or has far fewer rows than the last one; "
        "nothing of it was applied.",
        "Look at it with `coursewire hr show`; then `coursewire hr release` applies it, `coursewire hr "
        "reject` does not.",
    ),
    Reason.FILE_GONE: Words(
        "The file is not in its folder any more, or another one lies in its place, so it cannot be read again.",
        "Have the same file sent again: it is known by its content and goes on where it was.",
    ),
    Reason.HOST_KEY_UNKNOWN: Words(
        "The file server does not have the key that the connections file names; nothing was sent to it.",
        "Ask the people of the server whether its key was changed; if it was, write the fingerprint that the "
        "detail shows into host_key.",
    ),
}


def about(sentence: str, name: int | str) -> str:
    """Return a sentence with the name of what it is about in place of the word ID."""
    return re.sub(r"\bID\b", str(name), sentence)


def words(code: str | None) -> Words | None:
    """Return a stored reason code in words; None for no code, or one that this version does not know."""
    try:
        return WORDS[Reason(code)] if code else None
    except ValueError:
        return None
