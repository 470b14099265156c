"""What must hold of people whose role changes, by what the CRM and the LMS show themselves."""

from scripts.demo.careers import AE, PARTNER, SDR, Careers, Certificate, Promotion, Shown
from scripts.demo.promise import Promise

__all__ = ["judge"]

CHANGES = 4
"""How often a role is changed: SDR, Partner, AE, and Account Executive, which is an AE."""
TITLE = "Account Executive onboarding"


def judge(careers: Careers) -> list[Promise]:
    """Every promise about roles, in the order of the story."""
    return [
        promotion_enrolls(careers.promotion),
        contact_says_until_when(careers.promotion),
        nobody_enrolled_twice(careers),
        override_counts(careers.promotion),
        certificate_opens_and_closes(careers.certificate),
    ]


def promotion_enrolls(told: Promotion) -> Promise:
    """Who was in the courses of an SDR is in those of an AE, and only the LMS's own word counts."""
    wrong = []
    if told.seconds is None:
        wrong.append("she was not enrolled in time")
    wrong += _differ("as an SDR she is in", told.first.courses_in("enrolled"), SDR)
    wrong += _differ("as an AE she is in", told.then.courses_in("enrolled"), AE)
    wrong += _differ("concluded are", told.then.courses_in("concluded"), SDR - AE)
    after = "" if told.seconds is None else f" {told.seconds:.1f} s later, 1 s of which the role is to settle"
    return Promise(f"An SDR becomes an AE in the CRM: in her {len(AE)} courses{after}", tuple(wrong))


def contact_says_until_when(told: Promotion) -> Promise:
    """Contact and LMS show pathway, deadline and how far she is."""
    due = told.then.contact.get("onboarding_due_date", "")
    wrong = _misses(told.then, {"onboarding_pathway": TITLE, "onboarding_status": "assigned"})
    if due not in told.days:
        wrong.append(f"the contact says {due!r}, and must say one of {sorted(told.days)}")
    if told.then.due_days != {due}:
        wrong.append(f"the LMS says {sorted(told.then.due_days)}, and the contact {due!r}")
    return Promise(f"Her contact says so: {TITLE}, assigned, due {due} as in the LMS", tuple(wrong))


def nobody_enrolled_twice(careers: Careers) -> Promise:
    """Role changes that are told twice, and one that changes nothing, make no enrolment that is there already."""
    wrong = []
    if careers.told_twice != CHANGES:
        wrong.append(f"{careers.told_twice} of {CHANGES} changes were told twice")
    if careers.repeats:
        wrong.append(f"{careers.repeats} writes said what the LMS had already")
    if careers.written_again or careers.promotion.again.courses != careers.promotion.then.courses:
        wrong.append(f"the same role by another name led to {careers.written_again} writes")
    if careers.enrolled != {careers.promotion.who.email: AE, careers.certificate.who.email: PARTNER}:
        wrong.append(f"enrolled are {careers.enrolled}")
    made = len({(user, course) for user, course, state in careers.writes if state == "enrolled"})
    text = f"Nobody is enrolled twice: {CHANGES} role changes, each told twice, made {made} enrolments"
    return Promise(f"{text}, the last none", tuple(wrong))


def override_counts(told: Promotion) -> Promise:
    """The deadline that somebody decided stands in the CRM and in the LMS, and nothing else is changed."""
    wrong = _misses(told.later, {"onboarding_pathway": TITLE, "onboarding_due_date": told.moved_to})
    if told.later.due_days != {told.moved_to}:
        wrong.append(f"the LMS says {sorted(told.later.due_days)}, and must say {told.moved_to}")
    wrong += _differ("she is in", told.later.courses_in("enrolled"), AE)
    return Promise(f"An override moves her deadline: {told.moved_to} in the CRM and in the LMS", tuple(wrong))


def certificate_opens_and_closes(told: Certificate) -> Promise:
    """A partner's status is open while the certificate is valid, and closes by the clock alone."""
    wrong = _misses(told.later, {"partner_status": "Lapsed", "onboarding_status": "completed"})
    values = [value for _, value in told.statuses]
    if values != ["Certified", "Lapsed"]:
        wrong.append(f"the status was {values}, one after the other")
    closed = [at - told.expires_at for at, value in told.statuses if value == "Lapsed"]
    if closed and closed[0] < 0:
        wrong.append(f"it closed {-closed[0]:.1f} s before the certificate expired")
    after = f"{closed[0]:.1f} s after" if closed and closed[0] >= 0 else "once"
    return Promise(f"A partner who passes is Certified, and Lapsed {after} the certificate has expired", tuple(wrong))


def _misses(shown: Shown, must: dict[str, str]) -> list[str]:
    return [
        f"{name} is {shown.contact.get(name, '')!r} and must be {value!r}"
        for name, value in must.items()
        if shown.contact.get(name, "") != value
    ]


def _differ(what: str, there: set[str], must: frozenset[str]) -> list[str]:
    return [] if there == must else [f"{what} {sorted(there)}, and must be {sorted(must)}"]
