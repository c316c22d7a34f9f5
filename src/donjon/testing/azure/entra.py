"""Microsoft Graph for the client secrets of one application: a fake that obeys the documented rules, in
this process.

It stands in place of the transport of ``azure.core``, so requests and answers go through the SDK's own
pipeline.

- application, addPassword, removePassword: https://learn.microsoft.com/graph/api/resources/application,
  .../application-addpassword, .../application-removepassword;
- ``secretText`` comes with the answer to addPassword and never again; the list tells ``hint``, its first
three letters; - removePassword of an id that is not there: 400 Request_BadRequest; - without the
permission: 403 Authorization_RequestDenied; - a removed or expired secret gets no token (AADSTS7000215,
AADSTS7000222).

It is a fake: nothing of Microsoft was asked.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from donjon.core.errors import CredentialsRejected

APPLICATION = "11111111-2222-3333-4444-555555555555"
_FORM = "%Y-%m-%dT%H:%M:%SZ"


class Entra:
    """The application, its secrets by id, and whether it may change itself. ``clock`` is in Unix seconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.secrets: dict[str, dict[str, Any]] = {}
        self.texts: dict[str, str] = {}
        self.may_write = True

    def add(self, days: int = 180, started_at: int | None = None) -> tuple[str, str]:
        """A new secret: its id and its text."""
        key_id, text = str(uuid.uuid4()), secrets.token_urlsafe(30)
        start = started_at if started_at is not None else self.clock()
        self.secrets[key_id] = {
            "keyId": key_id, "displayName": "x", "hint": text[:3], "startDateTime": _time(start),
            "endDateTime": _time(start + days * 86_400),
        }  # fmt: skip
        self.texts[key_id] = text
        return key_id, text

    def log_in(self, tenant: str, application: str, secret: str) -> None:
        """What the token endpoint does. Raises ``CredentialsRejected``."""
        now = _time(self.clock())
        good = [one for key_id, one in self.secrets.items() if self.texts[key_id] == secret]
        if application != APPLICATION or not good or good[0]["endDateTime"] <= now:
            raise CredentialsRejected("AADSTS7000215: Invalid client secret provided.")

    def answer(self, method: str, url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and content for one request."""
        path = url.partition("?")[0]
        application = f"/v1.0/applications(appId='{APPLICATION}')"
        action = path.partition(application)[2]
        if application not in path:
            return _error(404, "Request_ResourceNotFound", "Resource does not exist.")
        if method == "GET" and not action:
            return 200, {"displayName": "backup", "passwordCredentials": list(self.secrets.values())}
        if not self.may_write:
            return _error(
                403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."
            )
        if action == "/addPassword":
            key_id, text = self.add()
            self.secrets[key_id] |= {"endDateTime": body["passwordCredential"]["endDateTime"]}
            return 200, self.secrets[key_id] | {"secretText": text}
        if self.secrets.pop(body["keyId"], None) is None:
            return _error(400, "Request_BadRequest", "No password credential found with keyId.")
        return 204, {}


def client(entra: Entra) -> Any:
    """A ``PipelineClient`` of the SDK whose transport is the fake."""
    from azure.core import PipelineClient
    from azure.core.pipeline.transport import HttpTransport
    from azure.core.rest._http_response_impl import HttpResponseImpl  # the SDK makes its own of the same

    class Transport(HttpTransport):  # type: ignore[type-arg]  # generic in stubs alone
        def open(self) -> None: ...

        def close(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

        def send(self, request: Any, **_: Any) -> Any:
            body = json.loads(request.content) if request.content else {}
            status, content = entra.answer(request.method, request.url, body)
            data = json.dumps(content).encode() if status != 204 else b""
            answer = HttpResponseImpl(
                request=request, internal_response=None, status_code=status, reason="",
                content_type="application/json",
                headers={"Content-Type": "application/json"}, stream_download_generator=None,
            )  # fmt: skip
            answer._content = data  # noqa: SLF001 - as the SDK does once a body was read
            return answer

    return PipelineClient("https://graph.microsoft.com", policies=[], transport=Transport())


def _time(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime(_FORM)


def _error(status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": code, "message": message}}
