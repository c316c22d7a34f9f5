"""Managed disks and their snapshots on this machine: a fake of ours, for Azure's own client.

A **fake**. The rules are those of Microsoft's documentation, cited beside each; ``AZV`` stands for
https://learn.microsoft.com/azure/virtual-machines, ``API`` for the descriptions in azure-mgmt-compute 39 (API
2026-03-02). The bytes are in ``azure.pages``. How Azure refuses what touches a locked snapshot is documented
nowhere: it answers 409 here.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final

from donjon.core.clock import SECONDS_PER_DAY, Clock, system_clock
from donjon.testing.azure.disk_rules import DiskRules
from donjon.testing.azure.pages import PageBlobs, Refusal
from donjon.testing.front import Answer, Front, HangUp, Request, Upstream, serving

_PATH: Final = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.Compute/(disks|snapshots)"
    r"(?:/([^/]+)(?:/(\w+))?)?",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_JSON: Final = {"content-type": "application/json"}
_HOST: Final = "https://management.azure.com"
_TOKEN: Final = "a-token-of-a-test"  # noqa: S105 - of a server that lives as long as a test
_FAMILY: Final = "incrementalSnapshotFamilyId"
_WINDOW_S: Final = 300
_PER_WINDOW: Final = 7
_PER_DISK: Final = 500


class AzureSnapshotsFront(Front):
    """Disks and snapshots by the lower-case form of their ids.

    ``holds`` lets new snapshots stay at 10 %, as those of Premium SSD v2 and copies do for a while.
    """

    def __init__(self, clock: Clock = system_clock) -> None:
        super().__init__(Upstream(0), clock)  # there is nothing behind it
        self.disks: dict[str, dict[str, Any]] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.holds = False
        self.throttled = 0
        self.loses_next_put = False
        self.blobs = PageBlobs(self._now)
        self.rules = DiskRules(self.disks, self.snapshots, self.blobs)

    def _now(self) -> int:
        return self.clock()  # which tests change

    def make_disk(
        self, subscription: str, group: str, name: str, location: str, tags: Mapping[str, str] | None = None
    ) -> str:
        """A disk of 4 GiB; its id. Its bytes are those of ``blobs``."""
        arm = _id(subscription, group, "disks", name)
        self.disks[arm.lower()] = {
            "id": arm, "name": name, "location": location, "tags": dict(tags or {}),
            "properties": {
                "diskSizeGB": 4, "diskSizeBytes": 4 << 30, "provisioningState": "Succeeded",
                "diskState": "Attached",
            },
        }  # fmt: skip
        self.rules.make_blob(arm, 4 << 30)
        return arm

    def handle(self, request: Request) -> Answer:
        """Judge and carry out one request."""
        if self.blobs.serves(request.path):
            with self.mutex:
                return self.blobs.handle(request)
        if request.headers.get("authorization") != f"Bearer {_TOKEN}":
            return _error(401, "AuthenticationFailed", "Authentication failed.")
        try:
            if self.throttled > 0:  # AZV/../azure-resource-manager/management/request-limits-and-throttling
                self.throttled -= 1
                raise Refusal(429, "TooManyRequests", "The request is being throttled.")
            if request.path.startswith("/operations/"):
                return self.rules.outcome(request.path)
            call = _PATH.fullmatch(request.path)
            if call is None or "api-version" not in request.query:
                raise Refusal(400, "InvalidRequestUri", "no such method")
            return self._carry_out(request, call)
        except Refusal as refusal:
            return _error(refusal.status, refusal.code, str(refusal))

    def _carry_out(self, request: Request, call: re.Match[str]) -> Answer:
        subscription, group, kind, name, action = call.groups()
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}.get(request.method, f"{action}/action")
        self._allow(f"Microsoft.Compute/{kind}/{verb}", subscription, group)
        held = self.disks if kind.lower() == "disks" else self.snapshots
        if name is None:
            start = f"{_id(subscription, group, kind, '')}".lower()
            found = [self._shown(one) for arm, one in sorted(held.items()) if arm.startswith(start)]
            return Answer(200, json.dumps({"value": found}).encode(), _JSON)
        arm = _id(subscription, group, kind, name)
        if request.method == "PUT":
            return self._make(arm, name, subscription, json.loads(request.body))
        one = held.get(arm.lower())
        if one is None and request.method != "DELETE":
            raise Refusal(404, "ResourceNotFound", f"The Resource '{arm}' was not found.")
        if one is None:
            return Answer(204)
        return self._change(request, arm, one, action or "")

    def _make(self, arm: str, name: str, subscription: str, body: dict[str, Any]) -> Answer:
        if "/snapshots/" in arm.lower():
            made = self._put(arm, name, subscription, body)
        else:
            self.rules.make(arm, name, body)
            made = self._shown(self.disks[arm.lower()])
        if self.loses_next_put:
            self.loses_next_put = False
            raise HangUp
        return Answer(202, json.dumps(made).encode(), _JSON | {"Location": f"{_HOST}/done"})

    def _change(self, request: Request, arm: str, one: dict[str, Any], action: str) -> Answer:
        if request.method == "DELETE":
            if "/disks/" in arm.lower():
                self.rules.delete(arm)
            else:
                self._delete(arm, one)
            return Answer(202, b"", {"Location": self.rules.location("")})
        if action.lower() in {"begingetaccess", "endgetaccess"}:
            return Answer(202, b"", {"Location": self.rules.access(arm, action, request.body)})
        if action:
            self._protect(one, action, json.loads(request.body))
        return Answer(200, json.dumps(self._shown(one)).encode(), _JSON)

    def _allow(self, permission: str, subscription: str, group: str) -> None:
        if permission.lower() in {one.lower() for one in self.denied}:
            scope = f"/subscriptions/{subscription}/resourceGroups/{group}"
            message = (
                f"The client 'c' with object id 'o' does not have authorization to perform action "
                f"'{permission}' over scope '{scope}' or the scope is invalid."
            )
            raise Refusal(403, "AuthorizationFailed", message)

    def _put(self, arm: str, name: str, subscription: str, body: dict[str, Any]) -> dict[str, Any]:
        if not _NAME.fullmatch(name):  # API: "Supported characters for the name", 80 at most
            raise Refusal(400, "InvalidParameter", "The name is not valid.")
        if len(body.get("tags", {})) > 50 or any(len(value) > 256 for value in body["tags"].values()):
            raise Refusal(400, "InvalidTags", "50 tags with values of 256 characters at most.")
        if arm.lower() in self.snapshots:
            raise Refusal(409, "PropertyChangeNotAllowed", "creationData cannot be changed.")
        properties = deepcopy(body["properties"])
        creation = properties["creationData"]
        if properties.get("incremental") is not True:
            raise Refusal(400, "InvalidParameter", "This fake has incremental snapshots alone.")
        source_id = creation["sourceResourceId"].lower()
        option = creation["createOption"]
        source = (self.disks if "/disks/" in source_id else self.snapshots).get(source_id)
        if source is None:
            raise Refusal(404, "ResourceNotFound", f"The source '{source_id}' was not found.")
        if source in self.disks.values():
            self._judge_snapshot(source_id, source, subscription, body, option)
        else:
            self._judge_copy(source, body, option)
        waits = self.holds or option == "CopyStart"
        made = {
            "id": arm, "name": name, "location": body["location"], "tags": dict(body["tags"]),
            "properties": properties | {
                "provisioningState": "Succeeded", "timeCreated": _time(self.clock()),
                "diskSizeGB": source["properties"]["diskSizeGB"],
                "diskSizeBytes": source["properties"]["diskSizeBytes"],
                "completionPercent": 10.0 if waits else 100.0,
                _FAMILY: source["properties"].get(_FAMILY, source_id),
            },
            "fake": {"source": source_id},
        }  # fmt: skip
        self.snapshots[arm.lower()] = made
        self.rules.copy_blob(source_id, arm, made["properties"][_FAMILY], self.clock())
        return self._shown(made)

    def _judge_snapshot(
        self, disk_id: str, disk: Mapping[str, Any], subscription: str, body: Mapping[str, Any], option: str
    ) -> None:
        """AZV/disks-incremental-snapshots, restrictions."""
        if option != "Copy" or disk_id.split("/")[2] != subscription.lower():
            raise Refusal(400, "InvalidParameter", "A disk and its snapshots are in one subscription.")
        if disk["location"] != body["location"]:
            raise Refusal(400, "InvalidParameter", "A disk and its snapshots are in one region.")
        times = [_unix(one) for one in self.snapshots.values() if one["fake"]["source"] == disk_id]
        if (
            len(times) >= _PER_DISK
            or len([at for at in times if at > self.clock() - _WINDOW_S]) >= _PER_WINDOW
        ):
            raise Refusal(409, "OperationNotAllowed", "7 in 5 minutes, 500 in all for each disk.")

    def _judge_copy(self, source: Mapping[str, Any], body: Mapping[str, Any], option: str) -> None:
        """AZV/disks-copy-incremental-snapshot-across-regions: CopyStart between regions; a source that is
        complete; of each disk in order of creation, one at a time.
        """
        far = source["location"] != body["location"]
        if far != (option == "CopyStart"):
            raise Refusal(400, "InvalidParameter", f"createOption {option} does not fit the regions.")
        if source["properties"]["completionPercent"] < 100:
            raise Refusal(409, "OperationNotAllowed", "The source is not complete.")
        family = source["properties"][_FAMILY]
        there = [
            one for one in self.snapshots.values()
            if one["location"] == body["location"] and one["fake"]["source"] in self.snapshots
            and one["properties"][_FAMILY] == family
        ]  # fmt: skip
        for one in there:
            if one["properties"]["completionPercent"] < 100:
                raise Refusal(409, "OperationNotAllowed", "Another copy of this disk is under way.")
            if _unix(self.snapshots[one["fake"]["source"]]) > _unix(source):
                raise Refusal(409, "OperationNotAllowed", "A later snapshot of this disk was copied.")

    def _delete(self, arm: str, one: Mapping[str, Any]) -> None:
        policy = one["properties"].get("immutabilityPolicy")
        if policy and not self._ended(policy):
            message = "The snapshot is protected by an immutability policy."
            raise Refusal(409, "OperationNotAllowed", message)
        del self.snapshots[arm.lower()]
        self.rules.forget_blob(arm)
        for copy in self.snapshots.values():  # keep the source until a copy is at 100 %
            if copy["fake"]["source"] == arm.lower() and copy["properties"]["completionPercent"] < 100:
                failure = {"errorCode": "CopySourceNotFound", "errorMessage": "The source was deleted."}
                copy["properties"]["copyCompletionError"] = failure

    def _protect(self, one: dict[str, Any], action: str, body: Mapping[str, Any]) -> None:
        """API: updateImmutabilityPolicy sets or extends an unlocked policy, and is rejected for a locked one;
        updateImmutabilityPolicyLock locks, reduces, removes; once locked, only longer.
        """
        held = one["properties"].get("immutabilityPolicy")
        held = None if held and self._ended(held) else held
        days, kind = int(body["immutabilityDurationDays"]), body["type"]
        locked = held is not None and held["type"] == "Locked"
        if action == "updateImmutabilityPolicy":
            if locked or kind != "Unlocked" or (held and days < held["immutabilityDurationDays"]):
                raise Refusal(409, "OperationNotAllowed", "The immutability policy is locked.")
        elif action != "updateImmutabilityPolicyLock" or held is None:
            raise Refusal(400, "InvalidParameter", "There is no immutability policy to lock.")
        elif locked and (kind != "Locked" or days < held["immutabilityDurationDays"]):
            raise Refusal(409, "OperationNotAllowed", "A locked immutability policy can only be extended.")
        start = _parse(held["policyStartTime"]) if held else self.clock()
        one["properties"]["immutabilityPolicy"] = {
            "immutabilityDurationDays": days, "type": kind, "policyStartTime": _time(start),
            "policyExpirationTime": _time(start + days * SECONDS_PER_DAY),
        }  # fmt: skip

    def _ended(self, policy: Mapping[str, Any]) -> bool:
        return _parse(policy["policyExpirationTime"]) <= self.clock()

    def _shown(self, one: dict[str, Any]) -> dict[str, Any]:
        """An answer; what is under way moves on with every look, unless it is held."""
        shown = {key: deepcopy(value) for key, value in one.items() if key != "fake"}
        policy = shown["properties"].get("immutabilityPolicy")
        if policy:
            policy["isPolicyExpired"] = self._ended(policy)
        if "fake" in one and not self.holds and "copyCompletionError" not in one["properties"]:
            percent = one["properties"]["completionPercent"]
            one["properties"]["completionPercent"] = min(100.0, percent + 15.0)
        return shown


def _id(subscription: str, group: str, kind: str, name: str) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/{kind}/{name}"


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, json.dumps({"error": {"code": code, "message": message}}).encode(), _JSON)


def _time(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.0000000+00:00")


def _parse(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _unix(one: Mapping[str, Any]) -> int:
    return _parse(one["properties"]["timeCreated"])


@contextlib.contextmanager
def azure_snapshots(clock: Clock = system_clock) -> Iterator[tuple[AzureSnapshotsFront, Any]]:
    """A fake, and what makes Azure's client of it for a subscription, until the body ends.

    The client speaks to the name that Azure has, and its requests are led here.
    """
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import RequestsTransport
    from azure.mgmt.compute import ComputeManagementClient

    class Led(RequestsTransport):  # type: ignore[misc]  # Azure's own is loaded lazily, without its type
        def send(self, request: Any, **options: Any) -> Any:
            url = request.url
            request.url = url.replace(_HOST, address)
            try:
                return super().send(request, **options)
            finally:
                request.url = url

    class Credential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken(_TOKEN, 1 << 40)

    def client(subscription: str) -> Any:
        return ComputeManagementClient(Credential(), subscription, retry_total=0, transport=Led())

    front = AzureSnapshotsFront(clock)
    with serving(front) as address:
        front.blobs.address = address
        yield front, client
