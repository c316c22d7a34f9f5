"""A fake of the EBS direct APIs, with EC2 of moto behind it if there is one.

moto has operations of the same names, whose listings have no pages, whose ListChangedBlocks leaves out blocks
that are new, which take any token and any checksum, and where snapshots that EC2 makes have no blocks. So all
of that is here, by the documented rules, and moto has the volumes and snapshots as EC2 shows them. It is a
**fake**: it proves nothing about EBS itself. Rules are cited from

- [U] https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html and the pages below it
- [A] https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from donjon.core.clock import Clock
from donjon.testing.front import Answer, Front, Request, Upstream

BLOCK_BYTES = 524_288
_PAGE_TOKEN_S = 3600  # [U] "NextToken ... expires 60 minutes after" it was given
_BLOCK_TOKEN_S = 7 * 86_400  # [U] block tokens are valid for 7 days
_MAX_GIB = 65_536  # [A] StartSnapshot, VolumeSize
_Rows = list[dict[str, object]]
_SNAPSHOT = re.compile(r"/snapshots/(?P<id>[^/]+)/(?P<what>blocks|changedblocks)(?:/(?P<index>\d+))?")
_MADE = re.compile(rb"<(?:\w+:)?(snapshotId|volumeId)>([^<]+)</")


@dataclass
class FakeSnapshot:
    """A snapshot with its blocks. Those of one ``lineage`` can be compared."""

    snapshot_id: str
    lineage: str
    size_gib: int
    blocks: Mapping[int, bytes]
    state: str = "completed"
    encrypted: bool = False
    written: dict[int, bytes] = field(default_factory=dict)
    asked: str = ""
    tags: list[dict[str, str]] = field(default_factory=list)
    checksums: dict[int, str] = field(default_factory=dict)

    def look(self, index: int) -> str | bytes | None:
        """Equal for equal blocks of two snapshots that are treated alike."""
        return self.checksums.get(index) or self.blocks.get(index)


class Fault(Exception):
    """What the service refuses. See the errors of each operation in [A]."""

    def __init__(self, status: int, code: str, reason: str = "", message: str = "") -> None:
        super().__init__(code)
        body = {"message": message or reason or code, "Message": message or reason or code}
        if reason:
            body["Reason"] = reason
        self.answer = Answer(
            status,
            json.dumps(body).encode(),
            {"x-amzn-ErrorType": code, "Content-Type": "application/x-amz-json-1.1"},
        )


class EbsFront(Front):
    """Snapshots by id. Tests change what is below, and ``trouble`` and ``next_answers`` of every front.

    ``volumes`` are the blocks of the volumes that EC2 knows; EC2 takes snapshots of them.
    ``page_blocks`` is the longest page, ``empty_pages`` makes every other page empty. ``denied`` has
    operations (``GetSnapshotBlock``), ``key_denied`` those for which KMS says no.
    """

    def __init__(self, clock: Clock, upstream: Upstream | None = None, account: str = "123456789012") -> None:
        super().__init__(upstream or Upstream(9), clock)
        self.has_ec2 = upstream is not None
        self.account = account
        self.snapshots: dict[str, FakeSnapshot] = {}
        self.volumes: dict[str, dict[int, bytes]] = {}
        self.page_blocks = 10_000
        self.empty_pages = False
        self.key_denied: set[str] = set()
        self.counts: dict[str, int] = {}
        self._numbers = itertools.count(1)

    def add(self, snapshot_id: str, blocks: Mapping[int, bytes], size_gib: int, lineage: str) -> None:
        """A complete snapshot, as if a volume had had it."""
        self.snapshots[snapshot_id] = FakeSnapshot(snapshot_id, lineage, size_gib, blocks)

    def remember_checksums(self, snapshot_id: str) -> None:
        """Reckon the checksums of all blocks once."""
        snapshot = self.snapshots[snapshot_id]
        snapshot.checksums = {index: _checksum(data) for index, data in snapshot.blocks.items()}

    def handle(self, request: Request) -> Answer:
        """The answer to a request."""
        try:
            return self._route(request)
        except Fault as fault:
            return fault.answer

    def _route(self, request: Request) -> Answer:
        found = _SNAPSHOT.fullmatch(request.path)
        if found:
            return self._blocks(found["id"], found["what"], found["index"], request)
        if request.method == "POST" and request.path == "/snapshots":
            return self._start(request)
        if request.method == "POST" and request.path.startswith("/snapshots/completion/"):
            return self._complete(request.path.rpartition("/")[2], request)
        return self._ec2(request)

    def _blocks(self, snapshot_id: str, what: str, index: str | None, request: Request) -> Answer:
        if what == "changedblocks":
            return self._list_changed(snapshot_id, request)
        if index is None:
            return self._list(snapshot_id, request)
        method = self._put if request.method == "PUT" else self._get
        return method(snapshot_id, int(index), request)

    # -- reading -----------------------------------------------------------------------------------

    def _readable(self, operation: str, snapshot_id: str) -> FakeSnapshot:
        snapshot = self._known(operation, snapshot_id)
        if snapshot.state != "completed":  # [U] only those in the completed state are read
            raise Fault(400, "ValidationException", "INVALID_SNAPSHOT_ID", "the snapshot is not completed")
        return snapshot

    def _known(self, operation: str, snapshot_id: str) -> FakeSnapshot:
        self.counts[operation] = self.counts.get(operation, 0) + 1
        if operation in self.denied:
            text = f"User is not authorized to perform: ebs:{operation} on snapshot/{snapshot_id}"
            raise Fault(403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT", text)
        if operation in self.key_denied:
            raise Fault(403, "AccessDeniedException", "DEPENDENCY_ACCESS_DENIED", "KMS: access denied")
        snapshot = self.snapshots.get(snapshot_id)
        if snapshot is None:
            raise Fault(
                404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", f"{snapshot_id} does not exist"
            )
        return snapshot

    def _list(self, snapshot_id: str, request: Request) -> Answer:
        snapshot = self._readable("ListSnapshotBlocks", snapshot_id)
        indexes, token = self._page(sorted(snapshot.blocks), request)
        rows: _Rows = [
            {"BlockIndex": index, "BlockToken": self._token(snapshot_id, index)} for index in indexes
        ]
        return self._listing(snapshot, "Blocks", rows, token)

    def _list_changed(self, second_id: str, request: Request) -> Answer:
        second = self._readable("ListChangedBlocks", second_id)
        first_id = request.query.get("firstSnapshotId", "")
        first = self._readable("ListChangedBlocks", first_id) if first_id else None
        if first is not None and first.lineage != second.lineage:
            # [A] "The specified snapshots are unrelated".
            raise Fault(400, "ValidationException", "UNRELATED_SNAPSHOTS", "the snapshots are unrelated")
        old: Mapping[int, bytes] = first.blocks if first else {}
        every = sorted(old.keys() | second.blocks.keys())
        changed = [index for index in every if first is None or first.look(index) != second.look(index)]
        indexes, token = self._page(changed, request)
        rows: _Rows = []
        for index in indexes:
            row: dict[str, object] = {"BlockIndex": index}
            if index in old:  # [A] ChangedBlock: a token for each snapshot that has the block
                row["FirstBlockToken"] = self._token(first_id, index)
            if index in second.blocks:
                row["SecondBlockToken"] = self._token(second_id, index)
            rows.append(row)
        return self._listing(second, "ChangedBlocks", rows, token)

    def _page(self, indexes: list[int], request: Request) -> tuple[list[int], str | None]:
        """[U] ascending, at most MaxResults, perhaps fewer or none; on to the end by NextToken."""
        most = int(request.query.get("maxResults", "10000"))
        if not 100 <= most <= 10_000:  # [A] MaxResults
            raise Fault(400, "ValidationException", "INVALID_PARAMETER_VALUE", "MaxResults")
        start, number = int(request.query.get("startingBlockIndex", "0")), 0
        if given := request.query.get("pageToken"):  # [A] StartingBlockIndex is ignored with it
            try:
                start, number, ends = json.loads(base64.urlsafe_b64decode(given))
            except ValueError as error:
                raise Fault(400, "ValidationException", "INVALID_PAGE_TOKEN", "no token") from error
            if self.clock() >= ends:
                raise Fault(400, "ValidationException", "INVALID_PAGE_TOKEN", "the token has expired")
        left = [index for index in indexes if index >= start]
        size = 0 if self.empty_pages and number % 2 == 0 else min(most, self.page_blocks)
        page, rest = left[:size], left[size:]
        if not rest:
            return page, None
        token = [rest[0], number + 1, self.clock() + _PAGE_TOKEN_S]
        return page, base64.urlsafe_b64encode(json.dumps(token).encode()).decode()

    def _listing(self, snapshot: FakeSnapshot, member: str, rows: _Rows, token: str | None) -> Answer:
        body: dict[str, object] = {
            member: rows,
            "ExpiryTime": self.clock() + _BLOCK_TOKEN_S,
            "VolumeSize": snapshot.size_gib,
            "BlockSize": BLOCK_BYTES,
        }
        if token is not None:
            body["NextToken"] = token
        return _json(200, body)

    def _token(self, snapshot_id: str, index: int) -> str:
        """[U] bound to snapshot and block; another listing gives another token."""
        said = f"{snapshot_id} {index} {self.clock() + _BLOCK_TOKEN_S} {next(self._numbers)}"
        return base64.urlsafe_b64encode(said.encode()).decode()

    def _get(self, snapshot_id: str, index: int, request: Request) -> Answer:
        snapshot = self._readable("GetSnapshotBlock", snapshot_id)
        try:
            said = base64.urlsafe_b64decode(request.query.get("blockToken", "")).decode().split()
            good = said[:2] == [snapshot_id, str(index)] and self.clock() < int(said[2])
        except (ValueError, IndexError):
            good = False
        if not good or index not in snapshot.blocks:
            raise Fault(400, "ValidationException", "INVALID_BLOCK_TOKEN", "the token is not valid")
        data = snapshot.blocks[index]
        checksum = snapshot.checksums.get(index) or _checksum(data)
        headers = {
            "x-amz-Data-Length": str(BLOCK_BYTES),
            "x-amz-Checksum": checksum,
            "x-amz-Checksum-Algorithm": "SHA256",
            "Content-Type": "application/octet-stream",
        }
        return Answer(200, data, headers)

    # -- writing -----------------------------------------------------------------------------------

    def _start(self, request: Request) -> Answer:
        asked = json.loads(request.body)
        self.counts["StartSnapshot"] = self.counts.get("StartSnapshot", 0) + 1
        for denied, reason in (
            (self.denied, "UNAUTHORIZED_ACCOUNT"),
            (self.key_denied, "DEPENDENCY_ACCESS_DENIED"),
        ):
            if "StartSnapshot" in denied:
                raise Fault(403, "AccessDeniedException", reason, "ebs:StartSnapshot is not allowed")
        size = asked.get("VolumeSize", 0)
        if not 1 <= size <= _MAX_GIB:
            raise Fault(400, "ValidationException", "INVALID_VOLUME_SIZE", "VolumeSize")
        if asked.get("ParentSnapshotId") and "Encrypted" in asked:  # [A] one or the other
            raise Fault(400, "ValidationException", "INVALID_PARAMETER_VALUE", "Encrypted with a parent")
        if not 10 <= asked.get("Timeout", 60) <= 4320 or len(asked.get("Tags", [])) > 50:
            raise Fault(400, "ValidationException", "INVALID_PARAMETER_VALUE", "Timeout or Tags")
        with self.mutex:
            said = json.dumps(asked, sort_keys=True)
            for snapshot in self.snapshots.values():  # [U] idempotency by ClientToken
                if snapshot.asked and json.loads(snapshot.asked)["ClientToken"] == asked["ClientToken"]:
                    if snapshot.asked != said:
                        raise Fault(409, "ConflictException", "", "other parameters, same token")
                    return self._started(snapshot)
            snapshot_id = self._announce(request)
            parent = self.snapshots.get(asked.get("ParentSnapshotId", ""))
            made = FakeSnapshot(
                snapshot_id,
                parent.lineage if parent else snapshot_id,
                size,
                dict(parent.blocks) if parent else {},
                "pending",
                bool(asked.get("Encrypted")),
                asked=said,
                tags=asked.get("Tags", []),
            )
            self.snapshots[snapshot_id] = made
        return self._started(made)

    def _announce(self, request: Request) -> str:
        """Let EC2 know of it; its id."""
        if not self.has_ec2:
            return f"snap-{next(self._numbers):017x}"
        return str(json.loads(self._pass_on(request).body)["SnapshotId"])

    def _started(self, snapshot: FakeSnapshot) -> Answer:
        body = {
            "SnapshotId": snapshot.snapshot_id,
            "OwnerId": self.account,
            "Status": snapshot.state,
            "StartTime": self.clock(),
            "VolumeSize": snapshot.size_gib,
            "BlockSize": BLOCK_BYTES,
        }
        return _json(201, body)

    def _put(self, snapshot_id: str, index: int, request: Request) -> Answer:
        snapshot = self._known("PutSnapshotBlock", snapshot_id)
        if snapshot.state != "pending":
            raise Fault(400, "ValidationException", "INVALID_SNAPSHOT_ID", "the snapshot is not pending")
        data, headers = request.body, request.headers
        if len(data) != BLOCK_BYTES or headers.get("x-amz-data-length") != str(BLOCK_BYTES):
            raise Fault(400, "ValidationException", "INVALID_BLOCK", "whole blocks only")
        if index * BLOCK_BYTES >= snapshot.size_gib << 30:
            raise Fault(400, "ValidationException", "INVALID_BLOCK", "behind the end of the volume")
        checksum = _checksum(data)
        if headers.get("x-amz-checksum-algorithm") != "SHA256" or headers.get("x-amz-checksum") != checksum:
            raise Fault(400, "ValidationException", "INVALID_BLOCK", "the checksum does not match")
        snapshot.written[index] = data
        return _json(201, {}, {"x-amz-Checksum": checksum, "x-amz-Checksum-Algorithm": "SHA256"})

    def _complete(self, snapshot_id: str, request: Request) -> Answer:
        snapshot = self._known("CompleteSnapshot", snapshot_id)
        if snapshot.state != "pending":
            raise Fault(400, "ValidationException", "INVALID_SNAPSHOT_ID", "the snapshot is not pending")
        headers = request.headers
        if headers.get("x-amz-changedblockscount") != str(len(snapshot.written)):
            raise Fault(400, "ValidationException", "INVALID_PARAMETER_VALUE", "ChangedBlocksCount")
        if checksum := headers.get("x-amz-checksum"):
            # [U] ebsapis-using-checksums: LINEAR, over the digests of the blocks in order
            parts = (hashlib.sha256(data).digest() for _, data in sorted(snapshot.written.items()))
            wanted = base64.b64encode(hashlib.sha256(b"".join(parts)).digest()).decode()
            if checksum != wanted or headers.get("x-amz-checksum-aggregation-method") != "LINEAR":
                raise Fault(400, "ValidationException", "INVALID_PARAMETER_VALUE", "Checksum")
        snapshot.blocks = {**snapshot.blocks, **snapshot.written}
        snapshot.state = "completed"
        return _json(202, {"Status": "completed"})

    # -- EC2 ---------------------------------------------------------------------------------------

    def _ec2(self, request: Request) -> Answer:
        """EC2 of moto; snapshots that it takes get the blocks that their volumes have."""
        asked = {name: values[0] for name, values in parse_qs(request.body.decode("latin-1")).items()}
        action = asked.get("Action", "")
        if f"ec2:{action}" in self.denied:
            return _ec2_fault(403, "UnauthorizedOperation", f"not authorized to perform: ec2:{action}")
        if not self.has_ec2:
            return self._ec2_alone(action, asked)
        answer = self._pass_on(request)
        if answer.status == 200 and action in ("CreateSnapshot", "CreateSnapshots"):
            self._took(answer.body)
        if answer.status == 200 and action == "DeleteSnapshot":
            self.snapshots.pop(asked["SnapshotId"], None)
        return answer

    def _pass_on(self, request: Request) -> Answer:
        return self.upstream.send(request.method, request.target, request.headers, request.body)

    def _took(self, body: bytes) -> None:
        snapshot = ""
        volume = ""
        for name, value in _MADE.findall(body):
            if name == b"snapshotId":
                snapshot = value.decode()
            else:
                volume = value.decode()
            if snapshot and volume:
                blocks = self.volumes.get(volume, {})
                size = -(-(max(blocks, default=0) + 1) * BLOCK_BYTES // (1 << 30))
                self.add(snapshot, dict(blocks), max(size, 1), volume)
                snapshot = volume = ""

    def _ec2_alone(self, action: str, asked: Mapping[str, str]) -> Answer:
        snapshot = self.snapshots.get(asked.get("SnapshotId", asked.get("SnapshotId.1", "")))
        if snapshot is None:
            return _ec2_fault(400, "InvalidSnapshot.NotFound", "does not exist")
        if action == "DeleteSnapshot":
            del self.snapshots[snapshot.snapshot_id]
            return _xml(200, "<DeleteSnapshotResponse><return>true</return></DeleteSnapshotResponse>")
        item = (
            f"<item><snapshotId>{snapshot.snapshot_id}</snapshotId><volumeId>{snapshot.lineage}</volumeId>"
            f"<status>{snapshot.state}</status><volumeSize>{snapshot.size_gib}</volumeSize>"
            f"<startTime>{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(self.clock()))}</startTime></item>"
        )
        text = f"<snapshotSet>{item}</snapshotSet>"
        return _xml(200, f"<DescribeSnapshotsResponse>{text}</DescribeSnapshotsResponse>")


def _checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _json(status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})


def _xml(status: int, body: str) -> Answer:
    return Answer(status, body.encode(), {"Content-Type": "text/xml"})


def _ec2_fault(status: int, code: str, text: str) -> Answer:
    error = f"<Error><Code>{code}</Code><Message>{text}</Message></Error>"
    return _xml(status, f"<Response><Errors>{error}</Errors></Response>")
