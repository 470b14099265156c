"""SCIM requests as functions, on a real Postgres: the form of answers, pages, discovery, and a bulk."""

from uuid import uuid4

from integration.scim.attributes import ENTERPRISE
from integration.scim.requests import Answer
from integration.scim.resource import resource_of
from integration.scim.users import Users
from integration.storage import scim_users
from integration.storage.base import engine_for
from tests.db.test_scim_users import ADA, Office, office, refused

__all__ = ["office"]


def test_lists_come_in_pages(office: Office) -> None:
    """Counted from 1; nonsense is bounded, and a count of 0 asks only how many there are."""
    made = [office.users.create(resource_of({"userName": f"u{number}"}), "req_1") for number in range(5)]
    for query, names in (
        ({}, ["u0", "u1", "u2", "u3", "u4"]),
        ({"startindex": "2", "count": "2"}, ["u1", "u2"]),
        ({"startindex": "-3", "count": "1"}, ["u0"]),
        ({"startindex": "9"}, []),
        ({"count": "0"}, []),
    ):
        page = office.ask("GET", "Users", **query).body
        assert [one["userName"] for one in page["Resources"]] == names
        assert (page["totalResults"], page["itemsPerPage"]) == (5, len(names))
    assert refused(lambda: office.ask("GET", "Users", count="many")) == 400
    shown = office.ask("GET", "Users", str(made[0].id), attributes="userName,meta.location").body
    assert shown.keys() == {"schemas", "id", "userName", "meta"}
    assert shown["meta"] == {"location": f"https://x/staff/Users/{made[0].id}"}
    assert "active" not in office.ask("GET", "users", str(made[0].id), excludedattributes="active").body


def test_answers_have_the_form_of_the_rfc(office: Office) -> None:
    """201 with place and version, 200, 304, 204; schemas name the extensions that are there."""
    made = office.ask("POST", "Users", body=ADA)
    user = made.body
    assert (made.status, made.headers["location"]) == (201, user["meta"]["location"])
    assert user["schemas"] == ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE]
    assert office.ask("GET", "Users", user["id"], if_none_match=made.headers["etag"]).status == 304
    patch = {"Operations": [{"op": "replace", "value": {"title": "Cook"}}]}
    assert office.ask("PATCH", "Users", user["id"], body=patch).headers["etag"] == 'W/"2"'
    assert office.ask("PUT", "Users", user["id"], body=ADA).body["meta"]["version"] == 'W/"3"'
    assert office.ask("DELETE", "Users", user["id"]) == Answer(204)
    assert refused(lambda: office.ask("GET", "Users", "5171a35d82074e068ce2")) == 404
    assert office.ask("PUT", "Users").headers["allow"] == "GET, POST"


def test_a_password_is_never_kept(office: Office) -> None:
    """Nor pictures and keys: not in the answer, not in what is sealed."""
    secret = {"password": "t1meMa$heen", "photos": [{"value": "https://x/p"}], "x509Certificates": [{"value": "MII"}]}
    made = office.users.create(resource_of({**ADA, **secret}), "req_1")
    kept = scim_users.read(office.engine.connect(), "staff", made.id)
    assert kept is not None
    assert b"t1meMa" not in office.ring.open(bytes(kept.sealed), scim_users.context(made.id))


def test_discovery_says_what_there_is(office: Office) -> None:
    """The three documents, each alone too; groups are none, and said not to be taken."""
    config = office.ask("GET", "ServiceProviderConfig").body
    assert config["bulk"] == {"supported": True, "maxOperations": 500, "maxPayloadSize": 1024}
    assert [one["id"] for one in office.ask("GET", "ResourceTypes").body["Resources"]] == ["User"]
    (core, work) = office.ask("GET", "Schemas").body["Resources"]
    assert {"userName", "active", "emails"} <= {one["name"] for one in core["attributes"]}
    assert office.ask("GET", "Schemas", ENTERPRISE).body == work
    assert office.ask("GET", "Groups").body["totalResults"] == 0
    assert refused(lambda: office.ask("POST", "Groups", body={})) == 501
    for place in (("Schemas", "x"), ("x",), (), ("Users", "a", "b")):
        assert refused(lambda place=place: office.ask("GET", *place)) == 404  # type: ignore[misc]


def test_a_bulk_says_how_each_operation_ended(office: Office) -> None:
    """References resolved, forward ones too; who depends on a failure fails; the others are done."""
    taken = {"method": "POST", "path": "/Users", "bulkId": "boss", "data": {"userName": "TAKEN"}}
    office.users.create(resource_of({"userName": "taken"}), "req_0")
    report = {"userName": "report", ENTERPRISE: {"manager": {"value": "bulkId:lead"}}}
    operations = [
        {"method": "POST", "path": "/Users", "bulkId": "report", "data": report},
        {"method": "POST", "path": "/Users", "bulkId": "lead", "data": {"userName": "lead", "externalId": "L-1"}},
        taken,
        {"method": "PATCH", "path": "/Users/bulkId:boss", "data": {"Operations": []}},
        {"method": "DELETE", "path": f"/Users/{uuid4()}"},
    ]
    found = office.ask("POST", "Bulk", body={"Operations": operations}).body["Operations"]
    assert [one["status"] for one in found] == ["201", "201", "409", "409", "404"]
    assert found[2]["response"]["scimType"] == "uniqueness"
    assert found[0]["location"].startswith("https://x/staff/Users/")
    assert [one.manager_id for one in office.told()] == [None, None, "L-1"]
    stopped = office.ask("POST", "Bulk", body={"Operations": [taken, taken, *operations], "failOnErrors": 1}).body
    assert len(stopped["Operations"]) == 1


def test_a_database_that_is_away_is_said_to_be(office: Office) -> None:
    """503, so that the client comes again; in a bulk nothing further is tried."""
    gone = engine_for("postgresql://nobody@127.0.0.1:1/none")
    office.users = Users("staff", gone, office.ring, lambda: office.keys, office.rung.extend)
    assert refused(lambda: office.users.create(resource_of(ADA), "req_1")) == 503
    post = {"method": "POST", "path": "/Users", "data": ADA}
    found = office.ask("POST", "Bulk", body={"Operations": [post, post]}).body["Operations"]
    assert [one["status"] for one in found] == ["503", "503"]
    assert "before this" in found[1]["response"]["detail"]
