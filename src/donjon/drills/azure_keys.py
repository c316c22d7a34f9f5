"""Attacks on the keys in Azure Key Vault and Managed HSM that open a vault.

Azure has no dry runs. So the vault secret's seal is unwrapped and what comes back is dropped; a key that is
not deleted is purged, which can purge nothing; its attributes are put as they are; and a role is assigned
that is assigned already, which Azure refuses as there (RoleAssignmentExists) to whoever may assign roles.
Deleting the key is tried only if the user wants that, and if this credential is seen to be able to recover
it.

Permissions: https://learn.microsoft.com/azure/key-vault/general/rbac-guide; calls:
https://learn.microsoft.com/rest/api/keyvault.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from donjon.core.errors import CredentialsRejected, KeyNotAvailable, StoreUnavailable
from donjon.drills.base import ADMINISTRATOR, Answer, Attack, NotTried
from donjon.drills.keys import OPENING, Service
from donjon.keys.azure_keyvault import API, HSM_OPEN, OPEN, AzureKey, base64_text, error_of, read_seal

ARM: Final = "https://management.azure.com"
_SUBSCRIPTIONS_API: Final = "2022-12-01"
_RESOURCES_API: Final = "2021-04-01"
_ASSIGNMENTS_API: Final = "2022-04-01"
_ASSIGNMENTS: Final = "providers/Microsoft.Authorization/roleAssignments"
_ID: Final = re.compile(r"/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[^/?#]{1,90}/providers/[^?#]{1,200}")
#: A deletion takes some seconds, and so does a recovery.
_ATTEMPTS: Final = 30
_PAUSE_S: Final = 2.0

#: Sends one request of the SDK with the attacker's credential.
Send = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the vault: ``send`` reaches Key Vault, ``manage`` Resource Manager, as the attacker."""

    key: AzureKey
    sealed: bytes
    send: Send
    manage: Send
    pause: Callable[[float], None] = time.sleep

    @property
    def deleted_url(self) -> str:
        """Where it is while it is deleted."""
        return self.key.url.replace("/keys/", "/deletedkeys/")

    def ask(self, method: str, url: str, body: object = None) -> tuple[Answer, Any]:
        """One request to Key Vault; see ``ask``."""
        return ask(self.send, method, f"{url}?api-version={API}", body)


def resource_manager() -> Any:
    """A client of Azure Resource Manager, with the credentials of the environment."""
    from azure.core import PipelineClient
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy
    from azure.identity import DefaultAzureCredential

    policy = BearerTokenCredentialPolicy(DefaultAzureCredential(), f"{ARM}/.default")
    return PipelineClient(ARM, policies=[policy])


def ask(send: Send, method: str, url: str, body: object = None) -> tuple[Answer, Any]:
    """What comes of one request, and what was told if it was carried out.

    Raises ``CredentialsRejected`` if the credential is not known, for then everything is refused and proves
    nothing, and ``StoreUnavailable`` if there is no answer.
    """
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from azure.core.rest import HttpRequest

    try:
        reply = send(HttpRequest(method, url, json=body) if body is not None else HttpRequest(method, url))
    except ClientAuthenticationError as error:
        msg = f"no valid Azure credentials: {' '.join(str(error).split())[:200]}"
        raise CredentialsRejected(
            msg, hint="Run `az login`; a refusal of everybody proves nothing."
        ) from error
    except AzureError as error:
        msg = f"{url.partition('?')[0]}: does not answer: {error.message}"
        raise StoreUnavailable(msg, hint="Run the drill again.") from error
    status = reply.status_code
    if status < 300:
        return Answer("accepted", accepted=True), reply.json() if reply.content else None
    text = f"{status} {error_of(reply)[0]}".strip()
    if status == 401:
        msg = f"the credential is not accepted: {text}"
        raise CredentialsRejected(msg, hint="Renew it; a refusal of everybody proves nothing.")
    return Answer(text, is_known=status < 500 and status not in {405, 429}), None


def _unwrap(key: Key) -> Iterator[Answer]:
    """What comes back is the vault secret, and is dropped."""
    try:
        seal = read_seal(key.sealed, key.key.url)
    except KeyNotAvailable as error:
        raise NotTried(error.message) from error
    method = (HSM_OPEN if key.key.is_hsm else OPEN).method
    body = {"alg": seal.algorithm, "value": base64_text(seal.wrapped)}
    yield key.ask("POST", f"{key.key.url}/{seal.version}/{method}", body)[0]


def _present(key: Key) -> tuple[str, bool]:
    """The newest version's URL, and whether it is enabled. Raises ``NotTried`` if it may not be seen."""
    answer, told = key.ask("GET", key.key.url)
    if not answer.accepted:
        raise NotTried(f"the state of the key cannot be read ({answer.text})")
    version = str(told["key"]["kid"]).rpartition("/")[2]
    return f"{key.key.url}/{version}", bool(told["attributes"]["enabled"])


