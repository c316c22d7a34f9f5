"""The port to services that keep credentials, and the place in which this host keeps one.

A service makes a secret known once, when it creates it. So a rotation is: create, keep, verify, adopt,
disable the old one, and delete that after a time of grace; ``rotation`` does it, in this order, for all
services.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credential:
    """What is known of one credential; nothing here is secret. Times are in Unix seconds.

    ``last_used_at`` is None if it was never used, or if nobody tells: then ``use_is_known`` is False.
    ``powers`` says in words what it may do beyond what Donjon needs, ``replaceable_by`` which identity
    without a stored secret could stand in its place, or is empty. ``in_use`` is the one that the place on
    this host holds. ``details`` are names and values that only its kind has, to be shown.
    """

    id: str
    kind: str
    owner: str
    created_at: int | None = None
    last_used_at: int | None = None
    use_is_known: bool = True
    expires_at: int | None = None
    active: bool = True
    in_use: bool = False
    stored_in: str = ""
    powers: tuple[str, ...] = ()
    replaceable_by: str = ""
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A credential just made. ``secret`` is what the place on this host keeps, in its form."""

    id: str
    secret: str = field(repr=False)


class Place(Protocol):
    """Where this host keeps the credential that it uses. Replaced whole or not at all, mode 0600."""

    @property
    def path(self) -> str:
        """For messages, and for what is kept beside it while a rotation is under way."""

    def current(self) -> str:
        """The id of the credential that it holds. Raises ``KeyNotAvailable`` if it holds none."""

    def put(self, new: NewSecret) -> None:
        """Hold this one from now on; it is on the disk on return."""


class CredentialService(Protocol):
    """What keeps the credentials of one owner. Its permissions are declared beside each call.

    Every method raises ``PermissionMissing`` if it may not, ``StoreUnavailable`` if the service does not
    answer.
    """

    @property
    def kind(self) -> str:
        """What its credentials are, such as ``aws-access-key``."""

    @property
    def most(self) -> int | None:
        """How many credentials an owner can have at once, None for no limit that matters."""

    @property
    def can_disable(self) -> bool:
        """Whether a credential can be switched off without being deleted."""

    def list(self) -> Sequence[Credential]:
        """All credentials of the owner."""

    def create(self) -> NewSecret:
        """One more."""

    def verify(self, secret: NewSecret) -> None:
        """Use it once, as this host will. Raises ``CredentialsRejected`` while the service does not take
        it."""

    def disable(self, credential_id: str) -> None:
        """Switch it off; done already is done."""

    def delete(self, credential_id: str) -> None:
        """Remove it for ever; gone already is done."""
