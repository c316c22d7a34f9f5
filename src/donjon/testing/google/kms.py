"""Google Cloud KMS on this machine: a fake of ours, for Google's own client.

A **fake**. The rules are those of Google's documentation, cited beside each; ``GK`` stands for
https://docs.cloud.google.com/kms/docs. It encrypts for real, with AES-256-GCM.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from donjon.core.clock import system_clock
from donjon.testing.front import Answer, Front, Request, Upstream, serving

_CALL = re.compile(r"/v1/(projects/.+/cryptoKeys/[^/:]+):(encrypt|decrypt|getIamPolicy|setIamPolicy)")
_KEY = re.compile(r"/v1/(projects/.+/cryptoKeys/[^/:]+)(?:/cryptoKeyVersions/([0-9]+)(:destroy)?)?")
_NONCE_BYTES = 12
#: GK/reference/permissions-and-roles
_NEEDS = {
    "encrypt": "cloudkms.cryptoKeyVersions.useToEncrypt",
    "decrypt": "cloudkms.cryptoKeyVersions.useToDecrypt",
    "getIamPolicy": "cloudkms.cryptoKeys.getIamPolicy",
    "setIamPolicy": "cloudkms.cryptoKeys.setIamPolicy",
    "GET": "cloudkms.cryptoKeys.get",
    "PATCH": "cloudkms.cryptoKeyVersions.update",
    "POST": "cloudkms.cryptoKeyVersions.destroy",
}


@dataclass
class _Key:
    """Versions are numbered from 1; the last one is the primary."""

    versions: list[bytes] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    policy: dict[str, Any] = field(default_factory=lambda: {"version": 1, "etag": "AAAA", "bindings": []})

    def rotate(self) -> None:
        self.versions.append(os.urandom(32))
        self.states.append("ENABLED")


class _Refusal(Exception):
    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class GcpKmsFront(Front):
    """Answers for keys. ``damage`` is a field of the next answer that arrives changed."""

    def __init__(self) -> None:
        super().__init__(Upstream(0), system_clock)  # there is nothing behind it
        self.damage = ""
        self._keys: dict[str, _Key] = {}

    def make_key(self) -> str:
        """A new key with one version; its resource name."""
        name = f"projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k{len(self._keys)}"
        self._keys[name] = _Key()
        self._keys[name].rotate()
        return name

    def rotate(self, name: str) -> None:
        """Make a new primary version; the old ones stay enabled (GK/key-rotation)."""
        self._keys[name].rotate()

    def set_state(self, name: str, version: int, state: str) -> None:
        """Put a version into a state by its name in the API (GK/key-states)."""
        self._keys[name].states[version - 1] = state

    def handle(self, request: Request) -> Answer:
        """Judge and carry out one request."""
        try:
            answer = self._carry_out(request)
        except _Refusal as refusal:
            error = {"code": refusal.code, "status": refusal.status, "message": str(refusal)}
            return _json(refusal.code, {"error": error})
        if self.damage:
            answer[self.damage] = not answer[self.damage] if "verified" in self.damage else "7"
            self.damage = ""
        return _json(200, answer)

    def states(self, name: str) -> list[str]:
        """The states of all versions, the oldest first."""
        return list(self._keys[name].states)

    def policy(self, name: str) -> dict[str, Any]:
        """Who may do what with a key."""
        return self._keys[name].policy

    def _carry_out(self, request: Request) -> dict[str, Any]:
        call, about = _CALL.fullmatch(request.path), _KEY.fullmatch(request.path)
        if call is not None and request.method in {"GET", "POST"}:
            name, verb = call.groups()
            self._demand(name, verb)
            return self._call(name, verb, json.loads(request.body or b"{}"))
        if about is None or request.method not in {"GET", "PATCH", "POST"}:
            raise _Refusal(404, "NOT_FOUND", "no such method")
        name, number = about[1], int(about[2] or 0)
        self._demand(name, request.method)
        if request.method == "GET":
            return self._told(name)
        states = self._keys[name].states
        if not 1 <= number <= len(states):  # told to who may do it alone, for rights are those on the key
            raise _Refusal(404, "NOT_FOUND", f"{name}/cryptoKeyVersions/{number} not found.")
        if about[3]:
            states[number - 1] = "DESTROY_SCHEDULED"
        else:
            wanted = json.loads(request.body)["state"]  # its name, or its number
            states[number - 1] = {1: "ENABLED", 2: "DISABLED"}.get(wanted, wanted)
        return {"name": f"{name}/cryptoKeyVersions/{number}", "state": states[number - 1]}

    def _demand(self, name: str, verb: str) -> None:
        """A key that does not exist is answered as one that the caller has no right to."""
        if _NEEDS[verb] in self.denied or name not in self._keys:
            message = f"Permission '{_NEEDS[verb]}' denied on resource '{name}' (or it may not exist)."
            raise _Refusal(403, "PERMISSION_DENIED", message)

    def _call(self, name: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        key = self._keys[name]
        if verb in {"encrypt", "decrypt"}:
            return (self._encrypt if verb == "encrypt" else self._decrypt)(name, body)
        if verb == "setIamPolicy":
            if body["policy"].get("etag", key.policy["etag"]) != key.policy["etag"]:
                raise _Refusal(409, "ABORTED", "There were concurrent policy changes.")
            key.policy = {"bindings": []} | body["policy"]
        return key.policy

    def _told(self, name: str) -> dict[str, Any]:
        key = self._keys[name]
        number = len(key.versions)
        primary = {"name": f"{name}/cryptoKeyVersions/{number}", "state": key.states[number - 1]}
        return {"name": name, "purpose": "ENCRYPT_DECRYPT", "primary": primary}

    def _encrypt(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        key, number = self._keys[name], len(self._keys[name].versions)
        self._check_enabled(name, number)
        plaintext, aad = _field(body, "plaintext"), _field(body, "additionalAuthenticatedData")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key.versions[number - 1]).encrypt(nonce, plaintext, aad)
        ciphertext = number.to_bytes(4, "big") + nonce + sealed
        return {
            "name": f"{name}/cryptoKeyVersions/{number}",
            "ciphertext": base64.b64encode(ciphertext).decode(),
            "ciphertextCrc32c": str(google_crc32c.value(ciphertext)),
            # GK/data-integrity-guidelines: false unless the checksum was sent.
            "verifiedPlaintextCrc32c": "plaintextCrc32c" in body,
            "verifiedAdditionalAuthenticatedDataCrc32c": "additionalAuthenticatedDataCrc32c" in body,
        }

    def _decrypt(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        ciphertext, aad = _field(body, "ciphertext"), _field(body, "additionalAuthenticatedData")
        key, number = self._keys[name], int.from_bytes(ciphertext[:4], "big")
        if not 1 <= number <= len(key.versions):
            raise _undecipherable()
        self._check_enabled(name, number)
        at = 4 + _NONCE_BYTES
        try:
            plaintext = AESGCM(key.versions[number - 1]).decrypt(ciphertext[4:at], ciphertext[at:], aad)
        except (InvalidTag, ValueError) as error:
            raise _undecipherable() from error
        return {
            "plaintext": base64.b64encode(plaintext).decode(),
            "plaintextCrc32c": str(google_crc32c.value(plaintext)),
            "usedPrimary": number == len(key.versions),
        }

    def _check_enabled(self, name: str, number: int) -> None:
        """GK/key-states: versions in every state but ENABLED neither encrypt nor decrypt."""
        state = self._keys[name].states[number - 1]
        if state != "ENABLED":
            message = f"{name}/cryptoKeyVersions/{number} is not enabled, current state is: {state}."
            raise _Refusal(400, "FAILED_PRECONDITION", message)


def _undecipherable() -> _Refusal:
    """GK/additional-authenticated-data: wrong data, wrong key and changed bytes are not told apart."""
    return _Refusal(400, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")


def _field(body: dict[str, Any], name: str) -> bytes:
    """A field of a request; its checksum must fit (GK/data-integrity-guidelines)."""
    data = base64.b64decode(body.get(name, ""))
    checksum = body.get(f"{name}Crc32c")
    if checksum is not None and int(checksum) != google_crc32c.value(data):
        raise _Refusal(400, "INVALID_ARGUMENT", f"The checksum in field {name}_crc32c did not match.")
    return data


def _json(status: int, answer: dict[str, Any]) -> Answer:
    return Answer(status, json.dumps(answer).encode(), {"content-type": "application/json"})


@contextlib.contextmanager
def gcp_kms() -> Iterator[tuple[GcpKmsFront, Any]]:
    """A fake, and Google's client of it, until the body ends."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import kms_v1
    from google.cloud.kms_v1.services.key_management_service.transports import rest

    front = GcpKmsFront()
    with serving(front) as address:
        transport = rest.KeyManagementServiceRestTransport(
            host=address.removeprefix("http://"),
            url_scheme="http",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # Google's own
        )
        yield front, kms_v1.KeyManagementServiceClient(transport=transport)
