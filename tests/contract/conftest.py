"""Where the promises of the suite say what they saw, as tests do."""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.called_promises",
    "tests.contract.contact_promises",
    "tests.contract.enrollment_promises",
    "tests.contract.inbound_promises",
    "tests.contract.quiet",
)
