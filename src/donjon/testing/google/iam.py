"""Google's IAM for the keys of one service account: a fake that obeys the documented rules, on this machine.

- projects.serviceAccounts.keys list, create, disable, delete:
  https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts.keys
- the private key comes with the answer to create, once, as base64 of a key file;
- ten keys at most: https://cloud.google.com/iam/quotas, then 400 FAILED_PRECONDITION;
- a disabled or deleted key gets no token (400 invalid_grant):
  https://cloud.google.com/iam/docs/keys-disable-enable; tokens that were given out go on until they expire,
  https://cloud.google.com/iam/docs/keys-create-delete;
- tokens: RFC 7523, a JWT signed by the key for an access token, https://developers.google.com/identity/protocols/oauth2/service-account.

It is a fake: nothing of Google was asked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_MOST = 10
_EMAIL = "backup@acme.iam.gserviceaccount.com"


class GoogleIam:
    """One account in one project. ``permissions`` are what it may do, ``roles`` what it has on the
    project."""

    email = _EMAIL

    def __init__(self, address: str) -> None:
        self.address = address
        self.keys: dict[str, dict[str, Any]] = {}
        self.publics: dict[str, rsa.RSAPublicKey] = {}
        self.tokens: set[str] = set()
        self.roles: list[str] = ["roles/storage.objectCreator"]
        self.permissions = {"list", "create", "disable", "delete", "getIamPolicy"}

    def make(self, created_at: datetime | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new key: what the API tells of it, and the content of its key file."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key_id = secrets.token_hex(20)
        name = f"projects/acme/serviceAccounts/{_EMAIL}/keys/{key_id}"
        since = (created_at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.keys[key_id] = {"name": name, "validAfterTime": since, "validBeforeTime": "9999-12-31T23:59:59Z"}
        self.publics[key_id] = key.public_key()
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        file = {
            "type": "service_account", "project_id": "acme", "private_key_id": key_id, "private_key": text,
            "client_email": _EMAIL, "client_id": "1", "token_uri": f"{self.address}/token",
        }  # fmt: skip
        return self.keys[key_id], file

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """Status and content for one request."""
        path = unquote(path.partition("?")[0])
        if path == "/token":
            return self._token(parse_qs(body.decode())["assertion"][0])
        if token not in self.tokens:
            return _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if path == "/v1/projects/acme:getIamPolicy":
            if "getIamPolicy" not in self.permissions:
                return _error(403, "PERMISSION_DENIED", "The caller does not have permission")
            members = [f"serviceAccount:{_EMAIL}"]
            return 200, {"bindings": [{"role": role, "members": members} for role in self.roles]}
        _, _, rest = path.partition(f"/v1/projects/-/serviceAccounts/{_EMAIL}/keys")
        key_id, _, verb = rest.removeprefix("/").partition(":")
        action = verb or {"GET": "list", "POST": "create", "DELETE": "delete"}[method]
        if action not in self.permissions:
            needed = f"iam.serviceAccountKeys.{action}"
            return _error(403, "PERMISSION_DENIED", f"Permission '{needed}' denied on resource")
        return self._keys(action, key_id)

    def _keys(self, action: str, key_id: str) -> tuple[int, Any]:
        if action == "list":
            return 200, {"keys": list(self.keys.values())}
        if action == "create":
            if len(self.keys) >= _MOST:
                return _error(400, "FAILED_PRECONDITION", "Precondition check failed.")
            key, file = self.make()
            return 200, key | {"privateKeyData": base64.b64encode(json.dumps(file).encode()).decode()}
        if key_id not in self.keys:
            return _error(404, "NOT_FOUND", f"Service account key {key_id} does not exist.")
        if action == "delete":
            del self.keys[key_id]
        else:
            self.keys[key_id]["disabled"] = True
        return 200, {}

    def _token(self, assertion: str) -> tuple[int, Any]:
        head, payload, signature = assertion.split(".")
        key_id = json.loads(_decoded(head))["kid"]
        key = self.keys.get(key_id)
        try:
            if key is None or key.get("disabled"):
                raise InvalidSignature
            signed = f"{head}.{payload}".encode()
            self.publics[key_id].verify(_decoded(signature), signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        token = secrets.token_urlsafe(24)
        self.tokens.add(token)
        return 200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}


@contextlib.contextmanager
def google_iam() -> Iterator[GoogleIam]:
    """Run the fake on a free port of this machine until the body ends."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, content = fake.answer(self.command, self.path, token, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _any  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its own name for it
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = GoogleIam(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _error(code: int, status: str, message: str) -> tuple[int, Any]:
    return code, {"error": {"code": code, "status": status, "message": message}}


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
