"""Keys of a Google service account, and the file in which this host keeps one.

API: https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts.keys; ten keys at most for
each account: https://cloud.google.com/iam/quotas. Google tells of no key when it was last used, but in
another service.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

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

KIND: Final = "google-service-account-key"
_IAM: Final = "https://iam.googleapis.com"
_PROJECTS: Final = "https://cloudresourcemanager.googleapis.com"
_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_MAX_FILE_BYTES: Final = 64 << 10
_TIMEOUT_S: Final = 30
#: A key that does not expire is told to be valid until the end of the year 9999.
_NEVER: Final = 253_402_300_799

#: Permissions of each call; the last one only makes the findings fuller.
PERMISSIONS: Final[Mapping[str, str]] = {
    "list": "iam.serviceAccountKeys.list",
    "create": "iam.serviceAccountKeys.create",
    "disable": "iam.serviceAccountKeys.disable",
    "delete": "iam.serviceAccountKeys.delete",
    "look at the roles of": "resourcemanager.projects.getIamPolicy",
}
#: Roles on a project that reach far beyond any role of a vault.
_BROAD: Final = {
    "roles/owner", "roles/editor", "roles/storage.admin", "roles/storage.objectAdmin",
    "roles/iam.securityAdmin",
    "roles/iam.serviceAccountAdmin", "roles/iam.serviceAccountKeyAdmin", "roles/cloudkms.admin",
}  # fmt: skip


class GoogleKeyFile:
    """A key file of a service account, as ``GOOGLE_APPLICATION_CREDENTIALS`` names it."""

    def __init__(self, file: Path) -> None:
        self._file = file.resolve()

    @property
    def path(self) -> str:
        return str(self._file)

    def current(self) -> str:
        return str(self.content()["private_key_id"])

    def content(self) -> Mapping[str, Any]:
        """The members of the file. Raises ``KeyNotAvailable`` if it is no key of a service account."""
        try:
            with self._file.open("rb") as file:
                content = json.loads(file.read(_MAX_FILE_BYTES))
            if content["type"] != "service_account" or not content["private_key_id"]:
                raise ValueError(content["type"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{self._file}: holds no key of a service account"
            raise KeyNotAvailable(msg, hint="Name the key file with --file.") from error
        return dict(content)

    def put(self, new: NewSecret) -> None:
        replace_private(self._file, new.secret.encode())


class GoogleServiceAccountKeys:
    """The keys of the account whose key the file holds."""

    kind = KIND
    most = 10
    can_disable = True

    def __init__(self, session: Any, place: GoogleKeyFile, *, endpoint: str | None = None) -> None:
        """``session`` is an ``AuthorizedSession`` of google-auth; ``endpoint`` a server other than Google."""
        self._session = session
        self._place = place
        self._iam = endpoint or _IAM
        self._projects = endpoint or _PROJECTS
        content = place.content()
        self._email, self._project = str(content["client_email"]), str(content.get("project_id", ""))
        self._account = f"v1/projects/-/serviceAccounts/{quote(self._email)}"

    def list(self) -> Sequence[Credential]:
        answer = self._ask("list", "GET", f"{self._iam}/{self._account}/keys?keyTypes=USER_MANAGED")
        current, powers = self._place.current(), tuple(self._powers())
        return [self._fact(key, current, powers) for key in answer.get("keys", [])]

    def create(self) -> NewSecret:
        made = self._ask("create", "POST", f"{self._iam}/{self._account}/keys", {})
        return NewSecret(_id(made), base64.b64decode(made["privateKeyData"]).decode())

    def verify(self, secret: NewSecret) -> None:
        """Get a token with it, as every client does first."""
        from google.auth.exceptions import GoogleAuthError, RefreshError
        from google.auth.transport.requests import Request

        try:
            _credentials(json.loads(secret.secret)).refresh(Request())
        except RefreshError as error:
            msg = f"Google does not take the key {secret.id}: {error.args[0] if error.args else ''}"
            raise CredentialsRejected(msg, hint="A new key may take a minute. Run it again.") from None
        except (GoogleAuthError, ValueError) as error:
            msg = f"the key {secret.id} cannot be tried: {type(error).__name__}"
            raise StoreUnavailable(msg, hint="Look at the network, and try again.") from None

    def disable(self, credential_id: str) -> None:
        try:
            self._ask("disable", "POST", f"{self._key(credential_id)}:disable", {})
        except _Missing:
            return

    def delete(self, credential_id: str) -> None:
        try:
            self._ask("delete", "DELETE", self._key(credential_id))
        except _Missing:
            return

    def _key(self, credential_id: str) -> str:
        return f"{self._iam}/{self._account}/keys/{quote(credential_id)}"

    def _fact(self, key: Mapping[str, Any], current: str, powers: tuple[str, ...]) -> Credential:
        key_id, ends = _id(key), _unix(key.get("validBeforeTime"))
        return Credential(
            key_id, KIND, self._email,
            created_at=_unix(key.get("validAfterTime")), use_is_known=False,
            expires_at=ends if ends is not None and ends < _NEVER else None,
            active=not key.get("disabled", False), in_use=key_id == current,
            stored_in=self._place.path if key_id == current else "", powers=powers,
            replaceable_by="workload identity federation, or the account attached to the machine"
            if key_id == current else "",
        )  # fmt: skip

    def _powers(self) -> Iterator[str]:
        """Broad roles on its project. Who may not ask this finds out nothing."""
        url = f"{self._projects}/v1/projects/{quote(self._project)}:getIamPolicy"
        try:
            policy = self._ask("look at the roles of", "POST", url, {})
        except (PermissionMissing, _Missing):
            return
        for binding in policy.get("bindings", []):
            if f"serviceAccount:{self._email}" in binding["members"] and binding["role"] in _BROAD:
                yield f"has the role {binding['role']} on the project {self._project}"

    def _ask(self, action: str, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        from google.auth.exceptions import RefreshError

        try:
            answer = self._session.request(method, url, json=body, timeout=_TIMEOUT_S)
        except RefreshError:
            msg = f"{self._place.path}: Google does not take this key"
            raise CredentialsRejected(msg, hint="Is it disabled or deleted? Name another one.") from None
        except OSError as error:  # what requests raises; google-auth passes it on
            raise _unavailable(action, error) from None
        except Exception as error:
            if type(error).__module__.startswith("google.auth"):
                raise _unavailable(action, error) from None
            raise
        if answer.status_code >= 300:
            raise self._translated(action, answer)
        return answer.json() if answer.content else {}

    def _translated(self, action: str, answer: Any) -> DonjonError:
        try:
            told = str(answer.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            told = str(answer.reason)
        text, status = f"Google: cannot {action} keys of {self._email}: {told}", answer.status_code
        if status == 401:
            return CredentialsRejected(text, hint="Is the key disabled or deleted?")
        if status == 403:
            return PermissionMissing(text, hint=f"It takes {PERMISSIONS[action]}.")
        if status == 404:
            return _Missing(text)
        if status == 429 or status >= 500:
            return StoreUnavailable(text, hint="Try again later.")
        return StoreError(text)


class _Missing(StoreError):
    """There is no such key or project."""


def new_session(place: GoogleKeyFile) -> Any:
    """An ``AuthorizedSession`` with the key in a file. Raises ``UsageError`` if the SDK is not installed."""
    try:
        from google.auth.transport.requests import AuthorizedSession
    except ImportError as error:
        msg = "Google Cloud needs a package that is not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[gcp]'") from error
    try:
        return AuthorizedSession(_credentials(place.content()))  # type: ignore[no-untyped-call]  # Google's
    except ValueError:
        msg = f"{place.path}: holds no usable key of a service account"
        raise KeyNotAvailable(msg, hint="Name the key file with --file.") from None


def _credentials(content: Mapping[str, Any]) -> Any:
    from google.oauth2.service_account import Credentials

    return Credentials.from_service_account_info(content, scopes=_SCOPES)  # type: ignore[no-untyped-call]  # Google's


def _id(key: Mapping[str, Any]) -> str:
    return str(key["name"]).rpartition("/")[2]


def _unix(text: str | None) -> int | None:
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) if text else None


def _unavailable(action: str, error: Exception) -> StoreUnavailable:
    msg = f"Google: cannot {action} keys: no answer ({type(error).__name__})"
    return StoreUnavailable(msg, hint="Look at the network, and try again.")
