"""What the identity near production may do that takes snapshots and reads disks from them.

It is none of the five roles: it has nothing to do with a vault. Like theirs, its permissions come from the
tables of the adapters. Wherever a cloud can tell Donjon's snapshots from others, what changes or reads one
is allowed for Donjon's alone: by their tag on AWS, by their names on Google Cloud. Conditions of Azure know
nothing of disks: https://learn.microsoft.com/azure/role-based-access-control/conditions-overview.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from donjon.clouds import azure_disk_faults, ebs_faults
from donjon.core.operations import Operation
from donjon.roles.account import need
from donjon.snapshots import azure_calls, ebs_calls, gce_calls
from donjon.snapshots.marks import TAG

#: What every snapshotter does, and what it does if it is told to.
ALWAYS: Final = ("select", "create", "wait", "list", "delete")
TASKS: Final = ("read", "copy", "share", "lock")
_GUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PROJECT: Final = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"

_TABLES: Final[Mapping[str, Mapping[str, tuple[Operation, ...]]]] = {
    "aws": {**ebs_calls.PERMISSIONS, "read": ebs_faults.PERMISSIONS["read"]},
    "azure": {**azure_calls.PERMISSIONS, "read": azure_disk_faults.PERMISSIONS["read"]},
    "gcp": gce_calls.PERMISSIONS,
}
CLOUDS: Final = tuple(_TABLES)


@dataclass(frozen=True, slots=True)
class Snapshotter:
    """Whom to render. ``owner`` is the account, subscription or project of production.

    ``tasks`` are of ``TASKS``, ``keys`` the ARNs of the keys of KMS of disks there, or of copies.
    """

    owner: str
    name: str = "donjon-snapshotter"
    tasks: frozenset[str] = frozenset({"read"})
    keys: tuple[str, ...] = ()
    resource_group: str = ""


def permissions(cloud: str, tasks: Iterable[str]) -> list[str]:
    """All permissions that the calls for these tasks take, each once, in the order of their names."""
    table = _TABLES[cloud]
    wanted = [operation for task in (*ALWAYS, *tasks) for operation in table.get(task, ())]
    return sorted({permission for operation in wanted for permission in operation.all_permissions})


def render(cloud: str, who: Snapshotter) -> str:
    """A policy of IAM, a role definition of Azure, or roles and bindings of Google Cloud, in JSON.

    Raises ``UsageError`` for an account that cannot be one.
    """
    return json.dumps({"aws": _aws, "azure": _azure, "gcp": _gcp}[cloud](who), indent=2) + "\n"


# -- AWS -------------------------------------------------------------------------------------------

#: These change snapshots that are there, and take a condition on their tags; see
#: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html and, for ``ebs:``,
#: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticblockstore.html
_OF_OWN: Final = {
    "ec2:DeleteSnapshot", "ec2:LockSnapshot", "ec2:ModifySnapshotAttribute",
    "ebs:GetSnapshotBlock", "ebs:ListChangedBlocks", "ebs:ListSnapshotBlocks",
}  # fmt: skip
_TAKING: Final = ("ec2:CreateSnapshot", "ec2:CreateSnapshots")
_COPYING: Final = "ec2:CopySnapshot"
_SNAPSHOTS: Final = "arn:aws:ec2:*::snapshot/*"


def _aws(who: Snapshotter) -> dict[str, Any]:
    need(who.owner, "--account", "the twelve digits of the account of production", r"\d{12}")
    allowed = permissions("aws", who.tasks)
    looking = [name for name in allowed if name.startswith("ec2:Describe")]
    own = [name for name in allowed if name in _OF_OWN]
    of_keys = [name for name in allowed if name.startswith("kms:")]
    sources = [f"arn:aws:ec2:*:{who.owner}:{kind}/*" for kind in ("volume", "instance")]
    creating = [name.partition(":")[2] for name in (*_TAKING, _COPYING) if name in allowed]
    statements = [
        _allow("Look", looking, "*"),
        _allow("TakeSnapshotsOf", list(_TAKING), sources),
        _allow("TakeThemWithItsTag", list(_TAKING), _SNAPSHOTS, _tagged("RequestTag")),
        _allow(
            "TagWhatItTakes", ["ec2:CreateTags"], _SNAPSHOTS, {"StringEquals": {"ec2:CreateAction": creating}}
        ),
        _allow("OnlyOfItsOwn", own, _SNAPSHOTS, _tagged("ResourceTag")),
    ]
    if _COPYING in allowed:  # of snapshots of other accounts the tags are not seen
        statements.append(_allow("Copy", [_COPYING], _SNAPSHOTS))
    if of_keys and who.keys:
        granting = [name for name in of_keys if name == "kms:CreateGrant"]
        rest = [name for name in of_keys if name not in granting]
        statements.append(_allow("UseKeys", rest, list(who.keys)))
        if granting:
            for_aws = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
            statements.append(_allow("LetTheServiceUseKeys", granting, list(who.keys), for_aws))
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(sid: str, actions: list[str], resource: object, condition: object = None) -> dict[str, Any]:
    made = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
    return made if condition is None else {**made, "Condition": condition}


def _tagged(which: str) -> dict[str, Any]:
    return {"StringLike": {f"aws:{which}/{TAG}": "?*"}}


# -- Azure -----------------------------------------------------------------------------------------


def _azure(who: Snapshotter) -> dict[str, Any]:
    need(who.owner, "--account", "the id of the subscription of production", _GUID)
    allowed = permissions("azure", who.tasks)
    data = [name for name in allowed if name.endswith("/download/action")]
    scope = f"/subscriptions/{who.owner}"
    if who.resource_group:
        scope += f"/resourceGroups/{who.resource_group}"
    return {
        "Name": who.name,
        "IsCustom": True,
        "Description": "Takes snapshots of disks of production, and reads them.",
        "Actions": [name for name in allowed if name not in data],
        "DataActions": data,
        "AssignableScopes": [scope],
    }


# -- Google Cloud ----------------------------------------------------------------------------------

#: These are about one snapshot, or a disk that was made to read one, whose names tell Donjon's from others:
#: https://docs.cloud.google.com/iam/docs/conditions-resource-attributes
_OF_SNAPSHOT: Final = {
    "compute.snapshots.delete", "compute.snapshots.getIamPolicy", "compute.snapshots.setIamPolicy",
    "compute.snapshots.useReadOnly",
}  # fmt: skip
_OF_READING: Final = {"compute.disks.delete", "compute.disks.useReadOnly"}
_OWN_SNAPSHOT: Final = 'resource.name.extract("/global/snapshots/{name}").startsWith("donjon-")'
_OWN_DISK: Final = 'resource.name.extract("/disks/{name}").startsWith("donjon-read-")'


def _gcp(who: Snapshotter) -> dict[str, Any]:
    need(who.owner, "--account", "the id of the project of production", _PROJECT)
    allowed = permissions("gcp", who.tasks)
    stem = who.name.replace("-", "_")
    parts = (
        (stem, "takes and lists", [n for n in allowed if n not in _OF_SNAPSHOT | _OF_READING], ""),
        (f"{stem}_own", "of its own snapshots", [n for n in allowed if n in _OF_SNAPSHOT], _OWN_SNAPSHOT),
        (f"{stem}_read", "of disks made to read one", [n for n in allowed if n in _OF_READING], _OWN_DISK),
    )
    roles, bindings = {}, []
    for role_id, title, included, condition in parts:
        if included:
            roles[role_id] = {"title": f"{who.name}: {title}", "includedPermissions": included, "stage": "GA"}
            binding: dict[str, Any] = {"role": f"projects/{who.owner}/roles/{role_id}"}
            if condition:
                binding["condition"] = {"title": title, "expression": condition}
            bindings.append(binding)
    return {"roles": roles, "bindings": bindings}
