"""What each class of a comparison means, and what to do about it, in sentences."""

from collections.abc import Mapping
from typing import NamedTuple

from integration.model.reconciliation import Class


class Meaning(NamedTuple):
    """The name for people, what it is, and what to do next."""

    title: str
    means: str
    next: str


WORDS: Mapping[Class, Meaning] = {
    Class.DRIFTED: Meaning(
        "Drifted",
        "A property that we own holds something else than it should: somebody edited it, or a change never arrived.",
        "It is written again, unless this was a dry run. Where people edit a property on purpose, give it to the CRM: "
        "`owner: crm` in the field rules.",
    ),
    Class.MISSING: Meaning(
        "Missing",
        "A contact that we have written is not in the CRM any more, and no webhook said so.",
        "The person is looked for again; who is not found is parked as contact_deleted (`coursewire parked list`), or "
        "made anew where the identity rules say so.",
    ),
    Class.MERGED: Meaning(
        "Merged",
        "A contact was merged into another one, and no webhook said so.",
        "The other one is looked at and written from now on; where it is somebody's too, the two become one person.",
    ),
    Class.UNLINKED: Meaning(
        "Unlinked",
        "A contact stands for somebody whom we know, and who had none until now.",
        "The person is looked for and written by the usual way. Nothing is to be done.",
    ),
    Class.THEIRS: Meaning(
        "Theirs",
        "A property differs, and the CRM's word counts there: by a rule, or because it is left alone for a while.",
        "Nothing is written. Where that is not what you want, change the owner or the rule of the property.",
    ),
    Class.DUPLICATE: Meaning(
        "Duplicate",
        "A contact stands for somebody who has another contact already.",
        "Merge the two in the CRM; this is followed here by itself.",
    ),
    Class.ORPHAN: Meaning(
        "Orphan",
        "A contact shows what only we write, and is nobody's whom we know: a copy, or somebody who was erased here.",
        "Look at it in the CRM. Delete it, merge it, or empty the properties; nothing is written to it from here.",
    ),
    Class.UNREADABLE: Meaning(
        "Unreadable",
        "What we know of the person was sealed with a master key that is not set any more.",
        "Add the old key to COURSEWIRE_MASTER_KEYS and restart; until then these contacts stay as they are.",
    ),
    Class.EQUAL: Meaning("Equal", "It holds what it should.", ""),
    Class.PENDING: Meaning("Pending", "A change is on its way to it, or came after it was read.", ""),
    Class.HELD: Meaning(
        "Held",
        "The person is parked or dead, and waits for a decision.",
        "`coursewire parked list`, `coursewire dead list`.",
    ),
    Class.FOREIGN: Meaning("Foreign", "It is nobody's whom we know, and shows nothing of ours.", ""),
    Class.EXCLUDED: Meaning("Excluded", "A rule says that nothing is written about this person.", ""),
}
"""In the order in which a report tells them."""
