"""The part of the fake of managed disks that makes disks to upload to, and grants access to bytes.

Rules: ``AZV`` stands for https://learn.microsoft.com/azure/virtual-machines, ``API`` for the descriptions in
azure-mgmt-compute 39.
"""

from __future__ import annotations

import itertools
import json
from copy import deepcopy
from typing import Any, Final

from donjon.testing.azure.pages import PAGE, Blob, PageBlobs, Refusal
from donjon.testing.front import Answer

_HOST: Final = "https://management.azure.com"
_GIB: Final = 1 << 30
_JSON: Final = {"content-type": "application/json"}
#: API, CreationData.upload_size_bytes
_LEAST, _MOST = 20_972_032, 35_183_298_347_520


class DiskRules:
    """Changes the disks of a fake; their bytes are in ``blobs``."""

    def __init__(
        self, disks: dict[str, dict[str, Any]], snapshots: dict[str, dict[str, Any]], blobs: PageBlobs
    ) -> None:
        self._disks = disks
        self._snapshots = snapshots
        self._blobs = blobs
        self._outcomes: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def make_blob(self, arm: str, size: int) -> None:
        """The bytes of a new disk: its footer alone, whatever that says."""
        pages = {size // PAGE: b"conectix".ljust(PAGE, b"f")}
        self._blobs.blobs[arm.lower()] = Blob(size + PAGE, pages=pages)

    def copy_blob(self, source: str, arm: str, family: str, created: int) -> None:
        """The bytes of a snapshot, as they are now."""
        of = self._blobs.blobs.get(source)
        if of is not None:
            size = self._snapshots[arm.lower()]["properties"]["diskSizeBytes"] + PAGE
            pages = dict(of.pages)
            self._blobs.blobs[arm.lower()] = Blob(size, family, created, pages)

    def make(self, arm: str, name: str, body: dict[str, Any]) -> None:
        """AZV/linux/disks-upload-vhd-to-managed-disk-cli: a disk that is ReadyToUpload."""
        creation = body["properties"]["creationData"]
        size = int(creation.get("uploadSizeBytes", 0))
        if creation.get("createOption") != "Upload" or not _LEAST <= size <= _MOST:
            raise Refusal(400, "InvalidParameter", "uploadSizeBytes is not within its limits.")
        if (size - PAGE) % (1 << 20):
            raise Refusal(400, "InvalidParameter", "A VHD has whole MiB.")
        held = self._disks.get(arm.lower())
        if held is not None:
            if held["tags"] != body.get("tags", {}):
                raise Refusal(409, "PropertyChangeNotAllowed", "creationData cannot be changed.")
            return
        properties = deepcopy(body["properties"]) | {
            "diskSizeGB": -(-(size - PAGE) // _GIB), "diskSizeBytes": size - PAGE,
            "provisioningState": "Succeeded", "diskState": "ReadyToUpload",
        }  # fmt: skip
        self._disks[arm.lower()] = {
            "id": arm, "name": name, "location": body["location"], "tags": dict(body.get("tags", {})),
            "properties": properties,
        }  # fmt: skip
        self._blobs.blobs[arm.lower()] = Blob(size)

    def delete(self, arm: str) -> None:
        """Not while somebody may write to it (AZV: revoke the access first)."""
        if arm.lower() in self._blobs.grants:
            raise Refusal(409, "OperationNotAllowed", "The disk has an active shared access signature.")
        del self._disks[arm.lower()]
        self.forget_blob(arm)

    def forget_blob(self, arm: str) -> None:
        """The bytes go with what they are of, and so does all access."""
        self._blobs.revoke(arm.lower())
        self._blobs.blobs.pop(arm.lower(), None)

    def access(self, arm: str, action: str, body: bytes) -> str:
        """Grant or take back; where the outcome can be asked for."""
        disk = self._disks.get(arm.lower())
        properties = disk["properties"] if disk is not None else {}
        if action.lower() == "endgetaccess":
            self._blobs.revoke(arm.lower())
            if properties.get("diskState") == "ActiveUpload":
                properties["diskState"] = "Unattached"
            return self.location("")
        asked = json.loads(body)
        if asked.get("fileFormat") != "VHD" or not int(asked.get("durationInSeconds", 0)) > 0:
            raise Refusal(400, "InvalidParameter", "This fake has VHD alone.")
        is_write = asked["access"] == "Write"
        state = properties.get("diskState")
        if is_write and state not in {"ReadyToUpload", "ActiveUpload"}:
            raise Refusal(409, "OperationNotAllowed", "The disk was not made to be uploaded to.")
        if disk is not None and not is_write and state != "Unattached":
            raise Refusal(409, "OperationNotAllowed", f"The disk is {state}.")
        url = self._blobs.grant(arm.lower(), asked["access"], int(asked["durationInSeconds"]))
        if is_write:
            properties["diskState"] = "ActiveUpload"
        return self.location(json.dumps({"accessSAS": url}))

    def location(self, outcome: str) -> str:
        """Where the outcome of an operation that goes on can be asked for."""
        path = f"/operations/{next(self._numbers)}"
        self._outcomes[path] = outcome
        return f"{_HOST}{path}?api-version=2026-03-02"

    def outcome(self, path: str) -> Answer:
        """What came of it."""
        if path not in self._outcomes:
            raise Refusal(404, "NotFound", "There is no such operation.")
        return Answer(200, (self._outcomes[path] or "{}").encode(), _JSON)
