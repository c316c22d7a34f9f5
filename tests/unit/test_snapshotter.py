"""What a snapshotter may do: what its calls take, and nothing else's snapshots where a cloud can tell."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from donjon.clouds import ebs_faults
from donjon.core.errors import UsageError
from donjon.roles.snapshotter import ALWAYS, CLOUDS, TASKS, Snapshotter, permissions, render
from donjon.snapshots import azure_calls, ebs_calls, gce_calls

OWNERS = {"aws": "111111111111", "azure": "11111111-2222-3333-4444-555555555555", "gcp": "acme-shop"}
KEY = "arn:aws:kms:eu-west-1:111111111111:key/1"
CHOICES = [frozenset(chosen) for count in range(5) for chosen in itertools.combinations(TASKS, count)]


def made(cloud: str, tasks: frozenset[str], *keys: str) -> Any:
    return json.loads(render(cloud, Snapshotter(OWNERS[cloud], tasks=tasks, keys=keys)))


def allowed(cloud: str, found: Any) -> Iterator[str]:
    if cloud == "aws":
        for statement in found["Statement"]:
            yield from statement["Action"]
    elif cloud == "azure":
        yield from (*found["Actions"], *found["DataActions"])
    else:
        for role in found["roles"].values():
            yield from role["includedPermissions"]


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("tasks", CHOICES, ids=lambda tasks: "-".join(sorted(tasks)) or "none")
def test_all_that_its_calls_take_and_no_more(cloud: str, tasks: frozenset[str]) -> None:
    assert set(allowed(cloud, made(cloud, tasks, KEY))) == set(permissions(cloud, tasks))


def test_the_tasks_are_those_of_the_tables() -> None:
    for table in (ebs_calls.PERMISSIONS, azure_calls.PERMISSIONS, gce_calls.PERMISSIONS):
        assert table.keys() <= {*ALWAYS, *TASKS}
        assert {*ALWAYS} <= table.keys()
    wanted = {name for operation in ebs_faults.PERMISSIONS["read"] for name in operation.all_permissions}
    assert wanted <= set(permissions("aws", {"read"}))


@pytest.mark.parametrize("tasks", CHOICES)
def test_on_aws_what_is_there_is_touched_only_with_its_tag(tasks: frozenset[str]) -> None:
    for statement in made("aws", tasks, KEY)["Statement"]:
        actions = set(statement["Action"])
        if all(action.startswith("ec2:Describe") for action in actions):
            continue
        if statement["Resource"] == "arn:aws:ec2:*::snapshot/*" and actions != {"ec2:CopySnapshot"}:
            assert statement["Condition"]
            continue
        if actions <= {"ec2:CreateSnapshot", "ec2:CreateSnapshots"}:
            assert all(OWNERS["aws"] in resource for resource in statement["Resource"])
            continue
        assert statement["Resource"] == [KEY] or actions == {"ec2:CopySnapshot"}
    own = next(s for s in made("aws", tasks)["Statement"] if "ec2:DeleteSnapshot" in s["Action"])
    assert own["Condition"] == {"StringLike": {"aws:ResourceTag/donjon-workload": "?*"}}


def test_on_google_cloud_names_tell_its_own() -> None:
    found = made("gcp", frozenset(TASKS))
    conditions = {row["role"].rpartition("/")[2]: row.get("condition") for row in found["bindings"]}
    for role_id, role in found["roles"].items():
        touches = {"compute.snapshots.delete", "compute.disks.delete", "compute.snapshots.setIamPolicy"}
        assert bool(touches & set(role["includedPermissions"])) is (conditions[role_id] is not None)


def test_on_azure_the_scope_is_all_that_holds_it() -> None:
    who = Snapshotter(OWNERS["azure"], resource_group="shop")
    scope = json.loads(render("azure", who))["AssignableScopes"]
    assert scope == [f"/subscriptions/{OWNERS['azure']}/resourceGroups/shop"]


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("owner", ["", "x", "*", "111111111111/"])
def test_an_account_that_is_none(cloud: str, owner: str) -> None:
    with pytest.raises(UsageError, match="--account"):
        render(cloud, Snapshotter(owner))
