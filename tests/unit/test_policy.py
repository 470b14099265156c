"""The numbers of delivery, and how they hang together."""

from hypothesis import given
from hypothesis import strategies as st

from integration.connectors.client import Limits
from integration.delivery import budget, lease, policy
from integration.delivery.ownership import same_value
from integration.storage import breakers, deliveries, sync_state

CALLS_UNDER_ONE_HOLD = 2
"""A single read is batch/read and, where that knows nobody, a GET; every other step is one request."""


def test_a_lease_outlives_the_calls_made_under_one_hold() -> None:
    """Nobody claims a person while an earlier call for them may still be under way: the hold is renewed before each."""
    longest = budget.WAIT_SECONDS + Limits().total
    assert longest + lease.FRESH_SECONDS < sync_state.LEASE_SECONDS / 2
    assert CALLS_UNDER_ONE_HOLD * longest + lease.FRESH_SECONDS < sync_state.LEASE_SECONDS


def test_an_operation_rests_longer_but_never_for_ever() -> None:
    """Moments first, half a minute once the breaker is open, then longer, to five minutes; never near zero."""
    rests = policy.rests()
    assert all(0.5 <= rest <= 8.0 for rest in rests[: breakers.TRIP - 1])
    assert 27.0 <= rests[breakers.TRIP - 1] <= 33.0
    assert rests[-1] <= 330.0
    assert [round(rest / 5) for rest in rests] == sorted(round(rest / 5) for rest in rests)


def test_a_lost_call_has_arrived_before_it_is_looked_for() -> None:
    """Twice the deadline of a call, and a little (rule 11)."""
    assert 2 * Limits().total < deliveries.ARRIVING_SECONDS


@given(asked=st.floats(0.1, 86_400))
def test_what_the_crm_asks_for_is_honoured_in_full(asked: float) -> None:
    """A Retry-After is waited out, with at most a second on top."""
    assert asked <= policy.as_asked(asked) <= max(asked, 1.0) + 1.0


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
