"""The bytes of managed disks and snapshots as page blobs behind signatures: a fake of ours.

A **fake** with the rules of Microsoft's documentation: ``AZR`` stands for
https://learn.microsoft.com/rest/api/storageservices, ``AZV`` for
https://learn.microsoft.com/azure/virtual-machines. It serves Azure's own client for blobs, and proves nothing
about Azure. Not documented, and so chosen here: that granting what is granted gives the same signature.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from donjon.core.clock import Clock
from donjon.testing.front import Answer, Request

PAGE: Final = 512
_ACCOUNT: Final = "/md-fake/"
_MOST: Final = 4 << 20  # AZR/put-page, and AZR/get-blob for x-ms-range-get-content-md5
_PAGES_AT_ONCE: Final = 10_000  # AZR/get-page-ranges, maxresults
_AT_ONCE: Final = 5  # AZV/disks-incremental-snapshots: 5 snapshots of a family with a SAS


@dataclass
class Blob:
    """The pages of one disk or snapshot that were written, its VHD footer among them, by their numbers."""

    size: int
    family: str = ""
    created: int = 0
    pages: MutableMapping[int, bytes] = field(default_factory=dict)


@dataclass
class Grant:
    """Access that somebody has. ``signature`` is a secret."""

    of: str
    access: str
    ends: int
    signature: str


class Refusal(Exception):
    """What the service refuses, with a code of AZR/blob-service-error-codes."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status, self.code = status, code

    @property
    def answer(self) -> Answer:
        """As page blobs say it."""
        text = f"<Error><Code>{self.code}</Code><Message>{escape(str(self))}</Message></Error>"
        headers = {"x-ms-error-code": self.code, "content-type": "application/xml"}
        return Answer(self.status, text.encode(), headers)


