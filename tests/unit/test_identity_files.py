"""Identity rules in files: what they can say, what is said of every mistake, and what they leave out."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.config import Config
from integration.errors import ConfigError
from integration.model.identity import ContactPolicy, Identity, IdentityPolicy
from mappings import export, identity, loader, store
from mappings.rules import RuleSet
from tasks.commands.rules import side_of
from tests.db.conftest import CONFIG
from tests.unit.test_rule_files import HEAD, is_known

LMS = "connection: academy\nidentity:\n"
CRM = "connection: crm\nidentity:\n"

WRONG = [
    ("a system it is for", "system: hubspot\nidentity: {same_email: park}\n", 2, "write connection: NAME above"),
    ("an unknown connection", "connection: acadamy\nidentity: {}\n", 1, "no connection is called 'acadamy'"),
    ("a list of rules", "connection: academy\nidentity: [park]\n", 2, "expected keys and values here"),
    ("an unknown key", LMS + "  same_mail: park\n", 3, "identity.same_mail: this key is not known"),
    ("an unknown answer", LMS + "  same_email: merge\n", 3, "must be 'park', 'same_person' or 'new_person'"),
    ("no link", LMS + "  look_up: [email]\n", 3, "link comes first and cannot be left out"),
    ("the link not first", LMS + "  look_up: [email, link]\n", 3, "link comes first"),
    ("an unknown look-up", LMS + "  look_up: [link, name]\n", 3, "must be 'link', 'employee_id' or 'email'"),
    ("no look-up", LMS + "  look_up: []\n", 2, "look_up is empty; write [link]"),
    ("a look-up twice", LMS + "  look_up: [link, email, email]\n", 3, "'email' is there twice"),
    ("no list", LMS + "  look_up: email\n", 3, "expected a list"),
    ("an empty list", LMS + "  exclude_domains: []\n", 3, "this list is empty; name something, or leave the key out"),
    ("an empty never_match", LMS + "  never_match: []\n", 3, "this list is empty"),
    ("an address as a domain", LMS + "  exclude_domains: [ada@acme.com]\n", 3, "is no domain; write it alone"),
    ("a pattern as a domain", LMS + "  exclude_domains:\n    - a.com\n    - '*.acme.com'\n", 5, "is no domain"),
    ("a domain twice", LMS + "  exclude_domains: [acme.com, ACME.com]\n", 3, "'acme.com' is there twice"),
    ("everybody by e-mail", LMS + "  exclude_emails: ['*@*.*']\n", 3, "a pattern that everybody meets"),
    ("everybody by id", LMS + "  exclude_ids: ['*']\n", 3, "a pattern that everybody meets"),
    ("nobody ever matches", LMS + "  never_match: ['?*']\n", 3, "a pattern that everybody meets"),
    ("a choice of letters", LMS + "  exclude_ids: ['[ab]*']\n", 3, "and no [ ]"),
    ("too many stars", LMS + "  exclude_ids: ['a*b*c*d*e*f']\n", 3, "at most 4 stars"),
    ("a word as an e-mail", LMS + "  exclude_emails: [info]\n", 3, "can be no e-mail"),
    ("a number as an id", LMS + "  exclude_ids: [7]\n", 3, "must be text"),
    (
        "in and out",
        LMS + "  include_domains: [a.com]\n  exclude_domains: [b.com]\n",
        2,
        "include_domains takes these alone, so exclude_domains contradicts it",
    ),
    (
        "an answer nobody asks for",
        LMS + "  look_up: [link, employee_id]\n  same_email: same_person\n",
        2,
        "same_email is asked only where e-mails are looked up",
    ),
    ("a field that is not unique", CRM + "  look_up: [full_name]\n", 3, "contacts cannot be looked up by 'full_name'"),
    ("nothing to look up by", CRM + "  look_up: []\n", 3, "this list is empty"),
    ("a field that nothing fills", CRM + "  look_up: [employee_id, email]\n", 2, "no rule fills a property from"),
    ("an unknown policy", CRM + "  unknown_person: drop\n", 3, "must be 'hold', 'create' or 'ignore'"),
    ("an unknown deletion", CRM + "  deleted_contact: ignore\n", 3, "must be 'hold' or 'recreate'"),
    ("fields of an LMS", "connection: academy\ncontact: {}\nidentity: {}\n", 1, "holds no contacts"),
]


def load(folder: Path) -> RuleSet:
    """Load a folder as the command does."""
    config = Config.model_validate(CONFIG)
    return loader.load(folder, is_known, lambda connection: side_of(config, connection))


@pytest.mark.parametrize(("text", "line", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_mistake_is_said_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    """One sentence that starts with file and line; and nothing is loaded."""
    file = tmp_path / "identity.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    (sentence,) = str(raised.value).splitlines()
    assert sentence.startswith(f"{file}:{line}: "), sentence
    assert said in sentence
    assert "pydantic" not in sentence


def test_a_rule_of_the_other_side_is_named_as_one(tmp_path: Path) -> None:
    """Somebody who asks a CRM for what an LMS decides is told which of the two it is."""
    (tmp_path / "a.yaml").write_text(CRM + "  same_email: park\n")
    (tmp_path / "b.yaml").write_text(LMS + "  unknown_person: hold\n")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    assert "this is a rule of a learning system, and this is none" in str(raised.value)
    assert "this is a rule of a CRM, and this is none" in str(raised.value)


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    """Of fields and identity alike; and one connection has its identity rules in one place."""
    (tmp_path / "a.yaml").write_text(HEAD + "  lms_source: {property: 1a, type: string}\n")
    (tmp_path / "b.yaml").write_text(LMS + "  same_email: merge\n  exclude_ids: ['*']\n")
    (tmp_path / "c.yaml").write_text("connection: campus\nidentity: {}\n")
    (tmp_path / "d.yaml").write_text("connection: campus\nidentity: {}\n")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    sentences = str(raised.value).splitlines()
    assert len(sentences) == 4
    assert "campus has identity rules already, at" in sentences[3]


def test_fields_and_identity_may_share_a_file(tmp_path: Path) -> None:
    """A connection's own fields, and what its contacts are looked up by; an empty block is as if there were none."""
    (tmp_path / "crm.yaml").write_text(
        CRM + "  look_up: [employee_id]\ncontact:\n  employee_id: {property: staff_no, type: string}\n"
    )
    (tmp_path / "academy.yaml").write_text("connection: academy\nidentity:\n")
    rules = load(tmp_path)
    assert rules.identity == {"crm": ContactPolicy(look_up=("employee_id",)), "academy": IdentityPolicy()}
    assert identity.differences({}, {"academy": IdentityPolicy()}) == []


