"""Access to the bytes of managed disks of Azure and of their snapshots.

Azure grants it as a page blob with a signature (SAS) that ends by itself; it is taken back as soon as it is
not needed. Rules: https://learn.microsoft.com/azure/virtual-machines/disks-incremental-snapshots and
https://learn.microsoft.com/azure/virtual-machines/linux/disks-upload-vhd-to-managed-disk-cli
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from donjon.clouds import azure_disk_faults as faults
from donjon.core.errors import DonjonError
from donjon.core.operations import Operation
from donjon.core.pace import Pace

T = TypeVar("T")

#: As many requests at once as the SDK keeps connections: 1.4 Gbit/s at 60 ms for 1 MiB.
PARALLEL: Final = 10
#: How long access is granted for. A signature that was lost, or that a killed run left, ends after this.
_GRANT_S: Final = 4 * 3600
#: How often one request may find its signature refused, and get a new one.
_RENEWALS: Final = 2
_OPTIONS: Final[dict[str, Any]] = {"retry_total": 0, "connection_timeout": 20, "read_timeout": 60}


@dataclass(frozen=True, slots=True)
class Place:
    """A disk or snapshot. ``is_disk`` tells which."""

    group: str
    name: str
    is_disk: bool

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"


class AzureDisks:
    """The disks and snapshots of a subscription. ``client`` is a ``ComputeManagementClient``.

    ``poll_s`` is how often Azure is asked whether it has granted access. Safe to share between threads.
    """

    def __init__(
        self,
        client: Any,
        pace: Pace | None = None,
        *,
        poll_s: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self.pace: Final = pace or Pace()
        self.poll_s: Final = poll_s
        self._sleep = sleep

    def look(self, place: Place) -> Mapping[str, Any]:
        """What Azure says of it. Raises ``Missing`` and ``PermissionMissing``."""
        operation = faults.DISK if place.is_disk else faults.SNAPSHOT
        said: Mapping[str, Any] = self.ask(operation, place, place.group, place.name).as_dict()
        return said

    def grant(self, place: Place, access: str) -> str:
        """A URL with a signature that may ``Read`` or ``Write`` the disk or snapshot."""
        operation = faults.GRANT_DISK if place.is_disk else faults.GRANT_SNAPSHOT
        body = {"access": access, "durationInSeconds": _GRANT_S, "fileFormat": "VHD"}
        names = (place.group, place.name)
        said = self.ask(operation, place, *names, body, wait=True)
        if not getattr(said, "access_sas", None):
            raise faults.failed(operation, str(place), "Azure gave no address to read from", retryable=True)
        return str(said.access_sas)

    def revoke(self, place: Place) -> None:
        """Let nobody read or write it any more who was granted it. Raises what ``look`` does."""
        operation = faults.REVOKE_DISK if place.is_disk else faults.REVOKE_SNAPSHOT
        self.ask(operation, place, place.group, place.name, wait=True)

    def pause(self) -> None:
        """Wait until it is worth looking again."""
        self._sleep(self.poll_s)

    def ask(self, operation: Operation, place: Place, *values: Any, wait: bool = False) -> Any:
        """Carry out an operation of Azure's compute service, tried again where that can help.

        ``wait`` until Azure has done it, and give what came of it.
        """
        of = self._client.disks if place.is_disk else self._client.snapshots
        options = {"polling_interval": self.poll_s} if wait else {"polling": False}
        if operation.method == "get":
            options = {}

        def once() -> Any:
            try:
                answer = getattr(of, operation.method)(*values, **options)
                return answer.result() if wait else answer
            except Exception as error:
                raise faults.translated(error, operation, str(place)) from error

        return self.pace.carry_out(once)


class _SignatureRefused(Exception):
    """A signature has ended or was taken back."""

    def __init__(self, error: Exception) -> None:
        super().__init__("the signature was refused")
        self.error = error


class Access:
    """Access to one disk or snapshot, granted when it is first needed. Safe to share between threads."""

    def __init__(self, disks: AzureDisks, place: Place, access: str = "Read") -> None:
        self._disks = disks
        self.place: Final = place
        self._access = access
        self._lock = threading.Lock()
        self._url = ""
        self._client: Any = None
        self._retired: list[Any] = []

    def use(self, operation: Operation, work: Callable[[Any], T]) -> T:
        """What ``work`` makes of a ``BlobClient``. If the signature has ended, there is a new one."""

        for left in range(_RENEWALS, -1, -1):
            client = self._granted()
            try:
                return self._disks.pace.carry_out(lambda: self._once(operation, work, client))  # noqa: B023
            except _SignatureRefused as refused:
                if not left:
                    raise faults.translated(refused.error, operation, str(self.place)) from refused.error
            self._renew(client)
        raise AssertionError("unreachable")

    def _once(self, operation: Operation, work: Callable[[Any], T], client: Any) -> T:
        try:
            return work(client)
        except DonjonError:
            raise
        except Exception as error:
            if faults.is_signature_refused(error):
                raise _SignatureRefused(error) from error
            raise faults.translated(error, operation, str(self.place)) from error

    def url(self) -> str:
        """The address with its signature: a secret."""
        self._granted()
        return self._url

    def renew(self, url: str) -> None:
        """Get a new signature in place of the one of ``url``, unless that was done meanwhile."""
        if url == self._url:
            self._renew(self._client)

    def close(self) -> str:
        """Take the access back; what went wrong, or nothing. Harmless more than once."""
        with self._lock:
            if self._client is None:
                return ""
            self._forget()
            while self._retired:
                self._retired.pop().close()
            try:
                self._disks.revoke(self.place)
            except DonjonError as error:
                return f"{error.message}; it ends by itself within {_GRANT_S // 3600} hours"
            return ""

    def _granted(self) -> Any:
        from azure.storage.blob import BlobClient

        with self._lock:
            if self._client is None:
                try:
                    self._url = self._disks.grant(self.place, self._access)
                except BaseException:
                    self._revoke_quietly()  # it may have been granted, and the answer lost
                    raise
                self._client = BlobClient.from_blob_url(self._url, **_OPTIONS)
            return self._client

    def _renew(self, refused: Any) -> None:
        with self._lock:
            if self._client is refused and refused is not None:
                self._forget()
                self._revoke_quietly()  # or Azure may give the same one again

    def _revoke_quietly(self) -> None:
        if self._access != "Read":
            return  # an upload would be over
        try:
            self._disks.revoke(self.place)
        except DonjonError:
            return

    def _forget(self) -> None:
        self._retired.append(self._client)  # other threads may be in the middle of a request
        self._client, self._url = None, ""
