"""The properties that the rules of the first start write."""

from mappings import store
from tasks.checks.wanted import wanted

DEFAULTS = wanted(store.defaults().field_rules("crm", "hubspot", "contact"), ()).wanted
