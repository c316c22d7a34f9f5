"""Attacks on the keys of a vault that are in key services, whatever store the vault is in."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from donjon.app.drills.stores import Wanted
from donjon.core.errors import CredentialsRejected, DonjonError, StoreUnavailable, UsageError
from donjon.core.events import StopCheck
from donjon.drills import azure_keys, gcp_keys
from donjon.drills.base import Report, skipped
from donjon.drills.keys import Service, attack_service
from donjon.format.evidence import EvidenceRow
from donjon.format.vault import secret_info
from donjon.keys.azure_keyvault import AzureKey
from donjon.keys.base import AZURE_KEYVAULT, GCP_KMS
from donjon.keys.gcp_kms import GcpKey
from donjon.repository.keyring import Member
from donjon.repository.vault import Vault

Rows = Generator[EvidenceRow]
#: Makes a key that can be attacked, with its clients, which end with the block.
Reach = Callable[[Vault, Member], Iterator[Any]]
_NOT_REACHED = (CredentialsRejected, StoreUnavailable, UsageError)


def attack_other_keys(vault: Vault, wanted: Wanted, report: Report, stop: StopCheck) -> Rows:
    """Attack the keys in Azure and Google Cloud, with the credentials of the environment.

    Where there are none, each row says so: nothing is proved then. With a profile, which is of AWS, the
    environment is not the attacker's, and they are left alone.
    """
    if wanted.profile is not None:
        return
    for member in tuple(vault.keyring.members.values()):
        if found := SERVICES.get(member.recipient.kind):
            service, reach = found
            yield from _attack(service, reach(vault, member), wanted, report, stop)


def _attack(
    service: Service[Any], keys: Iterator[Any], wanted: Wanted, report: Report, stop: StopCheck
) -> Rows:
    tried = 0
    failure: DonjonError | None = None
    role, intrusive, accepted = wanted.role, wanted.intrusive, wanted.accepted
    try:
        for key in keys:
            for row in attack_service(
                service, [key], role, report, intrusive=intrusive, accepted=accepted, stop=stop
            ):
                tried += 1
                yield row
    except _NOT_REACHED as error:
        failure = error
    if failure is not None:
        for attack, _ in service.attacks[tried:]:
            yield report.add(attack.name, skipped(attack, wanted.role, failure.message))


def _azure(vault: Vault, member: Member) -> Iterator[azure_keys.Key]:
    from donjon.keys.azure_keyvault import connect

    key = AzureKey.of(member.recipient)
    with connect(key.vault) as client, azure_keys.resource_manager() as manager:
        yield azure_keys.Key(key, member.sealed_secret, client.send_request, manager.send_request)


def _google(vault: Vault, member: Member) -> Iterator[gcp_keys.Key]:
    from donjon.keys.gcp_kms import connect

    with connect() as client:
        yield gcp_keys.Key(
            GcpKey.of(member.recipient), member.sealed_secret, secret_info(vault.vault_id), client
        )


SERVICES: dict[str, tuple[Service[Any], Reach]] = {
    AZURE_KEYVAULT: (azure_keys.SERVICE, _azure),
    GCP_KMS: (gcp_keys.SERVICE, _google),
}
