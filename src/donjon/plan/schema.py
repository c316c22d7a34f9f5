"""The JSON Schema of plan files, made from the models."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

from donjon.plan.model import Plan
from donjon.plan.problems import Path
from donjon.plan.values import DURATION_PATTERN

TITLE: Final = "A plan of Donjon"
_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60}


@functools.cache
def schema() -> dict[str, Any]:
    """What editors and other programs can check plan files with."""
    made = Plan.model_json_schema(mode="validation")
    for model in (made, *made["$defs"].values()):
        for part in model.get("properties", {}).values():
            _tidy(part)
    del made["properties"]["defaults"]["default"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": TITLE}


def _tidy(part: dict[str, Any]) -> None:
    """Leave out titles that only repeat the key, and write durations as a plan has them."""
    part.pop("title", None)
    if part.get("pattern") == DURATION_PATTERN and "default" in part:
        part["default"] = duration_text(part["default"])


def duration_text(seconds: int) -> str:
    """``12h``, as a plan has it."""
    unit = next((unit for unit, size in _UNITS.items() if seconds and seconds % size == 0), "s")
    return f"{seconds // _UNITS.get(unit, 1)}{unit}"


def schema_text() -> str:
    """The schema as a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def known_keys(path: Path) -> list[str]:
    """The keys that a mapping of the plan may have; empty if any name is one."""
    whole = schema()
    here = whole
    for part in path:
        here = _below(whole, here, part)
    return sorted(here.get("properties", {}))


def _below(whole: dict[str, Any], here: dict[str, Any], part: str | int) -> dict[str, Any]:
    """The schema of what a key, an item of a list or a kind leads to."""
    if isinstance(part, int):
        found = here.get("items", {})
    elif part in here.get("properties", {}):
        found = here["properties"][part]
    elif isinstance(here.get("additionalProperties"), dict):
        found = here["additionalProperties"]
    elif isinstance(here.get("patternProperties"), dict):
        found = next(iter(here["patternProperties"].values()))
    else:  # the kind, by which pydantic tells which of several models it took
        found = {"$ref": here.get("discriminator", {}).get("mapping", {}).get(part)}
    return resolved(whole, found)


def resolved(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference leads to, also where null is allowed beside it."""
    for choice in part.get("anyOf", []):
        if choice.get("type") != "null":
            return resolved(whole, choice)
    if reference := part.get("$ref"):
        return resolved(whole, whole["$defs"][reference.rpartition("/")[2]])
    return part
