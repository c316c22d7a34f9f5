"""Every error that Donjon raises on purpose, under one root.

An error says what happened in its message and what to do next in its hint. The class fixes the exit
code of the command line, the status of the HTTP interface and whether trying again can help, so that
no other place has to know.
"""

from __future__ import annotations


class DonjonError(Exception):
    """Root of all errors raised on purpose.

    ``hint`` is one sentence that tells the reader what to do next, or empty.
    """

    exit_code = 1
    http_status = 500
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Interrupted(KeyboardInterrupt):
    """The user wants to end, and this is a place where nothing is half done.

    Like the interrupt that it stands for it is no ``DonjonError``, so that nobody takes it for the failure
    of one item.
    """


class Ended(DonjonError):
    """The user has interrupted a command, and it ended cleanly."""

    exit_code = 130


class UsageError(DonjonError):
    """The command was called in a way that cannot be carried out."""

    exit_code = 2
    http_status = 400


class Refused(DonjonError):
    """Carrying this out would overwrite or endanger something, so nothing was done."""

    http_status = 409


class VaultNotFound(DonjonError):
    """There is no vault at the address given."""

    exit_code = 10
    http_status = 404


class PointNotFound(DonjonError):
    """No recovery point, or more than one, has the name given."""

    http_status = 404


class PathNotFound(DonjonError):
    """A recovery point holds nothing, or nothing of the kind needed, at the path given."""

    http_status = 404


class PermissionMissing(DonjonError):
    """The store or the operating system refused an action; the message names it."""

    exit_code = 11
    http_status = 403


class CredentialsRejected(PermissionMissing):
    """The store does not take the credentials at all: they are wrong, have ended, or were taken away.

    So it tells nothing about what they may do, and nothing about the object that was asked for.
    """


class NotApproved(DonjonError):
    """Too few approvers allowed this, or what they allowed has expired or was overtaken; nothing was done."""

    exit_code = 11
    http_status = 403


class IntegrityFailure(DonjonError):
    """Stored bytes are not what was put there, or were never valid. The message names the object."""

    exit_code = 12
    http_status = 500


class UnsupportedVersion(IntegrityFailure):
    """An object was written by a newer Donjon than this one, or says so.

    It is an integrity failure of that one object, so that a single planted object does not keep readers
    from all others.
    """

    exit_code = 1
    http_status = 501


class KeyNotAvailable(DonjonError):
    """What has to be opened cannot be opened with the keys at hand."""

    exit_code = 13
    http_status = 403


class KeyServiceUnavailable(KeyNotAvailable):
    """A key service did not answer or asked to slow down; the same call may succeed later."""

    http_status = 503
    retryable = True


class StoreError(DonjonError):
    """The store failed in a way that has no better name."""

    http_status = 502


class StoreUnavailable(StoreError):
    """The store did not answer or asked to slow down; the same call may succeed later."""

    http_status = 503
    retryable = True


class StoreFull(StoreError):
    """There is no room left for the object."""

    http_status = 507


class ObjectNotFound(StoreError):
    """The store has no object of this name (and version)."""

    http_status = 404


class ObjectHidden(ObjectNotFound):
    """A delete marker lies over the object: plain readers miss it, though its bytes are still there."""


class ObjectExists(StoreError):
    """A create-only put found an object of this name; nothing was changed."""

    http_status = 409


class ObjectLocked(StoreError):
    """The object is under a lock that forbids this. ``retain_until`` is in Unix seconds."""

    http_status = 423

    def __init__(self, message: str, *, retain_until: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retain_until = retain_until


class TargetFailed(DonjonError):
    """Where a restore goes to failed as a whole, not for one item. What was restored stays."""


class LocksUnsupported(StoreError):
    """This store cannot hold locks."""

    http_status = 501


class SourceFailed(DonjonError):
    """What is to be backed up cannot be read as a whole: it vanished, hangs, or its provider refuses it.

    No point was committed. ``retryable`` is set on an instance where the next attempt may succeed.
    """

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class SnapshotFailed(SourceFailed):
    """A snapshot was not taken, failed, did not become complete in time, or vanished."""


class CatalogFailed(DonjonError):
    """The catalog cannot be read or written. Nothing of any vault is lost, for the catalog is a cache.

    ``retryable`` is set on an instance where the next attempt may succeed.
    """

    http_status = 503

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
