"""`donjon roles`: what the five roles may do, and the account that is made from that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from donjon.cli.common import JsonOption, output
from donjon.core.errors import UsageError
from donjon.core.units import parse_duration

_LIST_EPILOG = """\b
Examples:
  donjon roles list
  donjon roles list --cloud aws --json

\b
JSON: {"cloud", "roles": [{"name", "does", "cannot", "held_by_people",
"grants": [{"permissions", "objects"}], "key_permissions"}]}; objects are names in the vault, of which one
that ends in * stands for all that start so, and an empty list is the bucket itself. openbao has no grants."""

_RENDER_EPILOG = """\b
Examples:
  donjon roles render --cloud s3 --format json --bucket acme-vault --prefix prod
  donjon roles render --cloud aws --format cloudformation --bucket acme-vault --account 222222222222 \
--production-account 111111111111 --external-id a-long-made-up-word --out vault.json
  donjon roles render --cloud azure --format bicep --bucket vault --storage-account acmevault \
--account 11111111-2222-3333-4444-555555555555 --allow-ip 203.0.113.0/24 --out vault.bicep
  donjon roles render --cloud gcp --format terraform --bucket acme-vault --account acme-vault-1 \
--break-glass principal://goog/subject/glass@example.org --out vault.tf
  donjon roles render --cloud openbao --format hcl --bucket acme-vault

\b
JSON: {"cloud", "format", "file", "text"}; file is null without --out, text is null with it."""

_SNAPSHOTTER_EPILOG = """\b
Examples:
  donjon roles snapshotter --cloud aws --account 111111111111 --lock \
--key arn:aws:kms:eu-west-1:111111111111:key/KEY
  donjon roles snapshotter --cloud azure --account 11111111-2222-3333-4444-555555555555 \
--resource-group shop --lock --out role.json
  donjon roles snapshotter --cloud gcp --account acme-shop --share

