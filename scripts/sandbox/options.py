"""What of a portal's behaviour is not known for sure, or differs between portals."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["PortalOptions"]


@dataclass(slots=True)
class PortalOptions:
    """Behaviour nobody could verify on a live portal, each as a switch; the default is the harder answer."""

    secondary_emails_resolve: bool = False
    echo_trace_id: bool = False
    partial_success_is_200: bool = False
    merged_ids_in_batch_read: bool = True
    email_upsert_needs_email: bool = True
    merge_keeps_primary_id: bool = False
    validation_rules: list[dict[str, Any]] = field(default_factory=list)
    missing_scopes: list[str] = field(default_factory=list)
    custom_properties: int = 1000
    tells_limits: bool = True
    enterprise: bool = True
    repeated_events_refused: bool = False
    events_share_limit: bool = False
    association_page: int = 500

    def change(self, wanted: Mapping[str, Any]) -> None:
        """Set the options named in `wanted`; other names are left alone."""
        for one in fields(self):
            if one.name in wanted:
                setattr(self, one.name, wanted[one.name])
