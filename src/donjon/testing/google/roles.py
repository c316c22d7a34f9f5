"""Google Cloud's allow policies, as they are rendered: a **fake** of how IAM judges a request.

Sources: https://docs.cloud.google.com/iam/docs/policies (bindings only ever add) and
https://docs.cloud.google.com/iam/docs/conditions-resource-attributes: the name of an object is
``projects/_/buckets/BUCKET/objects/NAME``; a listing is of the bucket, so a condition on objects refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from donjon.testing.callers import Ask

_STARTS = re.compile(r'resource\.name\.startsWith\("([^"]*)"\)')
_EQUALS = re.compile(r'resource\.name == "([^"]*)"')


@dataclass(frozen=True, slots=True)
class Bound:
    """The permissions of a role, and the condition of its binding (empty for none)."""

    permissions: tuple[str, ...]
    condition: str


@dataclass(frozen=True, slots=True)
class GoogleCaller:
    """A member of an allow policy of a bucket."""

    name: str
    bucket: str
    bound: tuple[Bound, ...]

    def may(self, ask: Ask) -> bool:
        """Whether one binding has the permission, under a condition that holds."""
        place = f"projects/_/buckets/{self.bucket}"
        resource = f"{place}/objects/{ask.name}" if ask.name else place
        return any(ask.permission in one.permissions and holds(one.condition, resource) for one in self.bound)


def caller_of(rendered: Mapping[str, Any], name: str, member: str, bucket: str) -> GoogleCaller:
    """What the rendered policy of the bucket gives to a member."""
    bound = []
    for binding in rendered["bucket"]["bindings"]:
        if member in binding["members"]:
            role = rendered["roles"][binding["role"].rpartition("/")[2]]
            condition = binding.get("condition", {}).get("expression", "")
            bound.append(Bound(tuple(role["includedPermissions"]), condition))
    return GoogleCaller(name, bucket, tuple(bound))


def holds(condition: str, resource: str) -> bool:
    """Whether a condition is true. Raises ``ValueError`` for an expression that this fake does not know."""
    if not condition:
        return True
    result = False
    for part in condition.split(" || "):
        if starts := _STARTS.fullmatch(part):
            result = resource.startswith(starts[1]) or result
        elif equals := _EQUALS.fullmatch(part):
            result = resource == equals[1] or result
        else:
            raise ValueError(part)
    return result
