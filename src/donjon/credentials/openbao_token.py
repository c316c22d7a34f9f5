"""The token of OpenBao or HashiCorp Vault that a host holds, and the file in which it is.

API: https://openbao.org/api-docs/auth/token/. The id of a token is its accessor, which opens nothing. A
token dies with its parent, so the successor is an orphan; and a token cannot be switched off, so switching
off means revoking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from hvac import Client

KIND: Final = "openbao-token"
_MAX_TOKEN_BYTES: Final = 8192

#: What the token's policies must allow for each call (capability and path). The first is in the default
#: policy.
PERMISSIONS: Final[Mapping[str, str]] = {
    "lookup_self": "read auth/token/lookup-self",
    "create_orphan": "update auth/token/create-orphan",
    "revoke_accessor": "update auth/token/revoke-accessor",
}


class TokenFile:
    """A file that holds a token and nothing else, as ``~/.vault-token`` and agents have it."""

    def __init__(self, file: Path, accessor_of: Callable[[str], str]) -> None:
        """``accessor_of`` asks the server, as the file does not tell the accessor."""
        self._file = file.resolve()
        self._accessor_of = accessor_of

    @property
    def path(self) -> str:
        return str(self._file)

    def current(self) -> str:
        return self._accessor_of(self.token())

    def token(self) -> str:
        """What the file holds. Raises ``KeyNotAvailable``."""
        try:
            with self._file.open("rb") as file:
                text = file.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{self._file}: no token can be read here"
            raise KeyNotAvailable(msg, hint="Name the file that holds the token with --file.") from error
        if not text:
            msg = f"{self._file}: is empty"
            raise KeyNotAvailable(msg, hint="Log in first, then name the file that holds the token.")
        return text

    def put(self, new: NewSecret) -> None:
        replace_private(self._file, new.secret.encode() + b"\n")


class OpenBaoToken:
    """The token in a file, and its successor."""

    kind = KIND
    most = None
    can_disable = True

    def __init__(self, address: str, place: TokenFile | None, connect: Callable[[str, str], Client]) -> None:
        """``address`` is that of the server; ``connect`` makes a client for an address and a token."""
        self._address = address
        self._connect = connect
        self.place = place or TokenFile(Path(), self.accessor_of)

    def at(self, file: Path) -> TokenFile:
        """The place that this token is in."""
        self.place = TokenFile(file, self.accessor_of)
        return self.place

    def accessor_of(self, token: str) -> str:
        """Raises ``CredentialsRejected`` if the server does not take the token."""
        return str(self._facts(token)["accessor"])

    def list(self) -> Sequence[Credential]:
        facts = self._facts(self.place.token())
        powers = ("is a root token, whom no policy holds",) if "root" in (facts.get("policies") or ()) else ()
        expires = facts.get("expire_time")
        if not expires:
            powers = (*powers, "has a token that never ends")
        return [
            Credential(
                str(facts["accessor"]), KIND, str(facts.get("display_name") or "token"),
                created_at=int(facts["creation_time"]), use_is_known=False,
                expires_at=_unix(str(expires)) if expires else None,
                in_use=True, stored_in=self.place.path, powers=powers,
                replaceable_by="a login of the machine itself (JWT, Kubernetes, or TLS certificate)",
            )
        ]  # fmt: skip

    def create(self) -> NewSecret:
        """An orphan with the same policies, period and longest life."""
        token = self.place.token()
        facts = self._facts(token)
        period = int(facts.get("period") or 0)
        parameters: dict[str, Any] = {
            "policies": [policy for policy in facts["policies"] if policy != "default"],
            "display_name": "donjon",
            "renewable": bool(facts.get("renewable")),
            "meta": facts.get("meta") or None,
        }
        if period:
            parameters["period"] = f"{period}s"
        elif ttl := int(facts.get("creation_ttl") or 0):
            parameters["ttl"] = f"{ttl}s"
        if longest := int(facts.get("explicit_max_ttl") or 0):
            parameters["explicit_max_ttl"] = f"{longest}s"
        made = self._ask("create_orphan", token, lambda client: client.auth.token.create_orphan(**parameters))
        return NewSecret(str(made["auth"]["accessor"]), str(made["auth"]["client_token"]))

    def verify(self, secret: NewSecret) -> None:
        facts, old = self._facts(secret.secret), self._facts(self.place.token())
        if set(facts["policies"]) != set(old["policies"]) or not facts.get("orphan"):
            msg = f"the new token {secret.id} has other policies than the one before, or would end with it"
            raise StoreError(msg, hint="Revoke it, and ask for the permission to create orphans.")

    def disable(self, credential_id: str) -> None:
        """Revoke it by its accessor. One that is gone already is done."""
        try:
            self._ask(
                "revoke_accessor",
                self.place.token(),
                lambda client: client.auth.token.revoke_accessor(credential_id),
            )
        except _Gone:
            return

    def delete(self, credential_id: str) -> None:
        self.disable(credential_id)

    def renew(self) -> int:
        """Let the token live on; when it ends then, in Unix seconds. Raises ``StoreError`` if it cannot."""
        token = self.place.token()
        self._ask("renew_self", token, lambda client: client.auth.token.renew_self())
        expires = self._facts(token).get("expire_time")
        return _unix(str(expires)) if expires else 0

    def _facts(self, token: str) -> Mapping[str, Any]:
        told = self._ask("lookup_self", token, lambda client: client.auth.token.lookup_self())
        facts: Mapping[str, Any] = told["data"]
        return facts

    def _ask(self, call: str, token: str, do: Callable[[Client], Any]) -> Any:
        try:
            return do(self._connect(self._address, token))
        except Exception as error:
            raise _translated(error, call) from None  # the error of the SDK holds the request with its token


class _Gone(StoreError):
    """There is no token with this accessor."""


def connect(address: str, token: str) -> Client:
    """A client that follows no redirects, which could carry the token elsewhere. Raises ``UsageError``."""
    try:
        import hvac
    except ImportError as error:
        msg = "OpenBao needs a package that is not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[openbao]'") from error
    return hvac.Client(url=address, token=token, timeout=30, allow_redirects=False)


def _translated(error: Exception, call: str) -> DonjonError:
    from hvac import exceptions as sdk

    texts = [str(text) for text in getattr(error, "errors", None) or [type(error).__name__]]
    text = f"OpenBao: {call}: {'; '.join(texts)}"
    if "invalid accessor" in text.lower():
        return _Gone(text)
    if isinstance(error, sdk.Forbidden):
        if call == "lookup_self" or "invalid token" in text or "bad token" in text:
            return CredentialsRejected(text, hint="The token has ended or was revoked; log in again.")
        return PermissionMissing(
            text, hint=f"A policy of this token must allow: {PERMISSIONS.get(call, call)}."
        )
    if isinstance(error, (sdk.VaultDown, sdk.InternalServerError, sdk.BadGateway, OSError)):
        return StoreUnavailable(text, hint="Look whether the server is up and unsealed, and try again.")
    if isinstance(error, sdk.VaultError):
        return StoreError(text, hint="Look at the server's log.")
    raise error


def _unix(text: str) -> int:
    """Seconds for RFC 3339 with up to nine digits of fraction, of which Python takes six."""
    head, _, rest = text.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    return int(datetime.fromisoformat((head + zone).replace("Z", "+00:00")).timestamp())