\b
A policy for `aws iam put-role-policy`, a definition for `az role definition create`, or roles with the
bindings that they are to have. JSON: {"cloud", "file", "text"}; as for `render`."""

app = typer.Typer(help="The five roles: what each may do, and policies made from that.", no_args_is_help=True)

_CLOUDS = "aws|azure|gcp|s3|openbao"


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    cloud: Annotated[str, typer.Option("--cloud", metavar=_CLOUDS, help="Whose permissions to show.")] = "s3",
    json: JsonOption = False,
) -> int:
    """Show the five roles, and which permissions each has on which objects of a vault.

    WRITER in a name stands for the id that `donjon writer list` shows.
    """
    from donjon.roles.model import ROLES, Role
    from donjon.roles.permissions import KEYS, STORES, key_permissions, store_grants

    if cloud not in {*STORES, "openbao"}:
        msg = f"--cloud {cloud}: is not known"
        raise UsageError(msg, hint=f"There are: {_CLOUDS.replace('|', ', ')}.")

    def row(role: Role) -> dict[str, Any]:
        grants = store_grants(cloud, role, "WRITER") if cloud in STORES else []
        return {
            "name": role.name,
            "does": role.does,
            "cannot": role.cannot,
            "held_by_people": role.is_held_by_people,
            "grants": [
                {"permissions": list(grant.permissions), "objects": list(grant.objects)} for grant in grants
            ],
            "key_permissions": list(key_permissions(cloud, role)) if cloud in KEYS else [],
        }

    rows = [row(role) for role in ROLES]
    output(json=json).result({"cloud": cloud, "roles": rows}, "\n\n".join(map(_text, rows)))
    return 0


def _text(row: dict[str, Any]) -> str:
    lines = [f"{row['name']}  {row['does']};", f"    cannot {row['cannot']}"]
    for grant in row["grants"]:
        where = ", ".join(grant["objects"]) or "the bucket"
        lines.append(f"  {', '.join(grant['permissions'])}\n    on {where}")
    if row["key_permissions"]:
        lines.append(f"  {', '.join(row['key_permissions'])}\n    on the key")
    return "\n".join(lines)


@app.command("render", epilog=_RENDER_EPILOG)
def render(
    cloud: Annotated[str, typer.Option("--cloud", metavar=_CLOUDS, help="For which cloud.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="cloudformation|terraform|bicep|json|hcl", help="In which language."
        ),
    ],
    bucket: Annotated[
        str, typer.Option("--bucket", metavar="NAME", help="Bucket or container of the vault.")
    ],
    prefix: Annotated[str, typer.Option("--prefix", metavar="PATH", help="Where it is in the bucket.")] = "",
    account: Annotated[
        str, typer.Option("--account", metavar="ID", help="Account, subscription or project of the vault.")
    ] = "",
    production_account: Annotated[
        str, typer.Option("--production-account", metavar="ID", help="AWS account whose hosts back up.")
    ] = "",
    operators_account: Annotated[
        str,
        typer.Option(
            "--operators-account", metavar="ID", help="AWS account of the people [that of the vault]."
        ),
    ] = "",
    external_id: Annotated[
        str, typer.Option("--external-id", metavar="WORD", help="What hosts present to become a writer.")
    ] = "",
    writer: Annotated[
        list[str] | None,
        typer.Option("--writer", metavar="ID", help="Id of an enrolled host, 32 digits; repeatable."),
    ] = None,
    principal: Annotated[
        list[str] | None,
        typer.Option(
            "--principal",
            metavar="ROLE=IDENTITY",
            help="Who has a role on Azure or Google Cloud; for a writer, ROLE is its id. Repeatable.",
        ),
    ] = None,
    min_retention: Annotated[
        str, typer.Option("--min-retention", metavar="TIME", help="The lock of the vault, in whole days.")
    ] = "30d",
    max_retention: Annotated[
        str | None,
        typer.Option("--max-retention", metavar="TIME", help="Longest lock of all [2 days more]."),
    ] = None,
    kms: Annotated[bool, typer.Option("--kms/--no-kms", help="With a key that seals session keys.")] = True,
    break_glass: Annotated[
        str,
        typer.Option(
            "--break-glass",
            metavar="IDENTITY",
            help="Who alone may change policies [AWS: NAME-break-glass; Azure: nobody].",
        ),
    ] = "",
    private_network: Annotated[
        list[str] | None,
        typer.Option(
            "--private-network",
            metavar="ID",
            help="Nothing but through it: VPC endpoint, subnet, or access policy; repeatable.",
        ),
    ] = None,
    allow_ip: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-ip",
            metavar="CIDR",
            help="Who comes in: Azure's firewall, Google's perimeter; repeatable [nobody].",
        ),
    ] = None,
    log_bucket: Annotated[
        str, typer.Option("--log-bucket", metavar="NAME", help="Bucket of the access log [BUCKET-logs].")
    ] = "",
    storage_account: Annotated[
        str, typer.Option("--storage-account", metavar="NAME", help="Azure's storage account.")
    ] = "",
    managed_hsm: Annotated[
        str,
        typer.Option("--managed-hsm", metavar="NAME", help="Azure's, for the key, instead of a Key Vault."),
    ] = "",
    resource_group: Annotated[
        str,
        typer.Option("--resource-group", metavar="NAME", help="Azure's, for terraform [donjon-vault]."),
    ] = "",
    region: Annotated[
        str, typer.Option("--region", metavar="NAME", help="Where; by default as the deployment has it.")
    ] = "",
    name: Annotated[
        str, typer.Option("--name", metavar="WORD", help="What names of roles and keys start with.")
    ] = "donjon",
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there; never over a file.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Print the account of a vault: bucket with locks, log, key, and the five roles, as minimal policies.

    Nothing is deployed, and no network is used. Make the vault between two renderings: first without
    --writer, then with the ids of the hosts that were enrolled. docs/roles.md has the steps for each cloud.
    """
    from donjon.roles.account import Account
    from donjon.roles.render import render as make

    shortest = _days(min_retention, "--min-retention")
    made = make(
        cloud,
        form,
        Account(
            bucket=bucket,
            owner=account,
            prefix=prefix,
            production=production_account,
            operators=operators_account,
            external_id=external_id,
            writers=tuple(writer or ()),
            min_retention=shortest,
            max_retention=shortest + 2 if max_retention is None else _days(max_retention, "--max-retention"),
            name=name,
            log_bucket=log_bucket,
            break_glass=break_glass,
            key=kms,
            private_network=tuple(private_network or ()),
            allow_ip=tuple(allow_ip or ()),
            principals=tuple(map(_pair, principal or ())),
            region=region,
            storage_account=storage_account,
            resource_group=resource_group,
            managed_hsm=managed_hsm,
        ),
    )
    return _give({"cloud": cloud, "format": form}, made, out_file, json=json)


