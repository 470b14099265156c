"""The inputs of a call as HubSpot parses them: shape, number, types and duplicates, before any other rule."""

from collections.abc import Iterable
from typing import Any

from scripts.sandbox.answers import Refusal

__all__ = [
    "MAX_INPUTS",
    "batch_inputs",
    "normal_id",
    "refuse_duplicates",
    "required_text",
    "written_properties",
]

MAX_INPUTS = 100


def required_text(value: object, name: str) -> str:
    """The value of a field that must be a string with something in it."""
    if not isinstance(value, str) or not value:
        raise Refusal(400, "VALIDATION_ERROR", f"Some required fields were not set: [{name}]")
    return value


def normal_id(key: str | None, value: str) -> str:
    """An id as HubSpot compares it: e-mails trimmed and in lower case."""
    return value.strip().lower() if key == "email" else value


def batch_inputs(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs of a batch; refused when malformed or beyond 100."""
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(one, dict) for one in inputs):
        raise Refusal(400, "VALIDATION_ERROR", "Invalid input JSON: inputs must be a list of objects.")
    if len(inputs) > MAX_INPUTS:
        raise Refusal(400, "VALIDATION_ERROR", f"Batch size {len(inputs)} exceeds the maximum of {MAX_INPUTS}.")
    for one in inputs:
        if "properties" in one:
            written_properties(one)
    return inputs


def written_properties(one: dict[str, Any]) -> dict[str, str]:
    """The properties of an input; every value must be a string."""
    properties = one.get("properties")
    if not isinstance(properties, dict):
        raise Refusal(400, "VALIDATION_ERROR", "Some required fields were not set: [properties]")
    for name, value in properties.items():
        if not isinstance(value, str):
            raise Refusal(400, "VALIDATION_ERROR", f"Invalid input JSON: the value of {name} must be a string.")
    return properties


def refuse_duplicates(ids: Iterable[tuple[str | None, str]]) -> None:
    """Refuse a whole batch in which one (key, id) stands twice, trace ids or not."""
    seen: set[tuple[str | None, str]] = set()
    twice: dict[str, None] = {}
    for key, value in ids:
        one = (key, normal_id(key, value))
        if one in seen:
            twice[one[1]] = None
        seen.add(one)
    if twice:
        raise Refusal(
            400,
            "VALIDATION_ERROR",
            f"Duplicate IDs found in batch input: [{', '.join(twice)}]. IDs must be unique",
            context={"ids": list(twice)},
        )
