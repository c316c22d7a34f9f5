"""A volume as a new managed disk of Azure, uploaded as a fixed VHD.

Rules: https://learn.microsoft.com/azure/virtual-machines/linux/disks-upload-vhd-to-managed-disk-cli
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from donjon.clouds import azure_disk_faults as faults
from donjon.clouds.azure_disk import PARALLEL, Access, AzureDisks, Place
from donjon.clouds.azure_pages import MOST_BYTES, PAGE_BYTES, PageBlob
from donjon.clouds.vhd import FOOTER_BYTES, footer, whole_size
from donjon.core.clock import Clock, system_clock
from donjon.core.errors import DonjonError, Refused, TargetFailed, UsageError
from donjon.core.units import KIB, format_size
from donjon.targets.base import Buffer

#: Marks what a restore made. Its value is made for each, so that a disk of somebody else's is never deleted.
TAG: Final = "donjon-restored"
#: "uploadSizeBytes", description of the API: from 20,972,032 to 35,183,298,347,520, the footer counted.
_LEAST_BYTES: Final = 20_972_032 - FOOTER_BYTES
_MOST_BYTES: Final = 35_183_298_347_520 - FOOTER_BYTES
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_POLLS: Final = 600
_USAGE: Final = "Write azure-disk://SUBSCRIPTION/RESOURCE-GROUP/NAME?region=REGION&sku=Premium_LRS&os=Linux."
_SKUS: Final = {
    "Standard_LRS", "StandardSSD_LRS", "StandardSSD_ZRS", "Premium_LRS", "Premium_ZRS",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AzureDiskAddress:
    """``azure-disk://SUBSCRIPTION/RESOURCE-GROUP/NAME?region=R&sku=S&os=Linux&generation=V2``.

    All behind the region may be left out. ``os`` and ``generation`` are for disks that a machine starts from.
    """

    subscription: str
    group: str
    name: str
    region: str
    sku: str | None = None
    os: str | None = None
    generation: str | None = None

    @classmethod
    def parse(cls, url: str) -> AzureDiskAddress:
        """Raises ``UsageError``."""
        try:
            parts = urlsplit(url)
            asked = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError as error:
            raise UsageError(f"{url}: {error}", hint=_USAGE) from error
        group, _, name = parts.path.strip("/").partition("/")
        is_good = (
            parts.scheme == "azure-disk"
            and bool(parts.netloc and group and _NAME.fullmatch(name) and asked.get("region"))
            and asked.keys() <= {"region", "sku", "os", "generation"}
            and asked.get("sku", "Standard_LRS") in _SKUS
            and asked.get("os", "Linux") in {"Linux", "Windows"}
            and asked.get("generation", "V1") in {"V1", "V2"}
        )
        if not is_good:
            raise UsageError(f"{url}: is no address of a managed disk", hint=_USAGE)
        more = (asked.get("sku"), asked.get("os"), asked.get("generation"))
        return cls(parts.netloc, group, name, asked["region"], *more)

    def body(self, size: int, token: str) -> dict[str, Any]:
        """What Azure is asked for: an empty disk that ``size`` bytes and a footer are uploaded to."""
        creation = {"createOption": "Upload", "uploadSizeBytes": size + FOOTER_BYTES}
        properties: dict[str, Any] = {"creationData": creation}
        if self.os:
            properties["osType"] = self.os
        if self.generation:
            properties["hyperVGeneration"] = self.generation
        body: dict[str, Any] = {"location": self.region, "tags": {TAG: token}, "properties": properties}
        return body | ({"sku": {"name": self.sku}} if self.sku else {})


class AzureDiskTarget:
    """Makes a disk and uploads to it; ``name`` is what it is of. A disk that fails is deleted."""

    unit_bytes = 64 * KIB
    parallel = PARALLEL

    def __init__(
        self, disks: AzureDisks, address: AzureDiskAddress, name: str, clock: Clock = system_clock
    ) -> None:
        self._disks = disks
        self._address = address
        self._name = name
        self._clock = clock
        self._place = Place(address.group, address.name, is_disk=True)
        self._token = secrets.token_hex(16)
        self._size = 0
        self._writing: PageBlob | None = None
        self._reading: PageBlob | None = None
        self._is_ours = False

    def begin(self, size: int) -> None:
        """Make the disk. Raises ``Refused`` if there is one of that name, or the size is none of a disk."""
        self._size = max(whole_size(size), _LEAST_BYTES)
        if self._size > _MOST_BYTES:
            msg = f"{self._name}: has {format_size(size)}, more than can be uploaded to a managed disk"
            raise Refused(msg, hint="Restore it to a device or an image file.")
        if self._look() is not None:
            msg = f"{self._place}: there is such a disk already"
            raise Refused(msg, hint="Give another name; no disk is ever overwritten.")
        self._is_ours = True  # from here on it may be there, also if the answer is lost
        try:
            body = self._address.body(self._size, self._token)
            self._disks.ask(faults.MAKE, self._place, self._place.group, self._place.name, body)
            self._wait({"ReadyToUpload"})
            self._writing = PageBlob(Access(self._disks, self._place, "Write"), self._size)
            self._writing.access.url()
        except BaseException:
            self.abort()
            raise

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write pages; what is zero on a new disk needs no writing."""
        view = memoryview(data)
        for start in range(0, len(view), MOST_BYTES):
            piece = bytes(view[start : start + MOST_BYTES])
            piece += bytes(-len(piece) % PAGE_BYTES)
            if piece.count(0) != len(piece):
                self._open().write(offset + start, piece)

    def clear(self, offset: int, length: int) -> None:
        """What is not written reads as zeros."""

    def finish(self) -> None:
        """Write the footer, end the upload, and see that Azure has a disk. Raises ``TargetFailed``."""
        made = footer(self._size, unique_id=bytes.fromhex(self._token), unix_s=self._clock())
        self._open().write(self._size, made)
        fault = self._open().access.close()
        if fault:
            raise TargetFailed(fault, hint="Restore it again.")
        self._wait({"Unattached"})

    def abort(self) -> None:
        """End the access, and delete the disk if this restore made it."""
        if self._writing is not None:
            self._writing.access.close()
        if not self._is_ours:
            return
        try:
            said = self._look()
            if said is not None and dict(said.get("tags") or {}).get(TAG) == self._token:
                with contextlib.suppress(DonjonError):  # that it cannot be ended may not keep it here
                    self._disks.revoke(self._place)
                names = (self._place.group, self._place.name)
                self._disks.ask(faults.DELETE, self._place, *names, wait=True)
        except DonjonError:
            return  # the error that led here says more; the tag tells what the disk is

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """What was written."""
        data = memoryview(bytearray(length))
        self._made().read_into(offset, data)
        return data

    def is_zero(self, offset: int, length: int) -> bool:
        """Whether no pages, or zeros, are there."""
        for start, count in self._made().ranges(offset, -(-length // PAGE_BYTES) * PAGE_BYTES):
            for at in range(start, start + count, MOST_BYTES):
                data = bytes(self.read_at(at, min(MOST_BYTES, start + count - at)))
                if data.count(0) != len(data):
                    return False
        return True

    def close(self) -> None:
        """End what access there is."""
        for pages in (self._writing, self._reading):
            if pages is not None:
                pages.access.close()

    def made(self) -> tuple[str, list[str]]:
        """The disk, and how to attach it."""
        group, name = self._place.group, self._place.name
        command = f"az vm disk attach --resource-group {group} --vm-name VM --name {name}"
        return f"{self._address.subscription}/{self._place}", [f"attach it with: {command}"]

    def _open(self) -> PageBlob:
        if self._writing is None:
            raise TargetFailed(f"{self._place}: is not being written")
        return self._writing

    def _made(self) -> PageBlob:
        if self._reading is None:
            self._reading = PageBlob(Access(self._disks, self._place), self._size)
        return self._reading

    def _look(self) -> Mapping[str, Any] | None:
        try:
            return self._disks.look(self._place)
        except faults.Missing:
            return None

    def _wait(self, states: set[str]) -> None:
        """Until the disk is in one of these states (``diskState`` in the API)."""
        state = ""
        for _ in range(_POLLS):
            said = self._look() or {}
            properties = said.get("properties", {})
            state = str(properties.get("diskState", ""))
            if properties.get("provisioningState") == "Failed":
                break
            if state in states:
                return
            self._disks.pause()
        msg = f"{self._place}: is {state or 'not there'}, not {' or '.join(sorted(states))}"
        raise TargetFailed(msg, hint="Look at the disk in the portal, and restore it again.")
