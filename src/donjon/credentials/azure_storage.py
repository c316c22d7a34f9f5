"""The account key and the SAS with which this host reaches Azure Storage: where they are, and what they are.

Neither can be listed, tried or replaced through a service that Donjon speaks to, so this is no
``CredentialService``. They are found where the store looks (``stores.azure_blob``): in a connection string,
https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import SplitResult, urlsplit

from donjon.core.clock import iso
from donjon.core.errors import KeyNotAvailable, UsageError
from donjon.credentials.azure_sas import Sas, SasKind, parse_sas
from donjon.credentials.base import Credential

VARIABLE: Final = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNT_KEY: Final = "azure-account-key"
_IDENTITY: Final = "a managed identity or workload identity federation"
_MAX_FILE_BYTES: Final = 64 << 10
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}
_LINE: Final = re.compile(rf"(?:export\s+)?{VARIABLE}=(.*)")


@dataclass(frozen=True, slots=True)
class Stored:
    """One that this host has. ``sas`` is None for an account key. ``in_clear`` tells that this host sends it
    over plain HTTP to another machine."""

    credential: Credential
    sas: Sas | None = None
    in_clear: bool = False


def find_stored(file: Path | None, environment: Mapping[str, str]) -> Sequence[Stored]:
    """What a file holds, or else the variable that the store reads.

    The file has a line ``AZURE_STORAGE_CONNECTION_STRING=...`` among others, as systemd's ``EnvironmentFile``
    takes it, or nothing but a connection string, a SAS, or an address with a SAS. Raises ``KeyNotAvailable``
    if there is none, ``UsageError`` if it is damaged.
    """
    if file is None:
        text = environment.get(VARIABLE)
        if text is None:
            msg = f"{VARIABLE} is not set, so Donjon reaches Azure with an identity"
            raise KeyNotAvailable(msg, hint="Nothing is to be done, or name the file with it with --file.")
        return read(text, f"the variable {VARIABLE}")
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file}: cannot be read"
        raise KeyNotAvailable(msg, hint="Name the file that holds the SAS with --file.") from error
    return read(_value_in(text, file), str(file.resolve()))


def read(text: str, stored_in: str) -> Sequence[Stored]:
    """What a connection string, a SAS or an address with a SAS holds, the one that is used first.

    Raises ``UsageError``.
    """
    text = text.strip()
    if not text:
        _unusable(stored_in, "is empty")
    # A connection string has no question mark before its first equals sign, and no ampersand either.
    head = text.partition("=")[0]
    if head.lower() in _NAMES:
        return list(_in_connection_string(text, stored_in))
    sas = _parsed(text, stored_in)
    host = _split(text, stored_in).hostname or "" if "://" in head else ""
    return [_of_sas(sas, _account_of(host), stored_in, in_use=True, in_clear=text.startswith("http://"))]


_NAMES: Final = {
    "defaultendpointsprotocol", "accountname", "accountkey", "sharedaccesssignature", "endpointsuffix",
    "blobendpoint", "blobsecondaryendpoint", "queueendpoint", "queuesecondaryendpoint", "fileendpoint",
    "filesecondaryendpoint", "tableendpoint", "tablesecondaryendpoint", "usedevelopmentstorage",
}  # fmt: skip


def _in_connection_string(text: str, stored_in: str) -> Iterator[Stored]:
    """The SDK takes the account key before the SAS, and that before one in the address of the service."""
    settings: dict[str, str] = {}
    for piece in text.rstrip(";").split(";"):
        name, equals, value = piece.partition("=")
        name = name.lower()
        if not equals or name not in _NAMES:
            _unusable(stored_in, "holds something that belongs in no connection string")
        if name in settings:
            _unusable(stored_in, f"names {name} twice")
        settings[name] = value
    if settings.get("usedevelopmentstorage") == "true":
        _unusable(stored_in, "is of an emulator, whose key everybody knows")
    endpoint = settings.get("blobendpoint", "")
    address = _split(endpoint, stored_in)
    account = settings.get("accountname", "") or _account_of(address.hostname or "")
    if account and not _ACCOUNT.fullmatch(account):
        _unusable(stored_in, "has an account name that is none")
    scheme = address.scheme or settings.get("defaultendpointsprotocol", "https").lower()
    in_clear = scheme == "http" and address.hostname not in _LOOPBACK
    found: list[Stored] = []
    if settings.get("accountkey"):
        one = Credential(
            f"{account or 'account'}/key", ACCOUNT_KEY, account or "a storage account", use_is_known=False,
            in_use=True, stored_in=stored_in, replaceable_by=_IDENTITY,
        )  # fmt: skip
        found.append(Stored(one, in_clear=in_clear))
    for sas in (settings.get("sharedaccesssignature", ""), address.query):
        if sas:
            parsed = _parsed(sas, stored_in)
            found.append(_of_sas(parsed, account, stored_in, in_use=not found, in_clear=in_clear))
    if not found:
        _unusable(stored_in, "holds neither an account key nor a SAS")
    yield from found


def _of_sas(sas: Sas, account: str, stored_in: str, *, in_use: bool, in_clear: bool) -> Stored:
    owner = f"the identity {sas.signer}" if sas.kind is SasKind.DELEGATION else account or "a storage account"
    name = sas.kind.value.removeprefix("azure-")
    credential = Credential(
        f"{account}/{name}" if account else name, sas.kind.value, owner, created_at=sas.begins,
        use_is_known=False, expires_at=sas.ends, in_use=in_use, stored_in=stored_in,
        replaceable_by=_IDENTITY, details=tuple((key, value) for key, value in _details(sas) if value),
    )  # fmt: skip
    return Stored(credential, sas, in_clear)


def _details(sas: Sas) -> Iterator[tuple[str, str]]:
    yield "permissions", sas.permissions or ""
    yield "services", sas.services
    yield "resource_types", sas.resource_types
    yield "resource", sas.resource
    yield "protocol", sas.protocol
    yield "ip", sas.ip
    yield "policy", sas.policy
    yield "tenant", sas.tenant
    yield "key_expires", iso(sas.key_expires_at) if sas.key_expires_at is not None else ""
    yield "version", sas.version


def _parsed(text: str, stored_in: str) -> Sas:
    try:
        return parse_sas(text)
    except UsageError as error:
        msg = f"{stored_in}: {error}"
        raise UsageError(msg, hint=error.hint) from None


def _value_in(text: str, file: Path) -> str:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    values = [match[1] for line in lines if (match := _LINE.fullmatch(line))]
    if len(values) > 1:
        _unusable(str(file), f"has more than one line {VARIABLE}=...")
    if not values and len(lines) != 1:
        _unusable(str(file), f"has no line {VARIABLE}=..., and is not one SAS alone")
    value = (values or lines)[0]
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _split(address: str, stored_in: str) -> SplitResult:
    """The parts of an address, which no message shows, for it may hold a signature."""
    try:
        return urlsplit(address)
    except ValueError:
        _unusable(stored_in, "holds an address that is none")


def _account_of(host: str) -> str:
    """The account in the name of its server, or nothing for an emulator's."""
    account, dot, rest = host.partition(".")
    return account if dot and rest.startswith("blob.") and _ACCOUNT.fullmatch(account) else ""


def _unusable(stored_in: str, what: str) -> NoReturn:
    msg = f"{stored_in} {what}"
    raise UsageError(msg, hint="Copy the connection string or the SAS anew, whole and in quotes.")