@app.command("snapshotter", epilog=_SNAPSHOTTER_EPILOG)
def snapshotter(
    cloud: Annotated[str, typer.Option("--cloud", metavar="aws|azure|gcp", help="For which cloud.")],
    account: Annotated[
        str, typer.Option("--account", metavar="ID", help="Account, subscription or project of production.")
    ] = "",
    read: Annotated[bool, typer.Option("--read/--no-read", help="Reads disks from their snapshots.")] = True,
    copy: Annotated[bool, typer.Option("--copy", help="Copies snapshots, to another region or key.")] = False,
    share: Annotated[bool, typer.Option("--share", help="Shares them with other accounts.")] = False,
    lock: Annotated[bool, typer.Option("--lock", help="Locks them.")] = False,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="ARN", help="Key of KMS of disks or copies, on AWS; repeatable."),
    ] = None,
    resource_group: Annotated[
        str, typer.Option("--resource-group", metavar="NAME", help="Azure's, instead of the subscription.")
    ] = "",
    name: Annotated[
        str, typer.Option("--name", metavar="WORD", help="How it is called.")
    ] = "donjon-snapshotter",
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there; never over a file.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Print what the identity near production may do that takes snapshots for a plan, and no more.

    Nothing is deployed, and no network is used. Where the cloud can tell Donjon's snapshots from others, it
    deletes, locks, shares and reads those alone.
    """
    from donjon.roles.snapshotter import CLOUDS, TASKS, Snapshotter
    from donjon.roles.snapshotter import render as make

    if cloud not in CLOUDS:
        msg = f"--cloud {cloud}: has no snapshots that Donjon takes"
        raise UsageError(msg, hint=f"There are: {', '.join(CLOUDS)}.")
    chosen = dict(zip(TASKS, (read, copy, share, lock), strict=True))
    tasks = frozenset(task for task, wanted in chosen.items() if wanted)
    made = make(cloud, Snapshotter(account, name, tasks, tuple(key or ()), resource_group))
    return _give({"cloud": cloud}, made, out_file, json=json)


def _give(told: dict[str, Any], text: str, out_file: Path | None, *, json: bool) -> int:
    """Print what was made, or write it to a new file."""
    from donjon.keys.private import create_private

    out = output(json=json)
    if out_file is None:
        out.result({**told, "file": None, "text": text}, text.rstrip("\n"))
        return 0
    create_private(out_file, text.encode())
    out.result(
        {**told, "file": str(out_file), "text": None},
        f"Wrote {out_file}. Read docs/roles.md before you deploy it.",
    )
    return 0


def _days(text: str, option: str) -> int:
    seconds = parse_duration(text)
    if seconds % 86_400:
        msg = f"{option} {text}: is no number of whole days"
        raise UsageError(msg, hint="Write 30d or 1y.")
    return seconds // 86_400


def _pair(text: str) -> tuple[str, str]:
    role, sign, identity = text.partition("=")
    if not sign:
        msg = f"--principal {text}: names no identity"
        raise UsageError(msg, hint="Write reader=IDENTITY.")
    return role, identity
