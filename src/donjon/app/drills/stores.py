"""Which attacks fit the store of a vault, and with which credentials they are tried."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from donjon.app.stores import local_folder
from donjon.core.errors import DonjonError, UsageError
from donjon.core.events import StopCheck
from donjon.drills.base import Report, Role
from donjon.drills.canaries import MakeCanary
from donjon.format.evidence import EvidenceRow
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectStore
from donjon.stores.wrapper import StoreWrapper


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for. ``accepted`` are names of attacks that are known to go through."""

    role: Role
    profile: str | None = None
    intrusive: bool = False
    accepted: frozenset[str] = frozenset()
    sign: Path | None = None
    out: Path | None = None
    in_vault: bool = True


Rows = Generator[EvidenceRow]
_Attacks = Iterator[tuple[str, Rows]]


@contextmanager
def attacking(vault: Vault, wanted: Wanted, make: MakeCanary, report: Report, stop: StopCheck) -> _Attacks:
    """The attacks that fit the vault's store, not started yet, and who attacks as the provider names them.

    Raises ``UsageError`` for a store that has no drill.
    """
    url = vault.store.url
    scheme = urlsplit(url).scheme
    if scheme == "s3":
        with _on_s3(vault, wanted, make, report, stop) as found:
            yield found
        return
    if wanted.profile is not None:
        msg = f"{url}: only S3 has profiles"
        raise UsageError(msg, hint="Run the drill with the attacker's credential in the environment.")
    rows = _on_others(vault, wanted, make, report, stop, scheme)
    try:
        yield "", rows
    finally:
        rows.close()


@contextmanager
def _on_s3(vault: Vault, wanted: Wanted, make: MakeCanary, report: Report, stop: StopCheck) -> _Attacks:
    from donjon.clouds import aws
    from donjon.drills import kms
    from donjon.drills.keys import attack_service
    from donjon.drills.s3 import attack_bucket
    from donjon.drills.s3_field import Field
    from donjon.stores.s3 import S3Address
    from donjon.stores.s3.client import connect

    address = S3Address.parse(vault.store.url)
    eyes = connect(address)
    attacker = eyes
    if wanted.profile:
        # Another region of the profile would have every request sent elsewhere.
        address = replace(address, region=address.region or eyes.meta.region_name)
        attacker = connect(address, profile=wanted.profile)
    if not _same_server(eyes, attacker):
        msg = f"profile {wanted.profile!r} asks {attacker.meta.endpoint_url}, not {eyes.meta.endpoint_url}"
        raise UsageError(msg, hint="Put the endpoint into the address of the vault, or out of the profile.")
    place = Field(
        attacker,
        eyes,
        address.bucket,
        address.prefix,
        make,
        vault.store.now,
        is_aws=_is_aws(eyes),
        intrusive=wanted.intrusive,
    )
    keys: list[kms.Key] = []

    def clients(region: str) -> tuple[Any, Any]:
        own = aws.client("kms", "AWS KMS", region=region)
        return aws.client("kms", "AWS KMS", region=region, profile=wanted.profile), own

    def attacks() -> Rows:
        accepted = wanted.accepted
        yield from attack_bucket(place, wanted.role, report, accepted=accepted, stop=stop)
        keys.extend(kms.keys_of(vault, clients))
        role, intrusive = wanted.role, wanted.intrusive
        yield from attack_service(
            kms.SERVICE, keys, role, report, intrusive=intrusive, accepted=accepted, stop=stop
        )

    rows = attacks()
    try:
        yield _principal(address, wanted.profile), rows
    finally:
        rows.close()  # which cleans up
        opened = [eyes, attacker, *(client for key in keys for client in (key.eyes, key.attacker))]
        for client in {id(client): client for client in opened}.values():
            client.close()


def _same_server(eyes: Any, attacker: Any) -> bool:
    mine, theirs = (urlsplit(str(client.meta.endpoint_url)).netloc for client in (eyes, attacker))
    return mine == theirs


def _is_aws(client: Any) -> bool:
    """By where requests go, for the environment may name another server than the address of the vault."""
    host = urlsplit(str(client.meta.endpoint_url)).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _principal(address: Any, profile: str | None) -> str:
    """Who attacks, as the provider's token service names them; empty where there is none."""
    from donjon.clouds import aws
    from donjon.drills.s3_field import ask_once

    tokens = aws.client("sts", "S3", region=address.region, endpoint=address.endpoint, profile=profile)
    try:
        answer, told = ask_once(tokens.get_caller_identity)
    except DonjonError:
        return ""
    finally:
        tokens.close()
    return f" ({told['Arn']})" if answer.accepted and told.get("Arn") else ""


def _on_others(
    vault: Vault, wanted: Wanted, make: MakeCanary, report: Report, stop: StopCheck, scheme: str
) -> Rows:
    """Attacks with the credential of the environment. Raises ``UsageError`` for a store that has no drill."""
    from donjon.drills import azure, files, gcs, sftp
    from donjon.drills.ground import Ground, attack_store

    adapter, url = _innermost(vault.store), vault.store.url
    prefix = urlsplit(url).path.strip("/")
    client: Any = getattr(adapter, "client", None)
    if scheme == "azure":
        prefix = prefix.partition("/")[2]
        attacks = azure.attacks(client, f"{prefix}/" if prefix else "")
        is_sure = urlsplit(client.url).hostname == f"{urlsplit(url).netloc}.blob.core.windows.net"
        ask = azure.ask
    elif scheme == "gs":
        attacks = gcs.attacks(client, f"{prefix}/" if prefix else "")
        is_sure, ask = "STORAGE_EMULATOR_HOST" not in os.environ, gcs.ask
    elif (folder := local_folder(url)) is not None and scheme == "file":
        attacks, is_sure, ask = files.attacks(folder), True, files.ask
    elif scheme == "sftp":
        attacks, is_sure, ask = sftp.attacks(adapter), True, sftp.ask
        report.advice.append(sftp.ADVICE)
    else:
        msg = f"{url}: there is no drill for this store"
        raise UsageError(
            msg, hint="Give the address of a vault in S3, Azure, Google Cloud, SFTP or a folder."
        )
    ground = Ground(adapter, make, ask, is_sure, wanted.intrusive)
    yield from attack_store(ground, attacks, wanted.role, report, accepted=wanted.accepted, stop=stop)


def _innermost(store: ObjectStore) -> ObjectStore:
    """The adapter itself, which shows every version."""
    while isinstance(store, StoreWrapper):
        store = store.inner
    return store
