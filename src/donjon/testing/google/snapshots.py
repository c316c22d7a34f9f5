"""Disks and snapshots of Compute Engine on this machine: a fake of ours, for Google's own client.

A **fake**. The rules are those of Google's documentation, cited beside each; ``GC`` stands for
https://docs.cloud.google.com/compute/docs, ``API`` for the descriptions in google-cloud-compute. Data is held
by ``donjon.testing.google.machine`` alone.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final

from donjon.core.clock import Clock, system_clock
from donjon.snapshots.gce_calls import Clients
from donjon.testing.front import Answer, Front, HangUp, Request, Upstream, serving

_PATH: Final = re.compile(
    r"/compute/v1/projects/([^/]+)/(?:global|zones/([^/]+))/(disks|snapshots|instances|operations)"
    r"(?:/([^/]+)(?:/(\w+))?)?"
)
#: API: "must comply with RFC1035".
_NAME: Final = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
#: GC/labeling-resources.
_LABEL_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL: Final = re.compile(r"[a-z0-9_-]{0,63}")
_MAX_LABELS: Final = 64
_CONDITION: Final = re.compile(r"labels\.([a-z0-9_-]+)(?:=([a-z0-9_-]*)|(:\*))")
_JSON: Final = {"content-type": "application/json"}
_HOUR_S: Final = 3600
_PER_HOUR: Final = 6


class _Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class GceSnapshotsFront(Front):
    """Disks by zone and name, snapshots by name, of one project. ``holds`` lets new ones stay uploading.

    With ``keeps_deleted`` an order to delete one is taken, and its work fails.
    """

    def __init__(self, project: str, clock: Clock = system_clock) -> None:
        super().__init__(Upstream(0), clock)  # there is nothing behind it
        self.project = project
        self.disks: dict[tuple[str, str], dict[str, Any]] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.holds = False
        self.throttled = 0
        self.loses_next_insert = False
        self.keeps_deleted = False
        self._orders: dict[str, str] = {}
        self._taken: list[tuple[str, int]] = []

    def make_disk(self, zone: str, name: str, labels: Mapping[str, str] | None = None) -> None:
        """A disk of 4 GiB."""
        self.disks[zone, name] = {
            "name": name, "zone": zone, "sizeGb": "4", "labels": dict(labels or {}), "status": "READY",
        }  # fmt: skip

    def handle(self, request: Request) -> Answer:
        """Judge and carry out one request."""
        try:
            if self.throttled > 0:  # GC/api/best-practices: 403 with this reason, or 429
                self.throttled -= 1
                raise _Refusal(403, "rateLimitExceeded", "Rate Limit Exceeded")
            call = _PATH.fullmatch(request.path)
            if call is None or call[1] != self.project:
                raise _Refusal(404, "notFound", f"The resource '{request.path}' was not found")
            return self._carry_out(request, *call.groups()[1:])
        except _Refusal as refusal:
            error = {
                "code": refusal.status, "message": str(refusal),
                "errors": [{"message": str(refusal), "domain": "global", "reason": refusal.reason}],
            }  # fmt: skip
            return Answer(refusal.status, json.dumps({"error": error}).encode(), _JSON)

    def _carry_out(
        self, request: Request, zone: str | None, kind: str, name: str | None, action: str | None
    ) -> Answer:
        body = json.loads(request.body) if request.body else {}
        method = (
            f"{request.method} {kind}" + ("" if name is None else "/NAME") + (f"/{action}" if action else "")
        )
        calls = self.zone_calls(str(zone), str(name), body, request) | {
            "GET disks": ("compute.disks.list", lambda: self._listed(self.disks, request)),
            "GET disks/NAME": ("compute.disks.get", lambda: self.disk(str(zone), str(name))),
            "GET snapshots": ("compute.snapshots.list", lambda: self._listed(self.snapshots, request)),
            "GET snapshots/NAME": ("compute.snapshots.get", lambda: self._shown(str(name))),
            "POST snapshots": ("compute.snapshots.create", lambda: self._insert(body, request)),
            "DELETE snapshots/NAME": ("compute.snapshots.delete", lambda: self._delete(str(name))),
            "GET snapshots/NAME/getIamPolicy": (
                "compute.snapshots.getIamPolicy", lambda: self._policy(str(name)),
            ),
            "POST snapshots/NAME/setIamPolicy": (
                "compute.snapshots.setIamPolicy", lambda: self._set_policy(str(name), body),
            ),
            "GET operations/NAME": (
                f"compute.{'zone' if zone else 'global'}Operations.get", lambda: self._operation(str(name)),
            ),
        }  # fmt: skip
        if method not in calls:
            raise _Refusal(404, "notFound", "no such method")
        permission, carry_out = calls[method]
        self._allow(permission, request.path)
        answer = carry_out()
        if method == "POST snapshots" and self.loses_next_insert:
            self.loses_next_insert = False
            raise HangUp
        return Answer(200, json.dumps(answer).encode(), _JSON)

    def zone_calls(
        self, zone: str, name: str, body: dict[str, Any], request: Request
    ) -> dict[str, tuple[str, Callable[[], dict[str, Any]]]]:
        """Further calls: the permission of each, and what carries it out. For fakes that know more."""
        del zone, name, body, request
        return {}

    def order(self, failure: str = "") -> dict[str, Any]:
        """A new operation, which is done when it is looked at; it has failed if ``failure`` is a code."""
        name = f"operation-{len(self.operations)}"
        self.operations[name] = {"name": name, "status": "RUNNING", "failure": failure}
        return {"name": name, "status": "RUNNING"}

    @staticmethod
    def refusal(status: int, reason: str, message: str) -> Exception:
        """What is raised to be answered."""
        return _Refusal(status, reason, message)

    def _operation(self, name: str) -> dict[str, Any]:
        one = self.operations[name]
        error = {"errors": [{"code": one["failure"], "message": "It cannot be done."}]}
        return {"name": name, "status": "DONE", **({"error": error} if one["failure"] else {})}

    def _allow(self, permission: str, path: str) -> None:
        """GC/troubleshooting/troubleshooting-api-errors: the missing permission is named."""
        if permission in self.denied:
            place = path.removeprefix("/compute/v1/")
            raise _Refusal(403, "forbidden", f"Required '{permission}' permission for '{place}'")

    def _listed(self, held: Mapping[Any, dict[str, Any]], request: Request) -> dict[str, Any]:
        """API: a filter; this fake knows those of labels."""
        wanted = []
        for condition in filter(None, request.query.get("filter", "").split(" AND ")):
            found = _CONDITION.fullmatch(condition)
            if found is None:
                raise _Refusal(400, "invalid", f"Invalid value for field 'filter': '{condition}'")
            wanted.append((found[1], found[2]))
        items = [
            deepcopy(one) for one in held.values()
            if all(one["labels"].get(k) == v if v is not None else k in one["labels"] for k, v in wanted)
        ]  # fmt: skip
        return {"items": items}

    def disk(self, zone: str, name: str) -> dict[str, Any]:
        """A disk. Raises what is answered if there is none."""
        if (zone, name) not in self.disks:
            raise _Refusal(404, "notFound", f"The resource 'disks/{name}' was not found")
        return self.disks[zone, name]

    def _shown(self, name: str) -> dict[str, Any]:
        """A snapshot; what is under way moves on with every look, unless it is held."""
        one = self.snapshots.get(name)
        if one is None:
            raise _Refusal(404, "notFound", f"The resource 'snapshots/{name}' was not found")
        shown = deepcopy(one)
        if one["status"] in {"CREATING", "UPLOADING"} and not self.holds:
            one["status"] = "UPLOADING" if one["status"] == "CREATING" else "READY"
        return shown

    def _insert(self, body: dict[str, Any], request: Request) -> dict[str, Any]:
        order = request.query.get("requestId", "")
        if order in self._orders:  # API: requestId, "the server will know to ignore the request"
            return {"name": self._orders[order], "status": "RUNNING"}
        name, labels = body["name"], body.get("labels", {})
        if not _NAME.fullmatch(name):
            raise _Refusal(400, "invalid", "Invalid value for field 'resource.name'")
        if len(labels) > _MAX_LABELS or not all(
            _LABEL_NAME.fullmatch(key) and _LABEL.fullmatch(value) for key, value in labels.items()
        ):
            raise _Refusal(400, "invalid", "Invalid value for field 'resource.labels'")
        if name in self.snapshots:
            raise _Refusal(409, "alreadyExists", f"The resource 'snapshots/{name}' already exists")
        self._allow("compute.disks.createSnapshot", body["sourceDisk"])
        self._allow("compute.snapshots.setLabels", f"snapshots/{name}")
        disk = self.disk(body["sourceDisk"].split("/")[-3], body["sourceDisk"].rpartition("/")[2])
        now = self.clock()
        key = f"{disk['zone']}/{disk['name']}"
        # GC/disks/snapshots: 6 in 60 minutes for each disk; the order is taken, and its work fails.
        often = len([1 for one, at in self._taken if one == key and at > now - _HOUR_S]) >= _PER_HOUR
        operation = self.order("RESOURCE_OPERATION_RATE_EXCEEDED" if often else "")
        self._orders[order] = operation["name"]
        if not often:
            self._taken.append((key, now))
            self.snapshots[name] = {
                "name": name, "labels": labels, "status": "CREATING", "diskSizeGb": disk["sizeGb"],
                "sourceDisk": body["sourceDisk"], "storageLocations": body.get("storageLocations", ["eu"]),
                "creationTimestamp": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
            }  # fmt: skip
        return operation

    def _delete(self, name: str) -> dict[str, Any]:
        self._shown(name)
        if self.keeps_deleted:
            return self.order("RESOURCE_NOT_READY")
        del self.snapshots[name]
        return self.order()

    def _policy(self, name: str) -> dict[str, Any]:
        self._shown(name)
        return self.policies.setdefault(name, {"bindings": [], "etag": "AAAA", "version": 1})

    def _set_policy(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """GC/access/granting-access-to-resources: with the etag that was read, so that no change is lost."""
        held = self._policy(name)
        policy = body["policy"]
        if policy.get("etag") != held["etag"]:
            raise _Refusal(412, "conditionNotMet", "The etag does not fit.")
        number = int(held["etag"].encode().hex(), 16) + 1
        self.policies[name] = {
            **policy,
            "etag": bytes.fromhex(f"{number:08x}").decode("latin-1"),
            "version": 1,
        }
        return self.policies[name]


@contextlib.contextmanager
def gce_snapshots(project: str, clock: Clock = system_clock) -> Iterator[tuple[GceSnapshotsFront, Clients]]:
    """A fake, and Google's clients of it, until the body ends."""
    front = GceSnapshotsFront(project, clock)
    with serving(front) as address:
        yield front, gce_clients(address)


def gce_clients(address: str) -> Clients:
    """Google's clients of a fake at an address."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import compute_v1

    def led(client: Any) -> Any:
        host, transport = address.removeprefix("http://"), client.get_transport_class("rest")
        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]  # Google's own
        return client(transport=transport(host=host, url_scheme="http", credentials=anonymous))

    return Clients(
        *(
            led(client)
            for client in (
                compute_v1.SnapshotsClient,
                compute_v1.DisksClient,
                compute_v1.GlobalOperationsClient,
                compute_v1.InstancesClient,
                compute_v1.ZoneOperationsClient,
            )
        )
    )
