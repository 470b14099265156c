"""Moodle as an auditor sees it: which API, how either side proves who it is, and what it has the word on."""

from integration.config import ConnectionConfig
from integration.connectors.interface import LEARNING, Interface


def interface(config: ConnectionConfig) -> Interface:
    """Return how one Moodle site is talked to. Source: Moodle docs, web services; the plugin local_webhooks."""
    is_called = config.base_url is not None
    return Interface(
        kind="LMS",
        owns=LEARNING,
        page="moodle.md",
        api="Moodle web services (REST, forms in, JSON out)" if is_called else None,
        auth="web service token of a user (in the form)" if is_called else None,
        address=config.base_url,
        proof="a shared token in the body (plugin local_webhooks); no signature" if config.webhook else None,
    )
