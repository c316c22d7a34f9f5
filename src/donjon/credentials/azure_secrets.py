"""Client secrets of an application of Microsoft Entra, and the file in which this host keeps one.

API: https://learn.microsoft.com/graph/api/application-addpassword and application-removepassword. Graph
tells a secret once, and never when one was used. A secret cannot be switched off, only removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from donjon.core.clock import SECONDS_PER_DAY, Clock
from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    KeyNotAvailable,
    PermissionMissing,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from donjon.credentials.base import Credential, NewSecret
from donjon.keys.private import replace_private

KIND: Final = "azure-client-secret"
_GRAPH: Final = "https://graph.microsoft.com"
_SCOPE: Final = "https://graph.microsoft.com/.default"
_LIFE_S: Final = 180 * SECONDS_PER_DAY
_LINE: Final = re.compile(r"^(AZURE_[A-Z_]+)=(?:\"([^\"]*)\"|'([^']*)'|(\S*))\s*$")
_SECRET: Final = "AZURE_CLIENT_SECRET"  # noqa: S105 - the name of a variable
_SECRET_ID: Final = "AZURE_CLIENT_SECRET_ID"  # noqa: S105 - the name of a variable

#: The permission of Graph that each call takes. An application that owns itself needs no more.
PERMISSION: Final = "Application.ReadWrite.OwnedBy"

Login = Callable[[str, str, str], None]


class AzureEnvironmentFile:
    """A file of ``NAME=value`` lines, as systemd's ``EnvironmentFile`` takes it, with the variables of
    azure-identity.

    ``AZURE_CLIENT_SECRET_ID`` is the id of the secret, which the portal shows beside it. Other lines stay.
    """

    def __init__(self, file: Path) -> None:
        self._file = file.resolve()

    @property
    def path(self) -> str:
        return str(self._file)

    def current(self) -> str:
        return self.value(_SECRET_ID)

    def value(self, name: str) -> str:
        """Raises ``KeyNotAvailable`` if the file has no such line."""
        for line in self._lines():
            if (match := _LINE.match(line)) and match[1] == name:
                return match[2] or match[3] or match[4] or ""
        msg = f"{self._file}: has no line {name}=..."
        raise KeyNotAvailable(msg, hint="Name the file that holds it with --file, and add the line.")

    def put(self, new: NewSecret) -> None:
        values = {_SECRET: f'{_SECRET}="{new.secret}"\n', _SECRET_ID: f"{_SECRET_ID}={new.id}\n"}
        kept = []
        for line in self._lines():
            match = _LINE.match(line)
            kept.append(values.pop(match[1], "") if match and match[1] in {_SECRET, _SECRET_ID} else line)
        replace_private(self._file, "".join([*kept, *values.values()]).encode())

    def _lines(self) -> list[str]:
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{self._file}: cannot be read"
            raise KeyNotAvailable(msg, hint="Name the file that holds the secret with --file.") from error
        return [line if line.endswith("\n") else f"{line}\n" for line in lines]


class AzureClientSecrets:
    """The secrets of one application. ``client`` is an ``azure.core.PipelineClient`` that asks Graph."""

    kind = KIND
    most = None
    can_disable = False

    def __init__(
        self,
        client: Any,
        place: AzureEnvironmentFile,
        *,
        clock: Clock,
        login: Login,
        endpoint: str | None = None,
    ) -> None:
        """``login`` logs in with tenant, application and secret, and raises ``CredentialsRejected``."""
        self._client = client
        self._place = place
        self._clock = clock
        self._login = login
        self._secure = not (endpoint or _GRAPH).startswith("http://127.0.0.1:")
        application = quote(place.value("AZURE_CLIENT_ID"))
        self._url = f"{endpoint or _GRAPH}/v1.0/applications(appId='{application}')"

    def list(self) -> Sequence[Credential]:
        answer = self._ask("read", "GET", f"{self._url}?$select=displayName,passwordCredentials")
        current = self._place.current()
        return [self._fact(one, answer, current) for one in answer.get("passwordCredentials", [])]

    def create(self) -> NewSecret:
        ends = datetime.fromtimestamp(self._clock() + _LIFE_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {"passwordCredential": {"displayName": "donjon", "endDateTime": ends}}
        made = self._ask("add a secret to", "POST", f"{self._url}/addPassword", body)
        return NewSecret(str(made["keyId"]), str(made["secretText"]))

    def verify(self, secret: NewSecret) -> None:
        self._login(self._place.value("AZURE_TENANT_ID"), self._place.value("AZURE_CLIENT_ID"), secret.secret)

    def disable(self, credential_id: str) -> None:
        """A secret cannot be switched off; ``retire`` removes it."""

    def delete(self, credential_id: str) -> None:
        if all(one.id != credential_id for one in self.list()):  # Graph answers 400 for one that is gone
            return
        self._ask("remove a secret of", "POST", f"{self._url}/removePassword", {"keyId": credential_id})

    def _fact(self, one: Mapping[str, Any], application: Mapping[str, Any], current: str) -> Credential:
        key_id, in_use = str(one["keyId"]), one["keyId"] == current
        return Credential(
            key_id, KIND, str(application.get("displayName") or self._place.value("AZURE_CLIENT_ID")),
            created_at=_unix(one.get("startDateTime")), use_is_known=False,
            expires_at=_unix(one.get("endDateTime")),
            in_use=in_use, stored_in=self._place.path if in_use else "",
            replaceable_by="a managed identity or workload identity federation" if in_use else "",
        )  # fmt: skip

    def _ask(self, action: str, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.core.rest import HttpRequest

        try:
            request = HttpRequest(method, url, json=body)
            answer = self._client.send_request(request, enforce_https=self._secure)
        except ClientAuthenticationError:
            msg = f"{self._place.path}: Microsoft Entra does not take this secret"
            raise CredentialsRejected(msg, hint="Has it expired, or was it removed?") from None
        except AzureError as error:
            msg = f"Azure: cannot {action} the application: no answer ({type(error).__name__})"
            raise StoreUnavailable(msg, hint="Look at the network, and try again.") from None
        if answer.status_code >= 300:
            raise _translated(action, answer)
        return answer.json() if answer.status_code != 204 else {}


def connect(place: AzureEnvironmentFile, endpoint: str | None = None, credential: Any = None) -> Any:
    """A client that asks Graph with the secret in a file, or with another credential.

    Raises ``UsageError`` if the SDK is not installed.
    """
    try:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy
        from azure.identity import ClientSecretCredential
    except ImportError as error:
        msg = "Azure needs a package that is not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[azure]'") from error
    used = credential or ClientSecretCredential(
        place.value("AZURE_TENANT_ID"), place.value("AZURE_CLIENT_ID"), place.value(_SECRET)
    )
    policies = [RetryPolicy(retry_total=2), BearerTokenCredentialPolicy(used, _SCOPE)]
    return PipelineClient(endpoint or _GRAPH, policies=policies)


def log_in(tenant: str, application: str, secret: str) -> None:
    """Log in once. Raises ``CredentialsRejected``, ``StoreUnavailable``."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from azure.identity import ClientSecretCredential

    try:
        ClientSecretCredential(tenant, application, secret).get_token(_SCOPE)
    except ClientAuthenticationError:
        msg = "Microsoft Entra does not take the new secret"
        raise CredentialsRejected(msg, hint="It may take a minute. Run it again.") from None
    except AzureError as error:
        msg = f"the new secret cannot be tried: {type(error).__name__}"
        raise StoreUnavailable(msg, hint="Look at the network, and try again.") from None


def _translated(action: str, answer: Any) -> DonjonError:
    try:
        told = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        told = str(answer.reason)
    text, status = f"Azure: cannot {action} the application: {told}", answer.status_code
    if status == 401:
        return CredentialsRejected(text, hint="Has the secret expired, or was it removed?")
    if status == 403:
        hint = f"It takes {PERMISSION}, and the application must be its own owner."
        return PermissionMissing(text, hint=hint)
    if status == 429 or status >= 500:
        return StoreUnavailable(text, hint="Try again later.")
    return StoreError(text)


def _unix(text: str | None) -> int | None:
    """Seconds for a time of Graph, with up to seven digits of fraction, of which Python takes six."""
    if not text:
        return None
    head = text.rstrip("Z").partition(".")[0]
    return int(datetime.fromisoformat(f"{head}+00:00").timestamp())
