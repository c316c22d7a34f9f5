"""`donjon credentials`: how old the credentials are that Donjon uses, and changing them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import JsonOption, QuietOption, VaultOption, output, workspace
from donjon.cli.plan_files import PlanOption, plan_path
from donjon.core.clock import iso
from donjon.core.errors import UsageError
from donjon.core.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from donjon.app.credentials import CredentialRequest
    from donjon.app.plans.credentials import Entry
    from donjon.cli.output import Output
    from donjon.credentials.base import Credential
    from donjon.credentials.findings import Finding, Limits, Severity

_FINDINGS = 4
_WRITER = "writer"

_LIST_EPILOG = """\b
Examples:
  donjon credentials list aws --profile backup
  donjon credentials list writer --vault prod
  donjon credentials list openbao --file /etc/donjon/token --endpoint https://bao:8200
  donjon credentials list azure-storage --file /etc/donjon/azure.env

\b
JSON: {"credentials": [{"id", "kind", "owner", "created", "last_used", "use_is_known",
"expires", "active", "in_use", "stored_in", "powers", "replaceable_by", "details"}]}; times
that nobody tells are null. "details" is an object; for a SAS its "permissions", "services",
"resource_types", "resource", "protocol", "ip", "policy", "tenant", "key_expires" and
"version", of which those are there that it has."""

_CHECK_EPILOG = """\b
Examples:
  donjon credentials check
      all that the plan of this host names, by the limits of the plan
  donjon credentials check aws --profile backup --max-age 30d --fail-on advice
  donjon credentials check azure-storage --role custodian
      the SAS or account key in AZURE_STORAGE_CONNECTION_STRING, never shown

Ends with 4 if there is a finding as bad as --fail-on says.

\b
JSON: {"ok", "credentials": as of `list`, "findings": [{"check", "severity",
"credential", "text", "fix"}], "keyless": [...]}; credentials and findings also have the "name" in the
plan, null with SERVICE. "keyless" are names of the plan for which nothing is stored."""

_ROTATE_EPILOG = """\b
Examples:
  donjon credentials rotate aws --profile backup --verify s3://acme-vault/prod
  donjon credentials rotate openbao --file /etc/donjon/token
  donjon credentials rotate writer --vault prod
      a new signing key for this host, named by the old one; needs no kit

\b
JSON: {"old", "new", "place", "resumed", "disabled", "removed", "remains"}."""

_RETIRE_EPILOG = """\b
Examples:
  donjon credentials retire aws --profile backup --grace 7d

