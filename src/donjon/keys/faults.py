"""What key services refuse, in our words: the same for every service."""

from __future__ import annotations

from donjon.core.errors import KeyNotAvailable, KeyServiceUnavailable, PermissionMissing
from donjon.core.operations import Operation

_KIT = "the recovery kit opens all the same."


def not_its_own(key: str) -> KeyNotAvailable:
    """The one error for a seal that was changed, or made for another key, vault or session."""
    return KeyNotAvailable(
        f"{key}: the seal does not open: it was changed, or made for another key, vault or session",
        hint="Use the key that it was sealed to; `donjon keys check` shows which keys open what.",
    )


def denied(key: str, operation: Operation, where: str) -> PermissionMissing:
    """The error for a permission that is missing; ``where`` says in which place it has to be allowed."""
    permissions = " and ".join(operation.permissions)
    return PermissionMissing(
        f"{key}: cannot {operation.action} this key: no permission {permissions}",
        hint=f"Allow {permissions} for this credential {where}.",
    )


def disabled(key: str, mend: str) -> KeyNotAvailable:
    """The error for a key that is switched off; ``mend`` switches it on again."""
    return KeyNotAvailable(
        f"{key}: the key is disabled", hint=f"Run: {mend}. Find out who disabled it; {_KIT}"
    )


def pending_deletion(key: str, mend: str) -> KeyNotAvailable:
    """The error for a key that is about to be deleted, or deleted and still to be had back."""
    return KeyNotAvailable(
        f"{key}: the key is pending deletion", hint=f"Run: {mend}. Find out who scheduled it; {_KIT}"
    )


def not_there(key: str, look: str) -> KeyNotAvailable:
    """The error for a key that does not exist where it is said to be; ``look`` says what may be wrong."""
    return KeyNotAvailable(
        f"{key}: there is no such key",
        hint=f"{look} A key that was deleted never comes back; {_KIT}",
    )


def unavailable(reason: str, look: str = "") -> KeyServiceUnavailable:
    """The error for a service that did not answer, or asked to slow down."""
    return KeyServiceUnavailable(reason, hint=f"{look or 'Try again in a while'}; {_KIT}")
