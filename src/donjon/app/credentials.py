"""Credentials of clouds and key services: what there is, what is wrong with it, and changing it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from donjon.core.clock import Clock, system_clock
from donjon.core.errors import UsageError
from donjon.credentials.findings import Finding, Limits, find
from donjon.credentials.rotation import Retired, Rotated, Rotation

if TYPE_CHECKING:
    from donjon.credentials.azure_storage import Stored
    from donjon.credentials.base import Credential, CredentialService, Place

#: Account keys and SAS, which are looked at and not changed.
_AZURE_STORAGE = "azure-storage"


@dataclass(frozen=True, slots=True)
class CredentialRequest:
    """Which credential is meant. ``file`` is where this host keeps it; None for the place usual for the
    service.

    ``profile`` and ``admin_profile`` are of the AWS tools; the second asks IAM if the key itself may not.
    ``owner`` is the user or account whose credentials these are, by default whoever the credential is of.
    ``verify`` is the address of a vault that a new one must be able to read; ``endpoint`` a server other
    than the usual one. ``role`` is whose permissions a SAS of Azure may have.
    """

    service: str
    file: Path | None = None
    profile: str | None = None
    admin_profile: str | None = None
    owner: str | None = None
    verify: str | None = None
    endpoint: str | None = None
    role: str = "writer"


def list_credentials(request: CredentialRequest) -> Sequence[Credential]:
    """All credentials of the owner."""
    if request.service == _AZURE_STORAGE:
        return [one.credential for one in _stored(request)]
    service, _ = _service(request)
    return service.list()


def check_credentials(
    request: CredentialRequest, limits: Limits, clock: Clock = system_clock
) -> tuple[Sequence[Credential], list[Finding]]:
    """All credentials of the owner, and what is wrong with them."""
    if request.service == _AZURE_STORAGE:
        from donjon.credentials.azure_findings import find_azure

        needed, stored = _sas_letters(request.role), _stored(request)
        findings = find_azure(stored, request.role, needed, limits, clock())
        return [one.credential for one in stored], findings
    return judged(list_credentials(request), limits, clock)


def judged(
    found: Sequence[Credential], limits: Limits, clock: Clock = system_clock
) -> tuple[Sequence[Credential], list[Finding]]:
    """Credentials, and what is wrong with them."""
    return found, find(found, limits, clock())


def rotate_credential(
    request: CredentialRequest, clock: Clock = system_clock, sleep: Callable[[float], None] = time.sleep
) -> Rotated:
    """Put a new credential in the place of the old one, which is switched off; see ``Rotation``."""
    service, place = _service(request)
    return Rotation(service, place, clock=clock, sleep=sleep).rotate()


def retire_credentials(request: CredentialRequest, grace_s: int, clock: Clock = system_clock) -> Retired:
    """Delete what has been replaced for so many seconds."""
    service, place = _service(request)
    return Rotation(service, place, clock=clock, sleep=time.sleep).retire(grace_s)


def _stored(request: CredentialRequest) -> Sequence[Stored]:
    from donjon.credentials.azure_storage import find_stored

    return find_stored(request.file, os.environ)


def _sas_letters(role: str) -> frozenset[str]:
    """What a SAS for a role needs to permit."""
    from donjon.credentials.azure_findings import letters_of
    from donjon.roles.model import ROLES
    from donjon.roles.permissions import store_grants

    for one in ROLES:
        if one.name == role:
            grants = store_grants("azure", one)
            return letters_of((what, not grant.objects) for grant in grants for what in grant.permissions)
    msg = f"{role!r} is no role"
    raise UsageError(msg, hint=f"Name one of {', '.join(one.name for one in ROLES)}.")


def _service(request: CredentialRequest) -> tuple[CredentialService, Place]:
    if request.service == _AZURE_STORAGE:
        from donjon.credentials.azure_findings import refusal

        msg, hint = refusal(_stored(request)[0])
        raise UsageError(msg, hint=hint)
    try:
        build = _BUILD[request.service]
    except KeyError:
        msg = f"{request.service!r} is no service whose credentials Donjon knows"
        raise UsageError(msg, hint=f"Name one of {', '.join(sorted([*_BUILD, _AZURE_STORAGE]))}.") from None
    if request.endpoint is not None:
        _check_endpoint(request.endpoint)
    return build(request)


def _check_endpoint(endpoint: str) -> None:
    """Raises ``UsageError`` for what no SDK could connect to."""
    try:
        address = urlsplit(endpoint)
        is_good = address.scheme in {"http", "https"} and bool(address.hostname) and address.port != 0
    except ValueError:  # a port that is none, brackets that do not close
        is_good = False
    if not is_good:
        msg = f"{endpoint!r} is no address of a server"
        raise UsageError(msg, hint="Write one such as https://bao.example.com:8200.")


def _aws(request: CredentialRequest) -> tuple[CredentialService, Place]:
    from donjon.credentials.aws_keys import AwsAccessKeys, new_session
    from donjon.credentials.aws_profile import AwsProfile, credentials_file
    from donjon.stores.s3 import S3Address

    file = request.file or credentials_file(os.environ)
    profile = request.profile or os.environ.get("AWS_PROFILE") or "default"
    place = AwsProfile(file, profile)
    service = AwsAccessKeys(
        new_session(file, request.admin_profile or profile),
        current_id=place.current(),
        stored_in=place.path,
        user=request.owner,
        verify_at=S3Address.parse(request.verify) if request.verify else None,
        endpoint=request.endpoint,
    )
    return service, place


def _openbao(request: CredentialRequest) -> tuple[CredentialService, Place]:
    from donjon.credentials.openbao_token import OpenBaoToken, connect

    address = request.endpoint or os.environ.get("BAO_ADDR") or os.environ.get("VAULT_ADDR")
    if not address:
        msg = "where is the server of OpenBao?"
        raise UsageError(msg, hint="Give its address with --endpoint or BAO_ADDR.")
    service = OpenBaoToken(address, None, connect)
    return service, service.at(request.file or Path("~/.vault-token").expanduser())


def _google(request: CredentialRequest) -> tuple[CredentialService, Place]:
    from donjon.credentials.google_keys import GoogleKeyFile, GoogleServiceAccountKeys, new_session

    usual = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if request.file is None and not usual:
        msg = "which key of a service account is meant?"
        raise UsageError(msg, hint="Name its file with --file or GOOGLE_APPLICATION_CREDENTIALS.")
    place = GoogleKeyFile(request.file or Path(str(usual)))
    return GoogleServiceAccountKeys(new_session(place), place, endpoint=request.endpoint), place


def _azure(request: CredentialRequest) -> tuple[CredentialService, Place]:
    from donjon.credentials.azure_secrets import AzureClientSecrets, AzureEnvironmentFile, connect, log_in

    if request.file is None:
        msg = "which file holds the client secret?"
        raise UsageError(msg, hint="Name the file with its AZURE_CLIENT_SECRET=... line with --file.")
    place = AzureEnvironmentFile(request.file)
    client = connect(place, request.endpoint)
    service = AzureClientSecrets(client, place, clock=system_clock, login=log_in, endpoint=request.endpoint)
    return service, place


_BUILD: dict[str, Callable[[CredentialRequest], tuple[CredentialService, Place]]] = {
    "aws": _aws,
    "azure": _azure,
    "google": _google,
    "openbao": _openbao,
}