\b
JSON: {"deleted", "waiting": [{"id", "until"}]}."""

app = typer.Typer(
    help="See, check and change the credentials that Donjon uses in clouds and key services.",
    no_args_is_help=True,
)

ServiceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SERVICE",
        help="Whose: aws, azure, azure-storage, google, openbao, or writer for the signing key of this host.",
    ),
]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="Where this host keeps it [the service's usual place]."),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Profile of the AWS tools [AWS_PROFILE].")
]
AdminOption = Annotated[
    str | None,
    typer.Option("--admin-profile", metavar="NAME", help="Profile that asks IAM, if the key itself may not."),
]
OwnerOption = Annotated[
    str | None,
    typer.Option("--owner", metavar="NAME", help="User, account or application [whose credential it is]."),
]
VerifyOption = Annotated[
    str | None,
    typer.Option("--verify", metavar="URL", help="Vault that a new AWS key must be able to read."),
]
EndpointOption = Annotated[
    str | None, typer.Option("--endpoint", metavar="URL", help="Server, other than that of the cloud.")
]


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    service: ServiceArgument,
    file: FileOption = None,
    profile: ProfileOption = None,
    admin_profile: AdminOption = None,
    owner: OwnerOption = None,
    endpoint: EndpointOption = None,
    vault: VaultOption = None,
    json: JsonOption = False,
) -> int:
    """List the credentials of the owner of the one that this host uses. Secrets are never shown."""
    from donjon.app.credentials import list_credentials

    out = output(json=json)
    if service == _WRITER:
        from donjon.app.signers.writer_key import writer_keys

        found: Sequence[Credential] = writer_keys(workspace(vault))
    else:
        found = list_credentials(_request(service, file, profile, admin_profile, owner, None, endpoint))
    for one in found:
        out.line(_line(one))
    out.result({"credentials": [_data(one) for one in found]}, "")
    return 0


@app.command("check", epilog=_CHECK_EPILOG)
def check(
    service: Annotated[
        str | None,
        typer.Argument(metavar="[SERVICE]", help="Whose, as for `list` [all that the plan names]."),
    ] = None,
    plan: PlanOption = None,
    file: FileOption = None,
    profile: ProfileOption = None,
    admin_profile: AdminOption = None,
    owner: OwnerOption = None,
    endpoint: EndpointOption = None,
    max_age: Annotated[
        str | None, typer.Option("--max-age", metavar="TIME", help="How old one may be [as planned, or 90d].")
    ] = None,
    max_unused: Annotated[
        str | None,
        typer.Option("--max-unused", metavar="TIME", help="How long one may go unused [as planned, or 45d]."),
    ] = None,
    max_overlap: Annotated[
        str | None,
        typer.Option(
            "--max-overlap",
            metavar="TIME",
            help="How long two of an owner may both work [as planned, or 7d].",
        ),
    ] = None,
    renew_before: Annotated[
        str | None,
        typer.Option(
            "--renew-before", metavar="TIME", help="How long before its end one is due [as planned, or 14d]."
        ),
    ] = None,
    fail_on: Annotated[
        str, typer.Option("--fail-on", metavar="SEVERITY", help="advice, warning or critical.")
    ] = "warning",
    role: Annotated[
        str | None,
        typer.Option("--role", metavar="ROLE", help="Whose permissions a SAS of Azure may have [writer]."),
    ] = None,
    vault: VaultOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Find credentials that are too old, unused, too powerful, or need not be stored at all.

    Without SERVICE, all that the plan names are checked, by the limits of the plan.
    """
    from donjon.credentials.findings import Limits, Severity

    out = output(json=json, quiet=quiet)
    try:
        threshold = Severity[fail_on.upper()]
    except KeyError:
        msg = f"{fail_on!r} is no severity"
        raise UsageError(msg, hint="Give advice, warning or critical.") from None
    texts = {
        "max_age_s": max_age, "max_unused_s": max_unused, "max_overlap_s": max_overlap,
        "renew_before_s": renew_before,
    }  # fmt: skip
    given = {name: parse_duration(text) for name, text in texts.items() if text is not None}
    if service is None:
        if any(one is not None for one in (file, profile, admin_profile, owner, endpoint, role, vault)):
            msg = "which service is that about?"
            raise UsageError(msg, hint="Name it, such as aws. Without one the plan says what is checked.")
        return _show_checked(out, _planned(out, plan, given), threshold)
    if plan is not None:
        msg = "a service and a plan at once"
        raise UsageError(msg, hint="Leave SERVICE out to check all that the plan names.")
    request = _request(service, file, profile, admin_profile, owner, None, endpoint, role or "writer")
    return _show_checked(out, [_alone(request, Limits(**given), vault)], threshold)


def _planned(out: Output, plan: Path | None, given: dict[str, int]) -> list[Entry]:
    from donjon.app.catalog.opening import Places
    from donjon.app.plans.credentials import check_planned
    from donjon.app.plans.files import plan_in_force
    from donjon.core.clock import system_clock

    space = workspace()
    try:
        path = plan_path(space.home, plan)
    except UsageError as error:
        hint = "Name a service, such as aws, or a plan with --plan FILE."
        raise UsageError(error.message, hint=hint) from error
    places = Places(space.settings, plan_in_force(space.home, path)[0], out.warn)
    return list(check_planned(places, given, system_clock))


def _alone(request: CredentialRequest, limits: Limits, vault: str | None) -> Entry:
    from donjon.app.credentials import check_credentials, judged
    from donjon.app.plans.credentials import Entry

    if request.service == _WRITER:
        from donjon.app.signers.writer_key import keys_in_use

        return Entry(None, _WRITER, *judged(keys_in_use(workspace(vault)), limits))
    return Entry(None, request.service, *check_credentials(request, limits))


def _show_checked(out: Output, entries: Sequence[Entry], threshold: Severity) -> int:
    found = [(entry, finding) for entry in entries for finding in entry.findings]
    is_bad = any(finding.severity >= threshold for _, finding in found)
    data = {
        "ok": not is_bad,
        "credentials": [_data(one) | {"name": entry.name} for entry in entries for one in entry.credentials],
        "findings": [_finding(finding) | {"name": entry.name} for entry, finding in found],
        "keyless": [entry.name for entry in entries if entry.service is None],
    }
    lines = []
    for entry, finding in found:
        name = f"{entry.name}: " if entry.name else ""
        lines.append(f"{finding.severity.name.lower():<8}  {name}{finding.check}: {finding.text}")
        lines.append(f"          {finding.fix}")
    if keyless := [str(entry.name) for entry in entries if entry.service is None]:
        lines.append(f"Nothing is stored for {', '.join(keyless)}, so nothing there grows old")
    if not found:
        count = sum(len(entry.credentials) for entry in entries)
        lines.append(f"{count} credentials, and nothing wrong with them")
    out.result(data, "\n".join(lines))
    return _FINDINGS if is_bad else 0


