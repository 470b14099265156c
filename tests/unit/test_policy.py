"""The numbers of delivery, and how they hang together."""

from hypothesis import given
from hypothesis import strategies as st

from integration.connectors.client import Limits
from integration.delivery import policy
from integration.delivery.contacts import same_value
from integration.storage import sync_state

CALLS_OF_A_BATCH = 5
"""Read by id, by our id, by e-mail; one update; one upsert."""


def test_a_lease_outlives_twice_the_calls_of_a_batch() -> None:
    """Nobody claims a person while an earlier call for them may still be under way."""
    assert CALLS_OF_A_BATCH * Limits().total < sync_state.LEASE_SECONDS / 2


@given(failures=st.integers(0, 500))
def test_a_connection_rests_longer_but_never_for_ever(failures: int) -> None:
    """Back-off grows to a cap and is never near zero, however long the outage lasts."""
    rest = policy.connection_backoff(failures, None)
    assert 1.0 <= rest <= 900.0


@given(asked=st.floats(0.1, 86_400))
def test_what_the_crm_asks_for_is_honoured_in_full(asked: float) -> None:
    """A Retry-After is waited out, with at most a second on top."""
    assert asked <= policy.connection_backoff(3, asked) <= asked + 1.0


@given(tries=st.integers(1, 500))
def test_a_record_waits_at_most_a_quarter_of_an_hour(tries: int) -> None:
    """Full jitter between nothing and the cap."""
    assert 0.0 <= policy.record_backoff(tries) <= 900.0


def test_values_are_compared_as_the_crm_keeps_them() -> None:
    """Blanks around text and a fraction of zero make no difference; leading zeros and letters do."""
    assert same_value("3", "3.0")
    assert same_value(" x ", "x")
    assert not same_value("7", "007")
    assert not same_value("Abc", "abc")
    assert not same_value("", "0")
