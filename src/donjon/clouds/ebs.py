"""The EBS direct APIs: listing, reading and writing the blocks of snapshots.

Source of all rules: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html and the API
reference, https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html.
"""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from donjon.clouds import aws
from donjon.clouds.ebs_faults import (
    COMPLETE,
    GET,
    LIST,
    LIST_CHANGED,
    PUT,
    START,
    failed,
    translated,
)
from donjon.clouds.signed_gets import SignedGets
from donjon.core.errors import DonjonError
from donjon.core.operations import Operation
from donjon.core.pace import Pace
from donjon.core.retries import Retries
from donjon.core.units import KIB

BLOCK_BYTES: Final = 512 * KIB
#: So many requests at once fill a line of 2 Gbit/s at 30 ms each.
PARALLEL: Final = 16
#: "GetSnapshotBlock requests per snapshot", the same for PutSnapshotBlock:
#: https://docs.aws.amazon.com/general/latest/gr/ebs-service.html
REQUESTS_PER_S: Final = 1_000
_LISTS_PER_S: Final = 50
#: After a rest, so much of a second may go out at once.
_BURST_S: Final = 0.1
_PAGE: Final = 10_000


#: A page of a listing: blocks by their index, with what GetSnapshotBlock wants to see; None for one that is
#: gone.
Page = dict[int, str | None]


@dataclass(frozen=True, slots=True)
class Pacing:
    """How long to try, and what that goes by. ``requests_per_s`` is for reading or writing blocks."""

    attempts: int = 8
    budget_s: float = 120.0
    requests_per_s: float = REQUESTS_PER_S
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic

    def retries(self) -> Retries:
        """The tries of one call."""
        return Retries(self.attempts, self.budget_s, self.sleep, self.random, self.monotonic)

    def pace(self, requests_per_s: float) -> Pace:
        """For many calls, each with such tries."""
        return Pace(
            requests_per_s, burst_s=_BURST_S, attempts=self.attempts, budget_s=self.budget_s,
            sleep=self.sleep, random=self.random, monotonic=self.monotonic,
        )  # fmt: skip


def connect(*, region: str | None, profile: str | None = None, endpoint: str | None = None) -> Any:
    """A client of the SDK. Raises ``UsageError`` if it is not installed or has no such profile."""
    return aws.client(
        "ebs", "EBS", region=region, profile=profile, endpoint=endpoint, max_pool_connections=PARALLEL,
        connect_timeout=10, read_timeout=60, parameter_validation=False,
    )  # fmt: skip


def open_direct(
    *,
    region: str | None,
    profile: str | None = None,
    endpoint: str | None = None,
    pacing: Pacing | None = None,
) -> EbsDirect:
    """The APIs of a region, with a client of its own. Raises what ``connect`` does."""
    client = connect(region=region, profile=profile, endpoint=endpoint)
    credentials = aws.credentials("EBS", profile=profile)
    gets = credentials and SignedGets(client.meta.endpoint_url, "ebs", client.meta.region_name, credentials)
    return EbsDirect(client, pacing, gets)