WORD = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
DOMAINS = st.lists(WORD.map("{}.example".format), unique=True, max_size=3).map(tuple)
EMAILS = st.lists(st.tuples(WORD, WORD).map(lambda p: f"{p[0]}*@{p[1]}.example"), unique=True, max_size=3).map(tuple)
IDS = st.lists(WORD | WORD.map("{}*".format), unique=True, max_size=3).map(tuple)
LEARNERS = st.builds(
    IdentityPolicy,
    look_up=st.sampled_from([("link", "email"), ("link", "employee_id", "email"), ("link", "email", "employee_id")]),
    never_match=EMAILS,
    same_email=st.sampled_from(["park", "same_person", "new_person"]),
    exclude_domains=DOMAINS,
    exclude_emails=EMAILS,
    exclude_ids=IDS,
) | st.builds(IdentityPolicy, include_domains=DOMAINS)
CONTACTS = st.builds(
    ContactPolicy,
    look_up=st.sampled_from([("lms_user_id", "email"), ("email", "lms_user_id"), ("email",)]),
    unknown_person=st.sampled_from([None, "hold", "create", "ignore"]),
    deleted_contact=st.sampled_from(["hold", "recreate"]),
)


@settings(deadline=None)
@given(academy=LEARNERS, crm=CONTACTS)
def test_what_is_exported_loads_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, academy: IdentityPolicy, crm: ContactPolicy
) -> None:
    """YAML and back, and rows and back, are the same rules."""
    folder = tmp_path_factory.mktemp("rules")
    given_rules: Identity = {"academy": academy, "crm": crm}
    defaults = store.defaults()
    export.write(RuleSet(0, defaults.read_at, defaults.fields, given_rules), folder)
    assert identity.differences(load(folder).identity, given_rules) == []
    rows = [(r["connection"], r["side"], r["name"], r["value"]) for r in identity.to_rows(given_rules)]
    assert identity.differences(identity.from_rows(rows), given_rules) == []  # type: ignore[arg-type]


@given(policy=LEARNERS, name=WORD, domain=WORD, ids=st.lists(WORD, max_size=3))
def test_who_is_left_out_can_be_told_from_the_rules(
    policy: IdentityPolicy, name: str, domain: str, ids: list[str]
) -> None:
    """The answer agrees with the plain reading of each list, and names neither an address nor a pattern that is one."""
    email = f"{name}@{domain}.example"
    by_email = [p for p in policy.exclude_emails if _meets(p, email)]
    by_ids = ids and all(any(_meets(p, one) for p in policy.exclude_ids) for one in ids)
    domain_out = f"{domain}.example" in policy.exclude_domains
    not_in = policy.include_domains and f"{domain}.example" not in policy.include_domains
    why = policy.excluded_by(email, ids)
    assert (why is not None) == bool(by_email or by_ids or domain_out or not_in)
    assert email not in (why or "")
    assert policy.is_nobodys(email) == any(_meets(p, email) for p in policy.never_match)


def _meets(pattern: str, value: str) -> bool:
    """Read a pattern with at most one star at the end of its local part, or none, as a person does."""
    start, star, end = pattern.partition("*")
    return (value.startswith(start) and value[len(start) :].endswith(end)) if star else value == pattern
