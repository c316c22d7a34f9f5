"""Azure Key Vault and Managed HSM on this machine: a fake of ours, for Azure's own client.

A **fake**. The rules are those of Microsoft's documentation, cited beside each; ``AZK`` stands for
https://learn.microsoft.com/azure/key-vault. It wraps for real, with RSA-OAEP-256 and AES key wrap.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from donjon.core.clock import system_clock
from donjon.testing.front import Answer, Front, Request, Upstream, serving

_CALL = re.compile(r"/keys/([A-Za-z0-9-]+)(?:/([0-9a-f]{32}))?/(wrapkey|unwrapkey)")
_KEY = re.compile(r"/(keys|deletedkeys)/([A-Za-z0-9-]+)(?:/([0-9a-f]{32}|recover))?")
_ASSIGN = re.compile(
    r"/keys/([A-Za-z0-9-]+)/providers/Microsoft\.Authorization/roleAssignments(?:/([0-9a-f-]{36}))?"
)
#: Data actions, of a Key Vault and of a Managed HSM: AZK/general/rbac-guide, AZK/managed-hsm/built-in-roles.
_ACTIONS = {
    ("GET", "keys"): ("vaults/keys/read", "managedHsm/keys/read/action"),
    ("PATCH", "keys"): ("vaults/keys/update/action", "managedHsm/keys/write/action"),
    ("DELETE", "keys"): ("vaults/keys/delete", "managedHsm/keys/delete"),
    ("POST", "deletedkeys"): ("vaults/keys/recover/action", "managedHsm/keys/deletedKeys/recover/action"),
    ("DELETE", "deletedkeys"): ("vaults/keys/purge/action", "managedHsm/keys/deletedKeys/delete"),
}
_CHALLENGE = 'Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"'
_OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
_TOKEN = "a-token-of-a-test"  # noqa: S105 - of a server that lives as long as a test


@dataclass
class _Key:
    """Versions by name, the newest last. ``enabled`` is of each version."""

    versions: dict[str, Any] = field(default_factory=dict)
    enabled: dict[str, bool] = field(default_factory=dict)
    deleted: bool = False
    #: Requests that a deletion or recovery takes to come through.
    busy: int = 0
    #: Who has which role at this key, by the names of the assignments (Managed HSM).
    assignments: dict[str, dict[str, str]] = field(default_factory=dict)


class _Refusal(Exception):
    def __init__(self, status: int, code: str, message: str, inner: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.inner = status, code, inner


class KeyVaultFront(Front):
    """Answers for keys. ``hsm`` is whether it keeps symmetric keys, as a Managed HSM does.

    ``delay`` is for how many requests a deletion, or a recovery, is under way.
    """

    def __init__(self, *, hsm: bool) -> None:
        super().__init__(Upstream(0), system_clock)  # there is nothing behind it
        self.host = f"{'donjon.managedhsm' if hsm else 'donjon.vault'}.azure.net"
        self._hsm = hsm
        self.delay = 0
        self._keys: dict[str, _Key] = {}

    def make_key(self) -> str:
        """A new key with one version; its URL."""
        name = f"k{len(self._keys)}"
        self._keys[name] = _Key()
        url = f"https://{self.host}/keys/{name}"
        self.rotate(url)
        return url

    def rotate(self, url: str) -> None:
        """Make a new version, which wraps from now on (AZK/keys/how-to-configure-key-rotation)."""
        key, version = self._of(url), secrets.token_hex(16)
        key.versions[version] = os.urandom(32) if self._hsm else rsa.generate_private_key(65537, 2048)
        key.enabled[version] = True

    def versions(self, url: str) -> list[str]:
        """The versions of a key, the newest last."""
        return list(self._of(url).versions)

    def set_enabled(self, url: str, version: str, enabled: bool) -> None:
        """Switch a version on or off."""
        self._of(url).enabled[version] = enabled

    def delete(self, url: str) -> None:
        """Delete a key softly: it can be recovered, and does nothing (AZK/general/soft-delete-overview)."""
        self._of(url).deleted = True

    def handle(self, request: Request) -> Answer:
        """Judge and carry out one request."""
        if request.headers.get("authorization") != f"Bearer {_TOKEN}":
            return Answer(401, b"", {"WWW-Authenticate": _CHALLENGE})
        try:
            if "api-version" not in request.query:
                raise _Refusal(400, "BadParameter", "no version of the API")
            call = _CALL.fullmatch(request.path)
            if call is not None and request.method == "POST":
                return self._carry_out(call[1], call[2], call[3], json.loads(request.body))
            if self._hsm and (assign := _ASSIGN.fullmatch(request.path)):
                return self._assign(request, self._keys[assign[1]], assign[2] or "")
            if about := _KEY.fullmatch(request.path):
                return self._manage(request, about[1], about[2], about[3])
            raise _Refusal(400, "BadParameter", "no such method")
        except _Refusal as refusal:
            error: dict[str, Any] = {"code": refusal.code, "message": str(refusal)}
            if refusal.inner:
                error["innererror"] = {"code": refusal.inner}
            return Answer(refusal.status, json.dumps({"error": error}).encode(), _JSON)

    def _carry_out(self, name: str, version: str | None, verb: str, body: dict[str, str]) -> Answer:
        place = "managedHsm" if self._hsm else "vaults"
        action = f"Microsoft.KeyVault/{place}/keys/{'wrap' if verb == 'wrapkey' else 'unwrap'}/action"
        if action in self.denied:
            message = f"Caller is not authorized to perform action on resource. Action: '{action}'"
            raise _Refusal(403, "Forbidden", message, "ForbiddenByRbac")
        key = self._keys.get(name)
        if key is None or key.deleted or (version is not None and version not in key.versions):
            raise _Refusal(
                404, "KeyNotFound", f"A key with (name/id) {name} was not found in this key vault."
            )
        version = version or list(key.versions)[-1]  # without one the newest serves
        if not key.enabled[version]:
            message = "Operation is not allowed on a disabled key."
            raise _Refusal(403, "Forbidden", message, "KeyDisabled")
        # AZK/keys/about-keys-details: RSA keys wrap with OAEP, symmetric ones with AES key wrap.
        if body.get("alg") != ("A256KW" if self._hsm else "RSA-OAEP-256"):
            raise _Refusal(400, "BadParameter", "Key and signing key-algorithm are incompatible")
        value = base64.urlsafe_b64decode(body["value"] + "==")
        result = (
            _wrap(key.versions[version], value)
            if verb == "wrapkey"
            else _unwrap(key.versions[version], value)
        )
        answer = {
            "kid": f"https://{self.host}/keys/{name}/{version}",
            "value": base64.urlsafe_b64encode(result).rstrip(b"=").decode(),
        }
        return Answer(200, json.dumps(answer).encode(), _JSON)

    def _demand(self, action: str) -> None:
        """AZK/general/rest-error-codes"""
        if f"Microsoft.KeyVault/{action}" in self.denied:
            message = f"Caller is not authorized to perform action on resource. Action: '{action}'"
            raise _Refusal(403, "Forbidden", message, "ForbiddenByRbac")

    def _manage(self, request: Request, folder: str, name: str, part: str | None) -> Answer:
        """Look at a key, change its attributes, delete, recover or purge it (AZK/general/key-vault-recovery).

        Who may not is told so whether there is such a key or not.
        """
        if (request.method, folder) not in _ACTIONS or (part == "recover") != (request.method == "POST"):
            raise _Refusal(405, "BadParameter", "no such method")
        self._demand(_ACTIONS[request.method, folder][self._hsm])
        key = self._keys.get(name)
        if key is not None and key.busy:
            key.busy -= 1
            raise _Refusal(409, "Conflict", f"{name} is being deleted or recovered", "ObjectIsBeingDeleted")
        if key is None or key.deleted != (folder == "deletedkeys"):
            raise _Refusal(
                404, "KeyNotFound", f"A key with (name/id) {name} was not found in this key vault."
            )
        version = list(key.versions)[-1]
        match request.method, folder:
            case "PATCH", _:
                version = part or version
                key.enabled[version] = bool(json.loads(request.body)["attributes"]["enabled"])
            case "DELETE", "deletedkeys":
                del self._keys[name]
                return Answer(204)
            case ("DELETE", _) | ("POST", _):
                key.deleted, key.busy = request.method == "DELETE", self.delay
        told = {
            "key": {"kid": f"https://{self.host}/keys/{name}/{version}"},
            "attributes": {"enabled": key.enabled[version]},
        }
        return Answer(200, json.dumps(told).encode(), _JSON)

    def assign(self, url: str, principal: str, role: str) -> None:
        """Give a role at a key to somebody (AZK/managed-hsm/access-control)."""
        self._of(url).assignments[secrets.token_hex(16)] = {
            "principalId": principal,
            "roleDefinitionId": role,
        }

    def assignments(self, url: str) -> list[dict[str, str]]:
        """Who has which role at a key."""
        return list(self._of(url).assignments.values())

    def _assign(self, request: Request, key: _Key, name: str) -> Answer:
        """Local RBAC of a Managed HSM; a role that is assigned already is refused as there.

        https://learn.microsoft.com/rest/api/keyvault/rbac/role-assignments
        """
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}[request.method]
        self._demand(f"managedHsm/roleAssignments/{verb}/action")
        scope = request.path.partition("/providers/")[0]
        return assign(request, key.assignments, scope, name)

    def _of(self, url: str) -> _Key:
        return self._keys[url.rpartition("/")[2]]


_JSON = {"content-type": "application/json"}


def assign(request: Request, present: dict[str, dict[str, str]], scope: str, name: str) -> Answer:
    """Carry out a request about role assignments at a scope, which has those of ``present``.

    https://learn.microsoft.com/rest/api/authorization/role-assignments/create: RoleAssignmentExists for one
    with the same scope, role and principal.
    """
    if request.method == "GET":
        rows = [{"name": key, "properties": one | {"scope": scope}} for key, one in present.items()]
        return Answer(200, json.dumps({"value": rows}).encode(), _JSON)
    if request.method == "DELETE":
        present.pop(name, None)
        return Answer(204)
    wanted = json.loads(request.body)["properties"]
    if wanted in present.values():
        error = {"code": "RoleAssignmentExists", "message": "The role assignment already exists."}
        return Answer(409, json.dumps({"error": error}).encode(), _JSON)
    present[name] = wanted
    return Answer(201, json.dumps({"name": name, "properties": wanted}).encode(), _JSON)


def _wrap(key: Any, value: bytes) -> bytes:
    if isinstance(key, bytes):
        return aes_key_wrap(key, value)
    return bytes(key.public_key().encrypt(value, _OAEP))


def _unwrap(key: Any, value: bytes) -> bytes:
    try:
        if isinstance(key, bytes):
            return aes_key_unwrap(key, value)
        return bytes(key.decrypt(value, _OAEP))
    except (InvalidUnwrap, ValueError) as error:
        raise _Refusal(400, "BadParameter", "The parameter is incorrect.") from error


@contextlib.contextmanager
def key_vault(*, hsm: bool = False) -> Iterator[tuple[KeyVaultFront, Any]]:
    """A fake, and Azure's client of it, until the body ends.

    The client speaks to the name that Azure would have, and its requests are led here.
    """
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import RequestsTransport
    from azure.keyvault.keys import KeyClient

    class Led(RequestsTransport):  # type: ignore[misc]  # Azure's own is loaded lazily, without its type
        def send(self, request: Any, **options: Any) -> Any:
            url = request.url
            request.url = url.replace(f"https://{front.host}", address)
            try:
                return super().send(request, **options)
            finally:
                request.url = url  # the client signs in for where it thinks that it speaks to

    class Credential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken(_TOKEN, 1 << 40)

    front = KeyVaultFront(hsm=hsm)
    with serving(front) as address:
        yield (
            front,
            KeyClient(
                f"https://{front.host}",
                Credential(),
                retry_total=0,
                transport=Led(),
                verify_challenge_resource=False,  # the fake's challenge is the same for both services
            ),
        )
