"""A Google Cloud project for a vault, as a configuration of Terraform.

Source: https://registry.terraform.io/providers/hashicorp/google/latest/docs
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from donjon.roles import gcp_policies as policies
from donjon.roles.account import Account
from donjon.roles.hcl import Block, Raw, block, write

_DAY_S = 86_400
_LOGGED = ("ADMIN_READ", "DATA_READ", "DATA_WRITE")
_SERVICES = ("storage.googleapis.com", "cloudkms.googleapis.com")


def render(account: Account) -> str:
    """The configuration."""
    policies.check(account)
    head = f"Donjon: the project of the vault in {account.bucket}. Made by donjon roles render."
    return write(head, _blocks(account))


def _blocks(account: Account) -> Iterator[Block]:
    providers = (("google", {"source": "hashicorp/google", "version": "~> 7.0"}),)
    yield block(
        "terraform", required_version=">= 1.5", required_providers=Block("required_providers", (), providers)
    )
    region = {"region": account.region} if account.region else {}
    yield block("provider", "google", project=account.owner, **region)
    yield block("data", "google_project", "vault")
    yield from _buckets(account)
    for service in _SERVICES:
        logs = [block("audit_log_config", log_type=kind) for kind in _LOGGED]
        symbol = service.partition(".")[0]
        yield block(
            "resource",
            "google_project_iam_audit_config",
            symbol,
            project=account.owner,
            service=service,
            audit_log_config=logs,
        )
    if account.key:
        yield from _key(account)
    yield from _roles(account)
    yield _deny(account)
    yield from _perimeters(account)


def _buckets(account: Account) -> Iterator[Block]:
    place = (account.region or "EU").upper()
    common: dict[str, Any] = {
        "location": place,
        "public_access_prevention": "enforced",
        "uniform_bucket_level_access": True,
    }
    versions = block("versioning", enabled=True)
    lifecycle = block("lifecycle", prevent_destroy=True)
    kept = block("retention_policy", is_locked=True, retention_period=account.min_retention * _DAY_S)
    yield block(
        "resource",
        "google_storage_bucket",
        "logs",
        skips=["CKV_GCP_62"],
        name=account.logs,
        **common,
        versioning=versions,
        lifecycle=lifecycle,
    )
    yield block(
        "resource",
        "google_storage_bucket_iam_member",
        "logs",
        bucket=Raw("google_storage_bucket.logs.name"),
        role="roles/storage.objectCreator",
        member="group:cloud-storage-analytics@google.com",
    )
    yield block(
        "resource",
        "google_storage_bucket",
        "vault",
        name=account.bucket,
        **common,
        enable_object_retention=True,
        versioning=versions,
        retention_policy=kept,
        logging=block("logging", log_bucket=Raw("google_storage_bucket.logs.name")),
        lifecycle=lifecycle,
    )


def _key(account: Account) -> Iterator[Block]:
    place = (account.region or "europe").lower()
    yield block("resource", "google_kms_key_ring", "vault", name=account.name, location=place)
    yield block(
        "resource",
        "google_kms_crypto_key",
        "vault",
        name=account.bucket,
        key_ring=Raw("google_kms_key_ring.vault.id"),
        purpose="ENCRYPT_DECRYPT",
        rotation_period=f"{90 * _DAY_S}s",
        destroy_scheduled_duration=f"{120 * _DAY_S}s",
        version_template=block(
            "version_template", algorithm="GOOGLE_SYMMETRIC_ENCRYPTION", protection_level="HSM"
        ),
        lifecycle=block("lifecycle", prevent_destroy=True),
    )


def _roles(account: Account) -> Iterator[Block]:
    for role in policies.custom_roles(account):
        yield block(
            "resource",
            "google_project_iam_custom_role",
            role.role_id,
            role_id=role.role_id,
            title=role.title,
            permissions=list(role.permissions),
        )
    for binding in policies.bindings(account):
        role_name = Raw(f"google_project_iam_custom_role.{binding.role_id}.id")
        if binding.on_key:
            yield block(
                "resource",
                "google_kms_crypto_key_iam_member",
                binding.symbol,
                crypto_key_id=Raw("google_kms_crypto_key.vault.id"),
                role=role_name,
                member=binding.member,
            )
            continue
        condition: dict[str, Any] = {}
        if binding.condition:
            condition["condition"] = block("condition", title="objects", expression=binding.condition)
        yield block(
            "resource",
            "google_storage_bucket_iam_member",
            binding.symbol,
            bucket=Raw("google_storage_bucket.vault.name"),
            role=role_name,
            member=binding.member,
            **condition,
        )


def _deny(account: Account) -> Block:
    (rule,) = (made["denyRule"] for made in policies.deny_policy(account)["rules"])
    denied = block(
        "deny_rule",
        denied_principals=rule["deniedPrincipals"],
        exception_principals=rule["exceptionPrincipals"],
        denied_permissions=rule["deniedPermissions"],
    )
    return block(
        "resource",
        "google_iam_deny_policy",
        "vault",
        name=f"{account.name}-locks",
        display_name="Donjon: locks and keys stay",
        parent=f"cloudresourcemanager.googleapis.com%2Fprojects%2F{account.owner}",
        rules=block("rules", denied=denied),
        depends_on=[Raw("google_storage_bucket.vault"), Raw("google_storage_bucket_iam_member.logs")],
    )


def _perimeters(account: Account) -> Iterator[Block]:
    """Who is outside of the perimeter reaches neither bucket nor key, whatever roles say.

    Like the default retention on Azure it begins as something that is only tried: until there are writers it
    is a dry run, which logs what it would have refused.
    Source: https://docs.cloud.google.com/vpc-service-controls/docs/dry-run-mode
    """
    for number, policy in enumerate(account.private_network, 1):
        name = f"{account.name.replace('-', '_')}_{number}"
        if account.allow_ip:
            yield _access_level(account, policy, name)
        enforced = bool(account.writers)
        limits = _limits("status" if enforced else "spec", account, name)
        yield block(
            "resource",
            "google_access_context_manager_service_perimeter",
            name,
            parent=policy,
            name=f"{policy}/servicePerimeters/{name}",
            title=name,
            use_explicit_dry_run_spec=not enforced,
            limits=limits,
        )


def _limits(kind: str, account: Account, name: str) -> Block:
    ingress = {"ingress_policies": _ingress(name)} if account.allow_ip else {}
    return block(
        kind,
        resources=[Raw('"projects/${data.google_project.vault.number}"')],
        restricted_services=list(_SERVICES),
        **ingress,
    )


def _access_level(account: Account, policy: str, name: str) -> Block:
    """The networks of the internet from which hosts and people come."""
    conditions = block("conditions", ip_subnetworks=list(account.allow_ip))
    return block(
        "resource",
        "google_access_context_manager_access_level",
        name,
        parent=policy,
        name=f"{policy}/accessLevels/{name}",
        title=name,
        basic=block("basic", conditions=conditions),
    )


def _ingress(name: str) -> Block:
    """Who comes from there is let in, and may then do what roles say.

    Source: https://docs.cloud.google.com/vpc-service-controls/docs/ingress-egress-rules
    """
    level = Raw(f"google_access_context_manager_access_level.{name}.name")
    came = block("ingress_from", identity_type="ANY_IDENTITY", sources=block("sources", access_level=level))
    every = block("method_selectors", method="*")
    calls = [block("operations", service_name=service, every=every) for service in _SERVICES]
    return block("ingress_policies", came=came, to=block("ingress_to", resources=["*"], calls=calls))
