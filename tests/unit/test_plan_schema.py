"""What an editor tells with the published schema, by another implementation of JSON Schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from tests.unit.test_plan_lint import BROKEN, FINE, changed
from tools.plan_reference import EXAMPLE_PATH, SCHEMA_PATH

#: Values that the schema refuses as Donjon does; how parts fit each other is more than it can say.
VALUES = {"credentials.x.endpoint", "credentials.x.file", "credentials.x.max_age", "credentials.x.service"}
TOLD = [
    (place, changes)
    for rule, place, changes in BROKEN
    if rule in {"unknown-key", "missing"} or (rule == "bad-value" and place in VALUES)
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(SCHEMA_PATH.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _read(text: str) -> Any:
    return YAML(typ="safe").load(text)


def test_the_example_is_valid(validator: Draft202012Validator) -> None:
    validator.validate(_read(EXAMPLE_PATH.read_text()))


@pytest.mark.parametrize("changes", FINE)
def test_a_good_plan_is_valid(validator: Draft202012Validator, changes: tuple[str, ...]) -> None:
    validator.validate(_read(changed(*changes)))


@pytest.mark.parametrize(("place", "changes"), TOLD)
def test_a_wrong_key_or_value_is_not(
    validator: Draft202012Validator, place: str, changes: tuple[str, ...]
) -> None:
    assert not validator.is_valid(_read(changed(*changes))), place
