"""Transforms: a closed list of named steps from a canonical value to a property's value. Pure; `docs/transforms.md`.

A field map names them in YAML: `lower`, `[strip, {truncate: 100}]`, `{lookup: {beginner: Bronze, default: None yet}}`.
"""

from mappings.transforms.chains import Chain, Step, from_data, parse, ready, run, to_data
from mappings.transforms.fit import accepts, outcomes
from mappings.transforms.table import TRANSFORMS
from mappings.transforms.values import TransformFault, Unfit, Value, plain

__all__ = [
    "TRANSFORMS",
    "Chain",
    "Step",
    "TransformFault",
    "Unfit",
    "Value",
    "accepts",
    "from_data",
    "outcomes",
    "parse",
    "plain",
    "ready",
    "run",
    "to_data",
]