class EbsDirect:
    """Asks again while that can help. Safe to share between threads.

    Raises ``SourceFailed`` for what concerns reading, ``TargetFailed`` for writing, ``PermissionMissing``.
    """

    def __init__(self, client: Any, pacing: Pacing | None = None, gets: SignedGets | None = None) -> None:
        """``gets`` fetches blocks with less ado than ``client``, which has the last word all the same."""
        self._client = client
        self._gets = gets
        given = pacing or Pacing()
        self._blocks = given.pace(given.requests_per_s)
        self._lists = given.pace(min(_LISTS_PER_S, given.requests_per_s))

    @property
    def region(self) -> str:
        """Where it asks."""
        return str(self._client.meta.region_name)

    # -- reading -----------------------------------------------------------------------------------

    def list_blocks(self, snapshot: str, start: int = 0, most: int = _PAGE) -> Iterator[Page]:
        """The blocks of a snapshot from an index on, page by page. Pages may be short or empty."""
        yield from self._pages(LIST, snapshot, start, "Blocks", SnapshotId=snapshot, MaxResults=most)

    def list_changed(self, first: str, second: str, start: int = 0) -> Iterator[Page]:
        """What differs between two snapshots of one lineage; a block that is gone in the second is None."""
        yield from self._pages(
            LIST_CHANGED, second, start, "ChangedBlocks", FirstSnapshotId=first, SecondSnapshotId=second,
            MaxResults=_PAGE,
        )  # fmt: skip

    def _pages(
        self, operation: Operation, snapshot: str, start: int, member: str, **asked: Any
    ) -> Iterator[Page]:
        """A listing. After its token has ended, in 60 minutes, it goes on behind the last block."""
        token: str | None = None
        restarted = -1
        while True:
            where = {"NextToken": token} if token else {"StartingBlockIndex": start}
            try:
                answer = self._ask(operation, snapshot, self._lists, **asked, **where)
            except DonjonError as error:
                if token is None or "INVALID_PAGE_TOKEN" not in error.message or restarted == start:
                    raise
                token, restarted = None, start
                continue
            name = "BlockToken" if operation is LIST else "SecondBlockToken"
            page = {row["BlockIndex"]: row.get(name) for row in answer.get(member, [])}
            if answer.get("BlockSize", BLOCK_BYTES) != BLOCK_BYTES or (page and min(page) < start):
                text = "its listing is not as this version of Donjon knows them"
                raise failed(operation, snapshot, text, hint="Use a newer one.")
            if page:
                start = max(page) + 1
            yield page
            token = answer.get("NextToken")
            if not token:
                return

    def get_block(self, snapshot: str, index: int, token: str, block: memoryview) -> None:
        """Read one block into ``block``, and check it against its SHA-256."""

        def ask() -> None:
            if self._straight(snapshot, index, token, block):
                return
            answer = self._once(GET, snapshot, SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
            try:
                data = bytes(answer["BlockData"].read())
            except Exception as error:
                raise translated(error, GET, snapshot) from error
            if len(data) != BLOCK_BYTES or answer.get("Checksum") != _checksum(data):
                text = f"block {index} arrived damaged"
                raise failed(GET, snapshot, text, hint="Look at the network.", retryable=True)
            block[:] = data

        self._blocks.carry_out(ask)

    def _straight(self, snapshot: str, index: int, token: str, block: memoryview) -> bool:
        """A block past the SDK; False unless all is as it should be: the SDK knows what refusals mean."""
        if self._gets is None:
            return False
        path = f"/snapshots/{quote(snapshot, safe='')}/blocks/{index}"
        try:
            status, told, rest = self._gets.get(path, {"blockToken": token}, {}, BLOCK_BYTES, block)
        except Exception:
            return False
        return status == 200 and not rest and told.get("x-amz-checksum") == _checksum(block)

    # -- writing -----------------------------------------------------------------------------------

    def start(self, size_gib: int, what: str, **asked: Any) -> Mapping[str, Any]:
        """Start a snapshot; what AWS says of it. ``asked`` has a ``ClientToken``, so that it is made once."""
        answer: Mapping[str, Any] = self._ask(START, what, self._lists, VolumeSize=size_gib, **asked)
        return answer

    def put_block(self, snapshot: str, index: int, data: bytes | memoryview) -> bytes:
        """Write one block; its SHA-256. A block may be written again."""
        digest = hashlib.sha256(data).digest()
        asked = {
            "SnapshotId": snapshot,
            "BlockIndex": index,
            "BlockData": bytes(data),
            "DataLength": BLOCK_BYTES,
            "Checksum": base64.b64encode(digest).decode(),
            "ChecksumAlgorithm": "SHA256",
        }
        self._ask(PUT, snapshot, self._blocks, **asked)
        return digest

    def complete(self, snapshot: str, digests: dict[int, bytes]) -> None:
        """End a snapshot that has these blocks."""
        asked: dict[str, Any] = {"SnapshotId": snapshot, "ChangedBlocksCount": len(digests)}
        if digests:
            # "LINEAR": SHA-256 of the digests, as bytes, in the order of the blocks
            # (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-checksums.html).
            whole = hashlib.sha256(b"".join(digests[index] for index in sorted(digests))).digest()
            asked |= {
                "Checksum": base64.b64encode(whole).decode(),
                "ChecksumAlgorithm": "SHA256",
                "ChecksumAggregationMethod": "LINEAR",
            }
        self._ask(COMPLETE, snapshot, self._lists, **asked)

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, operation: Operation, what: str, pace: Pace, **asked: Any) -> Any:
        return pace.carry_out(lambda: self._once(operation, what, **asked))

    def _once(self, operation: Operation, what: str, **asked: Any) -> Any:
        method: Callable[..., Any] = getattr(self._client, operation.method)
        try:
            return method(**asked)
        except Exception as error:
            raise translated(error, operation, what) from error


def _checksum(data: bytes | memoryview) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
