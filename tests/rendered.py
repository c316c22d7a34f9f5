"""Accounts to render in tests, with made-up names."""

from __future__ import annotations

from dataclasses import replace

from donjon.roles.account import Account

WRITER_ID = "ab" * 16
OTHER = "cd" * 16
_PEOPLE = ("reader", "custodian", "reaper", "auditor")
_PRIVATE = {
    "aws": "vpce-0123456789abcdef0",
    "azure": "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/n/subnets/x",
    "gcp": "accessPolicies/123456",
}


def account(cloud: str) -> Account:
    """An account with one writer, of which everything is rendered."""
    base = Account(bucket="acme-vault", prefix="prod", writers=(WRITER_ID,))
    if cloud == "aws":
        return replace(base, owner="2" * 12, production="1" * 12, external_id="made-up-for-tests")
    if cloud == "azure":
        who = tuple((role, _guid(number)) for number, role in enumerate((WRITER_ID, *_PEOPLE), 1))
        return replace(
            base, owner=_guid(0), storage_account="acmevault", principals=who, allow_ip=("203.0.113.0/24",)
        )
    if cloud == "gcp":
        who = tuple((role, f"group:{role}@acme.example") for role in (WRITER_ID, *_PEOPLE))
        glass = "principal://goog/subject/glass@acme.example"
        return replace(base, owner="acme-vault-1", principals=who, break_glass=glass)
    return replace(base, prefix="", writers=()) if cloud == "openbao" else base


def private(cloud: str) -> Account:
    """The same, reached through a private network alone."""
    return replace(account(cloud), private_network=(_PRIVATE[cloud],), allow_ip=())


def first(cloud: str) -> Account:
    """The same as it is rendered first, before there are writers; with what Azure and Google have besides."""
    made = private(cloud)
    people = tuple(pair for pair in made.principals if pair[0] in _PEOPLE)
    changed = replace(made, writers=(), principals=people)
    if cloud == "azure":
        return replace(changed, managed_hsm="acme-hsm", break_glass=_guid(99))
    return replace(changed, allow_ip=("203.0.113.0/24",)) if cloud == "gcp" else changed


def _guid(number: int) -> str:
    return f"{number:08d}-0000-0000-0000-000000000000"