class PageBlobs:
    """Blobs by the lower-case ids of their disks and snapshots, and who may read them.

    ``page_ranges`` is how many ranges an answer has at most. ``most_open`` is the most snapshots of one
    family that were open at once.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.address = ""
        self.blobs: dict[str, Blob] = {}
        self.grants: dict[str, Grant] = {}
        self.page_ranges = _PAGES_AT_ONCE
        self.most_open = 0
        self.counts: dict[str, int] = {}
        self.bytes_read = 0

    def grant(self, arm: str, access: str, duration_s: int) -> str:
        """A URL. Raises ``Refusal`` for the sixth snapshot of a family."""
        blob = self.blobs[arm]
        held = self._held(arm)
        if held is None:
            others = {one.of for one in self.grants.values() if one.ends > self.clock() and one.of != arm}
            of_family = [one for one in others if blob.family and self.blobs[one].family == blob.family]
            if len(of_family) >= _AT_ONCE:
                raise Refusal(409, "OperationNotAllowed", "5 snapshots of a family have a SAS.")
            self.most_open = max(self.most_open, len(of_family) + 1)
            held = Grant(arm, access, self.clock() + duration_s, secrets.token_hex(16))
            self.grants[arm] = held
        name = base64.b32encode(arm.encode()).decode().strip("=").lower()
        return f"{self.address}{_ACCOUNT}{name}/abcd?sv=2026-02-06&sr=b&se={held.ends}&sig={held.signature}"

    def revoke(self, arm: str) -> None:
        """Take it back; that there was none is no error."""
        self.grants.pop(arm, None)

    def serves(self, path: str) -> bool:
        """Whether a path is of a blob."""
        return path.startswith(_ACCOUNT)

    def handle(self, request: Request) -> Answer:
        """Judge and carry out one request for a blob."""
        try:
            return self._carry_out(request)
        except Refusal as refusal:
            return refusal.answer

    def _held(self, arm: str) -> Grant | None:
        held = self.grants.get(arm)
        return held if held is not None and held.ends > self.clock() else None

    def _opened(self, path: str, signature: str, access: str) -> Blob:
        """AZR/create-service-sas: 403 for a signature that has ended, or is another one."""
        name = path.removeprefix(_ACCOUNT).partition("/")[0].upper()
        arm = base64.b32decode(name + "=" * (-len(name) % 8)).decode()
        held = self._held(arm)
        if arm not in self.blobs or held is None or held.signature != signature:
            raise Refusal(403, "AuthenticationFailed", "Signature not valid in the specified time frame.")
        if held.access != access:
            raise Refusal(403, "AuthorizationPermissionMismatch")
        return self.blobs[arm]

    def _carry_out(self, request: Request) -> Answer:
        what = request.query.get("comp", "") or request.method
        if "x-ms-previous-snapshot-url" in request.headers:
            what = "diff"
        self.counts[what] = self.counts.get(what, 0) + 1
        access = "Write" if request.method == "PUT" else "Read"
        blob = self._opened(request.path, request.query.get("sig", ""), access)
        carry_out: Mapping[str, Callable[[Request, Blob], Answer]] = {
            "HEAD": self._head, "GET": self._get, "page": self._put,
            "pagelist": self._list, "diff": self._diff,
        }  # fmt: skip
        if what not in carry_out:
            raise Refusal(400, "InvalidUri")
        return carry_out[what](request, blob)

    def _common(self) -> dict[str, str]:
        stamp = formatdate(self.clock(), usegmt=True)
        return {"ETag": '"0x1"', "Last-Modified": stamp, "x-ms-blob-type": "PageBlob", "x-ms-version": "2026"}

    def _head(self, _: Request, blob: Blob) -> Answer:
        return Answer(200, b"", {**self._common(), "content-length": str(blob.size)})

    def _get(self, request: Request, blob: Blob) -> Answer:
        first, end = _range(request, blob.size)
        wants_md5 = request.headers.get("x-ms-range-get-content-md5") == "true"
        if wants_md5 and end - first > _MOST:
            raise Refusal(400, "InvalidInput", "4 MiB at most with a checksum.")
        zeros = bytes(PAGE)
        pages = [blob.pages.get(n, zeros) for n in range(first // PAGE, -(-end // PAGE))]
        data = b"".join(pages)[first % PAGE :][: end - first]
        self.bytes_read += len(data)
        headers = {**self._common(), "Content-Range": f"bytes {first}-{end - 1}/{blob.size}"}
        if wants_md5:
            headers["Content-MD5"] = _md5(data)
        return Answer(206, data, headers)

    def _list(self, request: Request, blob: Blob) -> Answer:
        first, end = _range(request, blob.size)
        first = max(first, int(request.query.get("marker") or 0))
        found = [(n, False) for n in sorted(blob.pages) if first <= n * PAGE < end]
        return self._shown(found, blob.size)

    def _diff(self, request: Request, blob: Blob) -> Answer:
        """AZR/get-page-ranges: of one family, the previous one older, else these codes."""
        url = urlsplit(request.headers["x-ms-previous-snapshot-url"])
        signature = parse_qs(url.query).get("sig", [""])[0]
        previous = self._opened(url.path, signature, "Read")
        if not blob.family or previous.family != blob.family:
            raise Refusal(409, "PreviousSnapshotOperationNotSupported")
        if previous.created >= blob.created:
            raise Refusal(400, "PreviousSnapshotCannotBeNewer")
        if (previous.size > 4 << 40) != (blob.size > 4 << 40):  # AZV/disks-incremental-snapshots
            raise Refusal(409, "PreviousSnapshotOperationNotSupported")
        first, end = _range(request, blob.size)
        found = [
            (n, n not in blob.pages)
            for n in sorted({*blob.pages, *previous.pages})
            if first <= n * PAGE < end and blob.pages.get(n) != previous.pages.get(n)
        ]
        return self._shown(found, blob.size)

    def _shown(self, found: list[tuple[int, bool]], size: int) -> Answer:
        ranges = list(_joined(found))
        marker = str(ranges[self.page_ranges][0] * PAGE) if len(ranges) > self.page_ranges else ""
        rows = "".join(
            f"<{name}><Start>{first * PAGE}</Start><End>{end * PAGE - 1}</End></{name}>"
            for first, end, is_cleared in ranges[: self.page_ranges]
            for name in ("ClearRange" if is_cleared else "PageRange",)
        )
        more = f"<NextMarker>{marker}</NextMarker>" if marker else "<NextMarker />"
        body = f'<?xml version="1.0" encoding="utf-8"?><PageList>{rows}{more}</PageList>'.encode()
        headers = {"content-type": "application/xml", "x-ms-blob-content-length": str(size)}
        return Answer(200, body, self._common() | headers)

    def _put(self, request: Request, blob: Blob) -> Answer:
        """AZR/put-page."""
        first, end = _range(request, blob.size)
        body = request.body
        if request.headers.get("x-ms-page-write") != "update" or first % PAGE or end % PAGE:
            raise Refusal(400, "InvalidHeaderValue")
        if end - first != len(body) or len(body) > _MOST:
            raise Refusal(413, "RequestBodyTooLarge")
        if "content-md5" in request.headers and request.headers["content-md5"] != _md5(body):
            raise Refusal(400, "Md5Mismatch")
        for at in range(0, len(body), PAGE):
            blob.pages[(first + at) // PAGE] = body[at : at + PAGE]
        return Answer(201, b"", self._common())


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _range(request: Request, size: int) -> tuple[int, int]:
    text = request.headers.get("x-ms-range") or request.headers.get("range") or f"bytes=0-{size - 1}"
    first, _, last = text.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if start >= end:
        raise Refusal(416, "InvalidRange")
    return start, end


def _joined(found: list[tuple[int, bool]]) -> Iterator[tuple[int, int, bool]]:
    """Pages side by side that are alike are one range."""
    first = end = -1
    kind = False
    for number, is_cleared in found:
        if number != end or is_cleared != kind:
            if end > first:
                yield first, end, kind
            first, kind = number, is_cleared
        end = number + 1
    if end > first:
        yield first, end, kind
