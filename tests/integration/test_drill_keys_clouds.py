"""The attack drill on keys in Azure and Google Cloud: our fakes, which obey what the services document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from donjon.app.drills.keys import SERVICES, attack_other_keys
from donjon.app.drills.stores import Wanted
from donjon.core.errors import CredentialsRejected
from donjon.core.events import never_stop
from donjon.drills import azure_keys, gcp_keys
from donjon.drills.base import Report, Role
from donjon.drills.keys import Service, attack_service
from donjon.format.evidence import Outcome
from donjon.format.vault import secret_info
from donjon.keys.address import service_recipient
from donjon.keys.azure_keyvault import AzureKey, AzureKeyVaultKey
from donjon.keys.base import AZURE_KEYVAULT
from donjon.keys.gcp_kms import GcpKey, GcpKmsKey
from donjon.testing.azure.keyvault import KeyVaultFront, assign, key_vault
from donjon.testing.front import Answer, Front, Request, Upstream, serving
from donjon.testing.google.kms import GcpKmsFront, gcp_kms
from tests.approving import Council

INFO = secret_info(bytes(range(16)))
SECRET = bytes(range(32))
VAULT_ID = "/subscriptions/{0}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/donjon"
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"


def drill(
    service: Service[Any], key: Any, role: Role, *, intrusive: bool = True
) -> tuple[Report, dict[str, str]]:
    report = Report()
    rows = attack_service(
        service, [key], role, report, intrusive=intrusive, accepted=frozenset(), stop=never_stop
    )
    names = [attack.name for attack, _ in service.attacks]
    return report, {name: row.seen for name, row in zip(names, rows, strict=True)}


# --- Azure ------------------------------------------------------------------------------------------


class Manager(Front):
    """Azure Resource Manager, as far as roles at a Key Vault go: a **fake**.

    https://learn.microsoft.com/rest/api/resources, https://learn.microsoft.com/rest/api/authorization.
    """

    def __init__(self) -> None:
        super().__init__(Upstream(0), lambda: 0)
        self.assignments = {"a": {"principalId": "p", "roleDefinitionId": "r"}}
        self.is_visible = True

    def handle(self, request: Request) -> Answer:
        scope = VAULT_ID.format(SUBSCRIPTION)
        if request.path == "/subscriptions":
            found = [{"subscriptionId": SUBSCRIPTION}] if self.is_visible else []
            return Answer(200, json.dumps({"value": found}).encode(), _JSON)
        if request.path == f"/subscriptions/{SUBSCRIPTION}/resources":
            assert request.query["$filter"].endswith("name eq 'donjon'")
            return Answer(200, json.dumps({"value": [{"id": scope}]}).encode(), _JSON)
        name = re.fullmatch(
            rf"{scope}/providers/Microsoft\.Authorization/roleAssignments(?:/([0-9a-f-]{{36}}))?",
            request.path,
        )
        assert name is not None, request.path
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}[request.method]
        if f"Microsoft.Authorization/roleAssignments/{verb}" in self.denied:
            error = {"code": "AuthorizationFailed", "message": "The client does not have authorization."}
            return Answer(403, json.dumps({"error": error}).encode(), _JSON)
        return assign(request, self.assignments, scope, name[1] or "")


_JSON = {"content-type": "application/json"}


@dataclass
class Azure:
    front: KeyVaultFront
    manager: Manager
    key: azure_keys.Key
    prefix: str

    def deny(self, *actions: str) -> None:
        self.front.denied |= {f"Microsoft.KeyVault/{action}" for action in actions}

    @property
    def url(self) -> str:
        return self.key.key.url


@pytest.fixture(params=[False, True], ids=["vault", "hsm"])
def azure(request: pytest.FixtureRequest) -> Iterator[Azure]:
    from azure.core import PipelineClient

    manager = Manager()
    with key_vault(hsm=request.param) as (front, client), serving(manager) as address:
        arm: Any = PipelineClient(address)

        def manage(asked: Any) -> Any:
            asked.url = asked.url.replace(azure_keys.ARM, address)
            return arm.send_request(asked)

        url = front.make_key()
        front.assign(url, "p", "r")
        recipient = service_recipient(AzureKey.parse(url), "cloud", 1)
        sealed = AzureKeyVaultKey(recipient, lambda: client).seal(SECRET, INFO)
        key = azure_keys.Key(AzureKey.parse(url), sealed, client.send_request, manage, lambda _: None)
        yield Azure(front, manager, key, "managedHsm" if request.param else "vaults")
        arm.close()


ALL_BUT_WRAP = {
    "vaults": ("update/action", "delete", "recover/action", "purge/action", "unwrap/action"),
    "managedHsm": (
        "write/action", "delete", "deletedKeys/recover/action", "deletedKeys/delete", "unwrap/action",
    ),
}  # fmt: skip


def _as_writer(azure: Azure) -> None:
    azure.deny(*(f"{azure.prefix}/keys/{action}" for action in ALL_BUT_WRAP[azure.prefix]))
    azure.deny("managedHsm/roleAssignments/write/action")
    azure.manager.denied |= {"Microsoft.Authorization/roleAssignments/write"}


def _told(azure: Azure) -> tuple[Any, ...]:
    versions = azure.front.versions(azure.url)
    answer, told = azure.key.ask("GET", azure.url)
    return (
        versions,
        answer.accepted,
        told["attributes"],
        azure.front.assignments(azure.url),
        dict(azure.manager.assignments),
    )


def test_a_writer_of_azure_may_wrap_and_nothing_else(azure: Azure) -> None:
    _as_writer(azure)
    before = _told(azure)
    report, seen = drill(azure_keys.SERVICE, azure.key, Role.WRITER)
    assert report.failed == []
    assert seen.pop("keyvault-delete") == "not tried"  # it could not recover the key
    assert set(seen.values()) == {"refused"}
    assert _told(azure) == before


GRANTS = {
    "keyvault-unwrap": ("unwrap/action", "unwrap/action"),
    "keyvault-disable": ("update/action", "write/action"),
    "keyvault-purge": ("purge/action", "deletedKeys/delete"),
}


@pytest.mark.parametrize("attack", [*GRANTS, "keyvault-roles", "keyvault-delete"])
def test_a_writer_of_azure_who_may_too_much_is_found_out_and_nothing_changes(
    azure: Azure, attack: str
) -> None:
    _as_writer(azure)
    if attack in GRANTS:
        allowed = GRANTS[attack][azure.prefix == "managedHsm"]
        azure.front.denied -= {f"Microsoft.KeyVault/{azure.prefix}/keys/{allowed}"}
    elif attack == "keyvault-delete":
        for part in ("delete", "recover/action", "deletedKeys/recover/action"):
            azure.front.denied -= {f"Microsoft.KeyVault/{azure.prefix}/keys/{part}"}
    else:
        azure.front.denied -= {"Microsoft.KeyVault/managedHsm/roleAssignments/write/action"}
        azure.manager.denied.clear()
    before = _told(azure)
    report, _ = drill(azure_keys.SERVICE, azure.key, Role.WRITER)
    assert report.failed == [attack]
    assert _told(azure) == before
    assert SECRET.hex() not in str(report)


def test_the_administrator_of_azure_deletes_and_the_key_is_recovered(azure: Azure) -> None:
    azure.front.delay = 3  # a deletion is under way for a while
    before = _told(azure)
    report, seen = drill(azure_keys.SERVICE, azure.key, Role.ADMINISTRATOR)
    assert report.failed == []
    assert set(seen.values()) == {"allowed"}
    assert _told(azure) == before


def test_a_key_of_azure_that_stays_deleted_is_told(azure: Azure) -> None:
    azure.front.delay = 10_000
    report, seen = drill(azure_keys.SERVICE, azure.key, Role.ADMINISTRATOR)
    assert report.failed == ["keyvault-delete"]
    assert "could not be put back" in seen["keyvault-delete"]


def test_what_is_disabled_or_deleted_in_azure_is_left_alone(azure: Azure) -> None:
    azure.front.set_enabled(azure.url, azure.front.versions(azure.url)[-1], enabled=False)
    _, seen = drill(azure_keys.SERVICE, azure.key, Role.ADMINISTRATOR)
    assert seen["keyvault-delete"] == seen["keyvault-purge"] == "not tried"
    assert seen["keyvault-disable"] == "allowed"  # it was put as it is
    assert not _told(azure)[2]["enabled"]
    azure.front.delete(azure.url)
    report, seen = drill(azure_keys.SERVICE, azure.key, Role.ADMINISTRATOR)
    assert report.failed == []
    assert seen["keyvault-delete"] == seen["keyvault-purge"] == seen["keyvault-disable"] == "not tried"
    azure.key.ask("POST", f"{azure.key.deleted_url}/recover")


def test_what_is_intrusive_in_azure_is_not_tried_unasked(azure: Azure) -> None:
    _, seen = drill(azure_keys.SERVICE, azure.key, Role.ADMINISTRATOR, intrusive=False)
    assert seen["keyvault-delete"] == "not tried"
    assert azure.front.requests
    assert not any(r.method == "DELETE" and r.path.startswith("/keys/k") and "roleA" not in r.path
                   for r in azure.front.requests)  # fmt: skip


def test_roles_that_nobody_shows_are_not_tried(azure: Azure) -> None:
    azure.manager.is_visible = False
    azure.deny("managedHsm/roleAssignments/read/action")
    _, seen = drill(azure_keys.SERVICE, azure.key, Role.ADMINISTRATOR)
    assert seen["keyvault-roles"] == "not tried"


def test_an_unknown_credential_of_azure_proves_nothing(azure: Azure) -> None:
    azure.front.next_answers = [Answer(401), Answer(401)]
    with pytest.raises(CredentialsRejected):
        drill(azure_keys.SERVICE, azure.key, Role.WRITER)


# --- Google Cloud -----------------------------------------------------------------------------------

NEEDS = {
    "cloudkms-decrypt": "cloudkms.cryptoKeyVersions.useToDecrypt",
    "cloudkms-policy": "cloudkms.cryptoKeys.setIamPolicy",
    "cloudkms-disable": "cloudkms.cryptoKeyVersions.update",
    "cloudkms-destroy": "cloudkms.cryptoKeyVersions.destroy",
}


@pytest.fixture
def google() -> Iterator[tuple[GcpKmsFront, gcp_keys.Key]]:
    with gcp_kms() as (front, client):
        name = front.make_key()
        recipient = service_recipient(GcpKey.parse(name), "cloud", 1)
        sealed = GcpKmsKey(recipient, lambda: client).seal(SECRET, INFO)
        yield front, gcp_keys.Key(GcpKey.parse(name), sealed, INFO, client)


@pytest.mark.parametrize("granted", [None, *NEEDS])
def test_a_writer_of_google_is_found_out_by_what_it_may_too_much(
    google: tuple[GcpKmsFront, gcp_keys.Key], granted: str | None
) -> None:
    front, key = google
    front.denied |= {need for attack, need in NEEDS.items() if attack != granted}
    before = front.states(key.key.name), dict(front.policy(key.key.name))
    report, seen = drill(gcp_keys.SERVICE, key, Role.WRITER)
    assert report.failed == ([granted] if granted else [])
    assert {name for name, what in seen.items() if what == "refused"} == NEEDS.keys() - {granted}
    assert (front.states(key.key.name), dict(front.policy(key.key.name))) == before
    assert SECRET.hex() not in str(report)


def test_the_administrator_of_google_changes_nothing(google: tuple[GcpKmsFront, gcp_keys.Key]) -> None:
    front, key = google
    front.rotate(key.key.name)
    front.policy(key.key.name)["bindings"].append({"role": "roles/x", "members": ["user:a@b.c"]})
    before = front.states(key.key.name), dict(front.policy(key.key.name))
    report, seen = drill(gcp_keys.SERVICE, key, Role.ADMINISTRATOR)
    assert report.failed == []
    assert set(seen.values()) == {"allowed"}
    assert (front.states(key.key.name), dict(front.policy(key.key.name))) == before


def test_what_cannot_be_read_in_google_is_not_tried(google: tuple[GcpKmsFront, gcp_keys.Key]) -> None:
    front, key = google
    front.denied |= {"cloudkms.cryptoKeys.get", "cloudkms.cryptoKeys.getIamPolicy"}
    _, seen = drill(gcp_keys.SERVICE, key, Role.ADMINISTRATOR)
    assert seen["cloudkms-disable"] == seen["cloudkms-policy"] == "not tried"


# --- as part of a drill -----------------------------------------------------------------------------


def test_keys_that_cannot_be_reached_are_told_and_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    council = Council.make(0)
    vault = council.open()
    (member,) = vault.keyring.members.values()
    recipient = service_recipient(AzureKey.parse("https://v.vault.azure.net/keys/k"), "cloud", 1)
    vault.keyring.members[recipient.recipient_id] = replace(member, recipient=recipient)

    def reach(*_: object) -> Iterator[Any]:
        raise CredentialsRejected("no valid Azure credentials")
        yield

    monkeypatch.setitem(SERVICES, AZURE_KEYVAULT, (azure_keys.SERVICE, reach))
    report = Report()
    rows = list(attack_other_keys(vault, Wanted(Role.OUTSIDER), report, never_stop))
    assert len(rows) == len(azure_keys.SERVICE.attacks)
    assert {row.outcome for row in rows} == {Outcome.SKIPPED}
    assert {row.answer for row in rows} == {"no valid Azure credentials"}
    assert list(attack_other_keys(vault, Wanted(Role.OUTSIDER, profile="p"), report, never_stop)) == []
