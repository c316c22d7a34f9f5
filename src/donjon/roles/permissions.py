"""From what roles do to the permissions of each cloud: through the tables of the adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from donjon.core.operations import Operation
from donjon.keys import aws_kms, azure_keyvault, gcp_kms, openbao
from donjon.roles.model import Role
from donjon.stores.azure_blob import operations as azure_blob
from donjon.stores.gcs import operations as gcs
from donjon.stores.s3 import operations as s3

STORES: Mapping[str, Mapping[str, tuple[Operation, ...]]] = {
    "aws": s3.PERMISSIONS,
    "s3": s3.PERMISSIONS,
    "azure": azure_blob.PERMISSIONS,
    "gcp": gcs.PERMISSIONS,
}

#: Azure's other key service; it has roles of its own, on keys.
MANAGED_HSM = "managed-hsm"
#: What sealing and opening session keys takes, from the tables of the adapters.
KEYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    cloud: {
        kind: tuple(permission for operation in operations for permission in operation.permissions)
        for kind, operations in declared.items()
    }
    for cloud, declared in (
        ("aws", aws_kms.PERMISSIONS),
        ("azure", azure_keyvault.PERMISSIONS),
        (MANAGED_HSM, azure_keyvault.HSM_PERMISSIONS),
        ("gcp", gcp_kms.PERMISSIONS),
        ("openbao", openbao.PERMISSIONS),
    )
}


@dataclass(frozen=True, slots=True)
class Grant:
    """Permissions on some objects, named as in ``Use``; without objects on the bucket itself."""

    permissions: tuple[str, ...]
    objects: tuple[str, ...]


def store_grants(cloud: str, role: Role, writer: str = "") -> list[Grant]:
    """What a role needs of the store of a cloud: each permission on no more objects than are used."""
    objects: dict[tuple[str, bool], dict[str, None]] = {}
    for use in role.for_writer(writer):
        for operation in STORES[cloud][use.method]:
            for permission in operation.all_permissions:
                where = () if operation.of_bucket else use.objects
                objects.setdefault((permission, operation.of_bucket), {}).update(dict.fromkeys(where))
    by_objects: dict[tuple[str, ...], list[str]] = {}
    for (permission, _), found in objects.items():
        by_objects.setdefault(_shortest(found), []).append(permission)
    return [Grant(tuple(sorted(by_objects[where])), where) for where in sorted(by_objects)]


def key_permissions(cloud: str, role: Role) -> tuple[str, ...]:
    """What a role needs of the key service of a cloud."""
    return tuple(permission for kind in role.keys for permission in KEYS[cloud][kind])


def _shortest(found: Iterable[str]) -> tuple[str, ...]:
    """The same objects in as few names as there are."""
    return ("*",) if "*" in found else tuple(found)