@app.command("rotate", epilog=_ROTATE_EPILOG)
def rotate(
    service: ServiceArgument,
    file: FileOption = None,
    profile: ProfileOption = None,
    admin_profile: AdminOption = None,
    owner: OwnerOption = None,
    verify: VerifyOption = None,
    endpoint: EndpointOption = None,
    vault: VaultOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make a new credential, try it, write it where the old one is, and switch the old one off.

    Run it again after a crash or an error: it goes on where it was. At every moment the place holds a
    credential that works. The old one is deleted by `donjon credentials retire`, later.
    """
    from donjon.app.credentials import rotate_credential

    out = output(json=json, quiet=quiet)
    if service == _WRITER:
        return _rotate_writer(out, vault)
    done = rotate_credential(_request(service, file, profile, admin_profile, owner, verify, endpoint))
    data = {
        "old": done.old, "new": done.new, "place": done.place, "resumed": done.resumed,
        "disabled": done.disabled, "removed": list(done.removed), "remains": list(done.remains),
    }  # fmt: skip
    lines = [f"{done.place} holds {done.new} now, which was tried, in place of {done.old}"]
    lines += [f"Removed {lost}, whose secret was lost in a run before" for lost in done.removed]
    out.result(data, "\n".join([*lines, *done.remains]))
    return 0


@app.command("retire", epilog=_RETIRE_EPILOG)
def retire(
    service: ServiceArgument,
    file: FileOption = None,
    profile: ProfileOption = None,
    admin_profile: AdminOption = None,
    owner: OwnerOption = None,
    endpoint: EndpointOption = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="How long the present one must have been in use.")
    ] = "7d",
    vault: VaultOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Delete the credentials that were replaced and switched off."""
    from donjon.app.credentials import retire_credentials

    out = output(json=json, quiet=quiet)
    if service == _WRITER:
        msg = "keys of a writer are not deleted: what they signed has to stay readable"
        raise UsageError(msg, hint="Rotating is all there is to do; `donjon writer revoke` ends a writer.")
    request = _request(service, file, profile, admin_profile, owner, None, endpoint)
    done = retire_credentials(request, parse_duration(grace))
    lines = [f"Deleted {credential}" for credential in done.deleted]
    lines += [f"{credential} waits until {iso(until)}" for credential, until in done.waiting]
    waiting = [{"id": credential, "until": iso(until)} for credential, until in done.waiting]
    out.result(
        {"deleted": list(done.deleted), "waiting": waiting}, "\n".join(lines) or "There is nothing to delete"
    )
    return 0


def _rotate_writer(out: Output, vault: str | None) -> int:
    from donjon.app.signers.writer_key import rotate_writer_key

    done = rotate_writer_key(workspace(vault))
    writer = done.writer.hex()
    old, new = (f"{writer}/{number}" for number in (done.number - 1, done.number))
    data = {
        "old": old, "new": new, "place": str(done.path), "resumed": done.resumed,
        "disabled": True, "removed": [], "remains": [],
    }  # fmt: skip
    text = f"""The writer {writer[:12]} signs with key {done.number} from now on, which {done.path} holds.
What the old key signed stays. What it signs from now on does not count, but for backups under way."""
    out.result(data, text)
    return 0


def _request(
    service: str,
    file: Path | None,
    profile: str | None,
    admin_profile: str | None,
    owner: str | None,
    verify: str | None,
    endpoint: str | None,
    role: str = "writer",
) -> CredentialRequest:
    from donjon.app.credentials import CredentialRequest

    return CredentialRequest(service, file, profile, admin_profile, owner, verify, endpoint, role)


def _line(one: Credential) -> str:
    created = iso(one.created_at) if one.created_at is not None else "of unknown age"
    used = f"used {iso(one.last_used_at)}" if one.last_used_at is not None else "never used"
    state = [] if one.active else ["off"]
    state += ["in use here"] if one.in_use else []
    state += [used] if one.use_is_known else []
    state += [f"ends {iso(one.expires_at)}"] if one.expires_at is not None else []
    state += [f"{name.replace('_', ' ')} {value}" for name, value in one.details]
    return f"{one.id}  {created}  {one.owner}  {', '.join(state)}".rstrip()


def _data(one: Credential) -> dict[str, object]:
    return {
        "id": one.id, "kind": one.kind, "owner": one.owner,
        "created": _time(one.created_at), "last_used": _time(one.last_used_at),
        "use_is_known": one.use_is_known, "expires": _time(one.expires_at), "active": one.active,
        "in_use": one.in_use, "stored_in": one.stored_in or None, "powers": list(one.powers),
        "replaceable_by": one.replaceable_by or None, "details": dict(one.details),
    }  # fmt: skip


def _time(unix_seconds: int | None) -> str | None:
    return iso(unix_seconds) if unix_seconds is not None else None


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check, "severity": finding.severity.name.lower(), "credential": finding.credential,
        "text": finding.text, "fix": finding.fix,
    }  # fmt: skip
