"""Standard Webhooks signatures: the published vector, rotation, odd headers, and every single flipped bit."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.config import SecretRef
from integration.errors import ConfigError, Reason, Refused
from integration.security.signatures import SigningKeys, decode_secret, sign, verify

VECTOR = {
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "body": '{"test": 2432232314}',
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
SAMPLE = Path(__file__).parents[3] / "shared/samples/standardwebhooks/signature_vector.json"
KEY = decode_secret(VECTOR["secret"])
OTHER = b"another key of sixteen bytes or more"
NOW = 1614265330.0
BODY = VECTOR["body"].encode()


def headers(**changed: str) -> dict[str, str]:
    """The headers of the vector, some of them changed (underscores for hyphens)."""
    made = {name: value for name, value in VECTOR.items() if name.startswith("webhook-")}
    return made | {name.replace("_", "-"): value for name, value in changed.items()}


def refusal(given_headers: dict[str, str], body: bytes = BODY, now: float = NOW) -> Refused:
    """Verify what must be refused."""
    with pytest.raises(Refused) as raised:
        verify(given_headers, body, [KEY], now)
    assert raised.value.status == 401
    return raised.value


def test_published_vector() -> None:
    """The specification's own example is accepted, and signed the same by us."""
    assert verify(headers(), BODY, [KEY], NOW) == 0
    assert sign(KEY, VECTOR["webhook-id"], VECTOR["webhook-timestamp"], BODY) == VECTOR["webhook-signature"]


def test_shared_sample() -> None:
    """The shared sample, where it is at hand, is the example these tests use."""
    if not SAMPLE.exists():
        pytest.skip("the shared samples are not here")
    assert json.loads(SAMPLE.read_text()) == VECTOR


def test_rotation() -> None:
    """During a rotation any of our keys and any of the sender's signatures may be the one that fits."""
    both = f"v1,AAAA v2,x {sign(OTHER, VECTOR['webhook-id'], VECTOR['webhook-timestamp'], BODY)}"
    assert verify(headers(webhook_signature=both), BODY, [KEY, OTHER], NOW) == 1


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_clock_within_five_minutes(seconds: int) -> None:
    """Five minutes off either way are accepted."""
    assert verify(headers(), BODY, [KEY], NOW + seconds) == 0


@pytest.mark.parametrize("seconds", [-301, 301])
def test_clock_beyond_five_minutes(seconds: int) -> None:
    """A message from too long ago or too far ahead is stale, however well it is signed."""
    assert refusal(headers(), now=NOW + seconds).reason is Reason.STALE_TIMESTAMP


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_missing_header(name: str, value: str | None) -> None:
    """Each header that is absent or blank makes the signature missing."""
    made = headers()
    del made[name]
    if value is not None:
        made[name] = value
    assert refusal(made).reason is Reason.MISSING_SIGNATURE


@pytest.mark.parametrize("stamp", ["soon", "1614265330.0", "-1614265330", "1e9", "٣" * 10, "9" * 5000, "0x1", "1_0"])
def test_bad_timestamp(stamp: str) -> None:
    """A timestamp that is not plain digits of a sensible length is refused as such."""
    assert refusal(headers(webhook_timestamp=stamp)).reason is Reason.BAD_TIMESTAMP


@pytest.mark.parametrize(
    "signature", ["v1,", "v1", ",", "v1a," + "x" * 44, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="]
)
def test_bad_signature(signature: str) -> None:
    """A signature in any other form or version is no signature."""
    assert refusal(headers(webhook_signature=signature)).reason is Reason.BAD_SIGNATURE


def test_refusal_echoes_nothing() -> None:
    """The sentence of a refusal holds nothing of what was sent."""
    assert "msg_" not in refusal(headers(webhook_signature="v1,x")).detail


PLACES = ["webhook-id", "webhook-timestamp", "webhook-signature", "body"]


@given(st.sampled_from(PLACES), st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_any_flipped_bit(place: str, index: int, bit: int) -> None:
    """Any one bit flipped anywhere, in headers or body, is refused."""
    changed = bytearray(VECTOR[place].encode())
    changed[index % len(changed)] ^= 1 << bit
    made = headers()
    body = bytes(changed) if place == "body" else BODY
    if place != "body":
        made[place] = changed.decode("latin-1")
    refusal(made, body)


@given(st.dictionaries(st.sampled_from(PLACES[:3]), st.text(st.characters(exclude_categories=[]))), st.binary())
def test_odd_input_is_refused(made: dict[str, str], body: bytes) -> None:
    """Headers of any text, even what no header can hold, are refused and raise nothing else."""
    refusal(
        headers(webhook_timestamp=VECTOR["webhook-timestamp"])
        | made
        | {"webhook-id": "x" + made.get("webhook-id", "")},
        body,
    )


def test_utf8_id() -> None:
    """An id in UTF-8, as a server hands it over in Latin-1, verifies as the bytes that were signed."""
    raw_id = "prüfung-✓".encode().decode("latin-1")
    signature = sign(KEY, raw_id, "1614265330", BODY)
    assert verify(headers(webhook_id=raw_id, webhook_signature=signature), BODY, [KEY], NOW) == 0


@pytest.mark.parametrize("form", ["whsec_{}", "{}", " whsec_{}\n"])
def test_forms_of_a_secret(form: str) -> None:
    """A secret is read with or without its prefix, in either alphabet, padded or not."""
    key = bytes(range(240, 256)) + b"\xff"
    for encoded in (base64.b64encode(key), base64.urlsafe_b64encode(key), base64.b64encode(key).rstrip(b"=")):
        assert decode_secret(form.format(encoded.decode())) == key


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "not base64 at all!", "whsec_é" + "a" * 40, "a" * 41]
)
def test_bad_secret(secret: str) -> None:
    """A secret that is no base64, or too short to protect anything, is refused without being shown."""
    with pytest.raises(ConfigError) as raised:
        decode_secret(secret)
    assert not secret or secret not in str(raised.value)


def test_rotated_file_is_found(tmp_path: Path) -> None:
    """A rotated secret is used within ten seconds; while its file is away, the old one still is."""
    path = tmp_path / "secret"
    path.write_text(VECTOR["secret"])
    time = [0.0]
    keys = SigningKeys([SecretRef(file=path)], clock=lambda: time[0])
    assert keys.current() == (KEY,)
    path.unlink()
    time[0] = 11
    assert keys.current() == (KEY,)
    path.write_text(base64.b64encode(OTHER).decode())
    time[0] = 20
    assert keys.current() == (KEY,)
    time[0] = 22
    assert keys.current() == (OTHER,)
    assert "MfKQ" not in repr(keys)


def test_absent_secret(tmp_path: Path) -> None:
    """A secret that could never be read is an error of configuration."""
    with pytest.raises(ConfigError):
        SigningKeys([SecretRef(file=tmp_path / "none")]).current()