def _disable(key: Key) -> Iterator[Answer]:
    """Put whether it is enabled as it is, which takes what disabling it takes."""
    url, enabled = _present(key)
    yield key.ask("PATCH", url, {"attributes": {"enabled": enabled}})[0]


def _purge(key: Key) -> Iterator[Answer]:
    """The key is not deleted, so there is nothing to purge: a 404 says that it would have been taken."""
    if loss := _loss(key):
        raise NotTried(loss)
    yield _would(key.ask("DELETE", key.deleted_url)[0])


def _delete(key: Key) -> Iterator[Answer]:
    if loss := _loss(key):
        raise NotTried(loss)
    if not _would(key.ask("POST", f"{key.deleted_url}/recover")[0]).accepted:
        raise NotTried("this credential could not recover the key, so it must not delete it")
    answer = Answer("")
    try:
        answer = key.ask("DELETE", key.key.url)[0]
        yield answer
    finally:
        if answer.accepted or not answer.text:
            _recover(key)


def _would(answer: Answer) -> Answer:
    """That there is nothing to do it to is only told to who may do it."""
    return Answer(answer.text, accepted=True) if answer.text.startswith("404") else answer


def _recover(key: Key) -> None:
    for _ in range(_ATTEMPTS):
        if key.ask("GET", key.key.url)[0].accepted:
            return
        key.ask("POST", f"{key.deleted_url}/recover")
        key.pause(_PAUSE_S)


def _roles(key: Key) -> Iterator[Answer]:
    """Assign a role to somebody who has it already, at the key in a Managed HSM, else at the Key Vault."""
    if key.key.is_hsm:
        vault, name = key.key.vault, key.key.url.rpartition("/keys/")[2]
        yield from _assign(key.send, f"{vault}/keys/{name}", API)
    else:
        yield from _assign(key.manage, f"{ARM}{_resource_of(key)}", _ASSIGNMENTS_API)


def _assign(send: Send, scope: str, api: str) -> Iterator[Answer]:
    answer, told = ask(send, "GET", f"{scope}/{_ASSIGNMENTS}?api-version={api}")
    if not answer.accepted:
        raise NotTried(f"the roles cannot be listed, so none could be assigned again ({answer.text})")
    place = (
        scope.removeprefix(ARM)
        if scope.startswith(ARM)
        else f"/{scope.partition('://')[2].partition('/')[2]}"
    )
    present = [one["properties"] for one in told["value"]]
    there = next((one for one in present if str(one["scope"]).lower() == place.lower()), None)
    if there is None:
        raise NotTried("no role is assigned there that could be assigned again")
    wanted = {"roleDefinitionId": there["roleDefinitionId"], "principalId": there["principalId"]}
    url = f"{scope}/{_ASSIGNMENTS}/{uuid.uuid4()}?api-version={api}"
    made, _ = ask(send, "PUT", url, {"properties": wanted})
    if made.accepted:  # there are two of the same now
        ask(send, "DELETE", url)
    exists = made.text.startswith("409")
    yield Answer(made.text, accepted=True) if exists else made


def _resource_of(key: Key) -> str:
    """The id of the Key Vault in Resource Manager. Raises ``NotTried`` if this credential does not see it."""
    name = key.key.vault.partition("://")[2].partition(".")[0]
    answer, told = ask(key.manage, "GET", f"{ARM}/subscriptions?api-version={_SUBSCRIPTIONS_API}")
    for subscription in told["value"] if answer.accepted else ():
        wanted = f"resourceType eq 'Microsoft.KeyVault/vaults' and name eq '{name}'".replace(" ", "%20")
        url = f"{ARM}/subscriptions/{uuid.UUID(subscription['subscriptionId'])}/resources"
        looked, found = ask(key.manage, "GET", f"{url}?$filter={wanted}&api-version={_RESOURCES_API}")
        for resource in found["value"] if looked.accepted else ():
            if _ID.fullmatch(str(resource["id"])):
                return str(resource["id"])
    raise NotTried("this credential does not see the Key Vault in Resource Manager")


def _loss(key: Key) -> str:
    try:
        _, enabled = _present(key)
    except NotTried as error:
        if "404" in str(error) or "Deleted" in str(error):
            return "the key is deleted"
        raise
    return "" if enabled else "the key is disabled"


SERVICE: Service[Key] = Service(
    (
        (Attack("keyvault-unwrap", "unwrap with the key in Key Vault", allowed=OPENING), _unwrap),
        (Attack("keyvault-disable", "disable the key in Key Vault", allowed=ADMINISTRATOR), _disable),
        (Attack("keyvault-purge", "purge the key in Key Vault", allowed=ADMINISTRATOR), _purge),
        (Attack("keyvault-roles", "assign roles on the key in Key Vault", allowed=ADMINISTRATOR), _roles),
        (
            Attack("keyvault-delete", "delete the key in Key Vault", allowed=ADMINISTRATOR, intrusive=True),
            _delete,
        ),
    ),
    _loss,
)
