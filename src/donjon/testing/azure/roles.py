"""Azure's role assignments, as a template renders them: a **fake** of how Azure judges data actions.

Sources: "Azure role assignment condition format and syntax",
https://learn.microsoft.com/azure/role-based-access-control/conditions-format, and for which attributes an
action has, https://learn.microsoft.com/azure/storage/blobs/storage-auth-abac-attributes. What is added up,
https://learn.microsoft.com/azure/role-based-access-control/overview: assignments only ever add. An attribute
that a request does not have makes its expression false.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from donjon.testing.callers import Ask

_TOKEN = re.compile(r"\s*(\(|\)|!|AND|OR|NOT|\w+Matches\{'[^']*'\}|@\w+\[[^\]]*\]|String\w+|'[^']*')")
_COMPARE: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda seen, wanted: seen == wanted,
    "StringLike": fnmatch.fnmatchcase,
    "StringStartsWith": lambda seen, wanted: seen.startswith(wanted),
}


@dataclass(frozen=True, slots=True)
class Assigned:
    """The actions of a role, and the condition of its assignment (empty for none)."""

    actions: tuple[str, ...]
    condition: str


@dataclass(frozen=True, slots=True)
class AzureCaller:
    """An identity with what is assigned to it."""

    name: str
    assigned: tuple[Assigned, ...]

    def may(self, ask: Ask) -> bool:
        """Whether one assignment has the action, under a condition that holds."""
        return any(
            ask.permission in one.actions and (not one.condition or holds(one.condition, ask))
            for one in self.assigned
        )


def caller_of(template: Mapping[str, Any], name: str, principal: str) -> AzureCaller:
    """What an ARM template assigns to an identity."""
    kinds = {"roleDefinitions": [], "roleAssignments": []}  # type: dict[str, list[Any]]
    for resource in template["resources"]:
        kind = resource["type"].rpartition("/")[2]
        if kind in kinds:
            kinds[kind].append(resource)
    assigned = []
    for found in (made["properties"] for made in kinds["roleAssignments"]):
        if found["principalId"] != principal:
            continue
        (role,) = (
            made["properties"]["permissions"][0]
            for made in kinds["roleDefinitions"]
            if made["name"] in found["roleDefinitionId"]
        )
        actions = (*role["actions"], *role["dataActions"])
        assigned.append(Assigned(actions, found.get("condition", "")))
    return AzureCaller(name, tuple(assigned))


def holds(condition: str, ask: Ask) -> bool:
    """Whether a condition is true for a request. Raises ``ValueError`` for what is not in the language."""
    reader = _Reader(condition, ask)
    result = reader.either()
    reader.end()
    return result


class _Reader:
    def __init__(self, text: str, ask: Ask) -> None:
        self._tokens = list(_tokens(text))
        self._ask = ask

    def either(self) -> bool:
        result = self.both()
        while self._take("OR"):
            result = self.both() or result
        return result

    def both(self) -> bool:
        result = self.one()
        while self._take("AND"):
            result = self.one() and result
        return result

    def one(self) -> bool:
        if self._take("!") or self._take("NOT"):
            return not self.one()
        if self._take("("):
            result = self.either()
            if not self._take(")"):
                raise ValueError(self._tokens)
            return result
        token = self._tokens.pop(0)
        if token.startswith("ActionMatches"):
            return token[15:-2] == self._ask.permission
        if token.startswith("SubOperationMatches"):
            return self._ask.is_listing and token[21:-2] == "Blob.List"
        compare, wanted = self._tokens.pop(0), self._tokens.pop(0)
        seen = self._attribute(token)
        return seen is not None and _COMPARE[compare](seen, wanted[1:-1])

    def end(self) -> None:
        if self._tokens:
            raise ValueError(self._tokens)

    def _take(self, token: str) -> bool:
        if self._tokens[:1] != [token]:
            return False
        del self._tokens[0]
        return True

    def _attribute(self, token: str) -> str | None:
        if token.startswith("@Request") and token.endswith(":prefix]"):
            return self._ask.prefix if self._ask.is_listing else None
        if token.startswith("@Resource") and token.endswith(":path]"):
            return self._ask.name or None
        raise ValueError(token)


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while place < len(text.rstrip()):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(text[place:])
        yield found[1]
        place = found.end()
