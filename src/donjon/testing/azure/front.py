"""A WORM front for an emulator of Azure Blob Storage, with versions and version-level immutability.

A **fake**. The rules are those of Microsoft's documentation, cited beside each of them; ``AZB`` stands for
https://learn.microsoft.com/azure/storage/blobs, ``AZR`` for
https://learn.microsoft.com/rest/api/storageservices. The order in which a request is judged (signature,
permission, container, checksum, condition, lock) is a choice, for Microsoft documents none. Where Microsoft
is silent, it refuses. The emulator behind it keeps the bytes of current versions.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote
from xml.sax.saxutils import escape

from donjon.core.clock import Clock
from donjon.testing.azure.signature import signature
from donjon.testing.callers import Ask, CalledFront
from donjon.testing.front import Answer, Request, Upstream
from donjon.testing.versions import Version, Versions

_POLICY_UNTIL = "x-ms-immutability-policy-until-date"
_POLICY_MODE = "x-ms-immutability-policy-mode"
_HOLD = "x-ms-legal-hold"
_PAGE = 5000
#: AZB/immutable-time-based-retention-policy-overview: at most 146,000 days.
_LONGEST_S = 146_000 * 86_400
_ACTIONS = "Microsoft.Storage/storageAccounts/blobServices/containers"


class _Container:
    def __init__(self, *, immutability: bool, public: str | None) -> None:
        self.immutability = immutability
        self.public = public
        self.versions = Versions()
        self.facts: dict[str, dict[str, str]] = {}  # headers by version id


class _Refusal(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class AzureFront(CalledFront):
    """Answers the Blob service's REST API, so far as Donjon and those who attack it use it."""

    def __init__(self, upstream: Upstream, clock: Clock, account: str, key: str) -> None:
        super().__init__(upstream, clock)
        self._account, self._key = account, key
        self._containers: dict[str, _Container] = {}
        self._about = ""  # the blob of the request that is being judged
        self._count = 0

    def create_container(self, name: str, *, immutability: bool = True, public: str | None = None) -> None:
        """Make a container, as the control plane does; ``immutability`` is the version-level support."""
        path = f"/{self._account}/{name}"
        made = self._forward(Request("PUT", path, {"restype": "container"}, {}, b""))
        assert made.status == 201, made
        self._containers[name] = _Container(immutability=immutability, public=public)

    def handle(self, request: Request) -> Answer:
        """Judge and carry out one request."""
        try:
            told = request.headers.get("authorization", "")
            if told != f"SharedKey {self._account}:{signature(request, self._account, self._key)}":
                raise _Refusal(403, "AuthenticationFailed")
            _, _, container, *rest = request.path.split("/", 3)
            with self.mutex:
                self._about = rest[0] if rest else ""
                if rest:
                    return self._blob_request(request, container, rest[0])
                return self._container_request(request, container)
        except _Refusal as refusal:
            told = f"<Code>{refusal.code}</Code><Message>The front says so.</Message>"
            body = f"<?xml version='1.0' encoding='utf-8'?><Error>{told}</Error>"
            headers = {"x-ms-error-code": refusal.code, "Content-Type": "application/xml"}
            return Answer(refusal.status, body.encode(), headers)

    # Containers

    def _container_request(self, request: Request, name: str) -> Answer:
        container = self._container(name)
        if request.query.get("comp") == "list":
            return self._list(request, container, name)
        if "comp" in request.query or request.query.get("restype") != "container":
            raise _Refusal(501, "NotImplemented")
        if request.method == "DELETE":
            self._need(f"{_ACTIONS}/delete")
            return self._delete_container(request, container, name)
        if request.method not in {"GET", "HEAD"}:
            raise _Refusal(501, "NotImplemented")
        self._need(f"{_ACTIONS}/read")
        answer = self._forward(request)
        headers = {
            "x-ms-immutable-storage-with-versioning-enabled": str(container.immutability).lower(),
            "x-ms-has-immutability-policy": "false",
            "x-ms-has-legal-hold": "false",
        }
        if container.public:
            headers["x-ms-blob-public-access"] = container.public
        return Answer(answer.status, answer.body, {**answer.headers, **headers})

    def _delete_container(self, request: Request, container: _Container, name: str) -> Answer:
        # AZR/blob-service-error-codes: 409 with these codes; AZB/immutable-version-level-worm-policies: a
        # container with a version under an active policy or hold cannot go.
        for version in container.versions.all():
            if version.hold:
                raise _Refusal(409, "ContainerHasLegalHold")
            if version.retained(self.clock()):
                raise _Refusal(409, "ContainerImmutabilityPolicyLocked")
        del self._containers[name]
        return self._forward(request)

    def _list(self, request: Request, container: _Container, name: str) -> Answer:
        listing = Ask(f"{_ACTIONS}/blobs/read", is_listing=True, prefix=request.query.get("prefix", ""))
        if not self.permits(listing):
            raise _Refusal(403, "AuthorizationPermissionMismatch")
        wanted = request.query.get("include", "").split(",")
        rows = [
            version
            for version in container.versions.all(request.query.get("prefix", ""))
            if version.current or "versions" in wanted
        ]
        start = int(request.query.get("marker") or 0)
        end = start + min(int(request.query.get("maxresults") or _PAGE), _PAGE)
        blobs = "".join(
            self._row(container, version, policies="immutabilitypolicy" in wanted)
            for version in rows[start:end]
        )
        marker = end if end < len(rows) else ""
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{escape(name)}">'
            f"<Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        )
        return Answer(200, body.encode(), {"Content-Type": "application/xml"})

    def _row(self, container: _Container, version: Version, *, policies: bool) -> str:
        modified = formatdate(version.created_at, usegmt=True)
        properties = {
            "Creation-Time": modified,
            "Last-Modified": modified,
            "Etag": container.facts[version.version]["etag"],
            "Content-Length": str(version.size_bytes),
            "BlobType": "BlockBlob",
        }
        if policies and version.retain_until is not None:
            properties["ImmutabilityPolicyUntilDate"] = formatdate(version.retain_until, usegmt=True)
            properties["ImmutabilityPolicyMode"] = (version.mode or "").lower()
        told = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in properties.items())
        current = "<IsCurrentVersion>true</IsCurrentVersion>" if version.current else ""
        return (
            f"<Blob><Name>{escape(version.name)}</Name><VersionId>{version.version}</VersionId>{current}"
            f"<Properties>{told}</Properties></Blob>"
        )

    # Blobs

    def _blob_request(self, request: Request, container_name: str, name: str) -> Answer:
        container = self._container(container_name)
        routes: dict[tuple[str, str], Callable[[Request, _Container, str], Answer]] = {
            ("PUT", ""): self._put,
            ("PUT", "blocklist"): self._put,
            ("PUT", "block"): self._put_block,
            ("PUT", "immutabilityPolicies"): self._set_policy,
            ("DELETE", "immutabilityPolicies"): self._delete_policy,
            ("PUT", "legalhold"): self._set_hold,
            ("PUT", "metadata"): self._set_metadata,
            ("GET", ""): self._get,
            ("HEAD", ""): self._get,
            ("DELETE", ""): self._delete,
        }
        route = routes.get((request.method, request.query.get("comp", "")))
        if route is None:
            raise _Refusal(501, "NotImplemented")
        return route(request, container, name)

    def _put_block(self, request: Request, *_: object) -> Answer:
        self._need(f"{_ACTIONS}/blobs/write")
        _check_md5(request)
        return self._forward(request)

    def _put(self, request: Request, container: _Container, name: str) -> Answer:
        """Put Blob and Put Block List."""
        before = container.versions.current(name)
        # AZR/put-blob: add suffices for a new blob, write is needed to overwrite one or for blocks.
        blocks, exclusive = "comp" in request.query, request.headers.get("if-none-match") == "*"
        self._need(f"{_ACTIONS}/blobs/" + ("write" if blocks or (before and not exclusive) else "add/action"))
        _check_md5(request)
        until, mode = self._policy(request, container)
        if before is not None and exclusive:  # AZR/blob-service-error-codes
            raise _Refusal(409, "BlobAlreadyExists")
        if before is not None:
            self._retire(request, before)  # AZB/versioning-overview: it becomes a previous version
        answer = self._forward(request)
        if answer.status != 201:
            return answer
        now, size_bytes = self.clock(), len(request.body)
        if blocks:
            size_bytes = len(self._forward(Request("GET", request.raw_path, {}, {}, b"")).body)
        self._count += 1
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        made = Version(name, f"{moment}.{self._count:07d}Z", now, size_bytes, mode=mode, retain_until=until)
        made.hold = request.headers.get(_HOLD) == "true"
        container.versions.add(made)
        container.facts[made.version] = {"etag": answer.headers.get("etag", '"0x1"')}
        told = {**answer.headers, "x-ms-version-id": made.version}
        told["last-modified"] = formatdate(now, usegmt=True)
        return Answer(201, b"", told)

    def _policy(self, request: Request, container: _Container) -> tuple[int | None, str | None]:
        """The end and the mode of the policy that a request carries."""
        told = request.headers.get(_POLICY_UNTIL)
        if told is None and _HOLD not in request.headers:
            return None, None
        # AZR/set-blob-immutability-policy
        self._need(f"{_ACTIONS}/blobs/immutableStorage/runAsSuperUser/action")
        if not container.immutability:  # AZB/immutable-version-level-worm-policies: needs the support
            raise _Refusal(409, "VersionLevelImmutabilityNotEnabled")
        if told is None:
            return None, None
        until = int(parsedate_to_datetime(told).timestamp())
        # AZR/put-blob: Unlocked unless told otherwise.
        mode = {"locked": "Locked", "unlocked": "Unlocked"}.get(
            request.headers.get(_POLICY_MODE, "unlocked").lower()
        )
        if mode is None or not self.clock() < until <= self.clock() + _LONGEST_S:
            raise _Refusal(400, "InvalidHeaderValue")
        return until, mode

    def _get(self, request: Request, container: _Container, name: str) -> Answer:
        self._need(f"{_ACTIONS}/blobs/read")
        version = self._version(request, container, name)
        if version.data is None:
            plain = {key: value for key, value in request.query.items() if key != "versionid"}
            answer = self._forward(Request(request.method, request.raw_path, plain, request.headers, b""))
            if answer.status >= 300:
                return answer
        else:
            answer = _archived(request, version.data)
        created = formatdate(version.created_at, usegmt=True)
        headers = {**answer.headers, "last-modified": created, "x-ms-creation-time": created}
        headers |= {"x-ms-version-id": version.version, "x-ms-blob-type": "BlockBlob"}
        headers["etag"] = container.facts[version.version]["etag"]
        if version.current:
            headers["x-ms-is-current-version"] = "true"
        if version.retain_until is not None:
            headers[_POLICY_UNTIL] = formatdate(version.retain_until, usegmt=True)
            headers[_POLICY_MODE] = (version.mode or "").lower()
        headers[_HOLD] = str(version.hold).lower()
        return Answer(answer.status, answer.body, headers)

    def _delete(self, request: Request, container: _Container, name: str) -> Answer:
        whole = "versionid" not in request.query
        self._need(f"{_ACTIONS}/blobs/" + ("delete" if whole else "deleteBlobVersion/action"))
        version = self._version(request, container, name)
        if whole:
            self._retire(request, version)  # AZB/versioning-overview, under a lock too
            return Answer(202)
        if version.current:  # see https://github.com/Azure/azure-sdk-for-java/pull/48716
            raise _Refusal(403, "OperationNotAllowedOnRootBlob")
        self._judge_change(version)
        container.versions.remove(version)
        return Answer(202)

    def _set_policy(self, request: Request, container: _Container, name: str) -> Answer:
        version = self._version(request, container, name)
        held = version.retained(self.clock())
        until, mode = self._policy(request, container)
        shorter = until is None or (version.retain_until or 0) > until
        # AZB/immutable-time-based-retention-policy-overview: a locked policy can only be extended. The
        # code of the refusal is not documented.
        if held and version.mode == "Locked" and (mode != "Locked" or shorter):
            raise _Refusal(409, "BlobImmutableDueToPolicy")
        version.retain_until, version.mode = until, mode
        headers = {_POLICY_UNTIL: formatdate(until, usegmt=True), _POLICY_MODE: (mode or "").lower()}
        return Answer(200, b"", headers)

    def _delete_policy(self, request: Request, container: _Container, name: str) -> Answer:
        self._need(f"{_ACTIONS}/blobs/immutableStorage/runAsSuperUser/action")
        version = self._version(request, container, name)
        # AZR/delete-blob-immutability-policy: unlocked policies alone can be deleted.
        if version.mode == "Locked" and version.retained(self.clock()):
            raise _Refusal(409, "BlobImmutableDueToPolicy")
        version.retain_until = version.mode = None
        return Answer(200)

    def _set_hold(self, request: Request, container: _Container, name: str) -> Answer:
        self._need(f"{_ACTIONS}/blobs/immutableStorage/runAsSuperUser/action")
        version = self._version(request, container, name)
        version.hold = request.headers.get(_HOLD) == "true"
        return Answer(200, b"", {_HOLD: str(version.hold).lower()})

    def _set_metadata(self, request: Request, container: _Container, name: str) -> Answer:
        self._need(f"{_ACTIONS}/blobs/write")
        # AZB/immutable-version-level-worm-policies: Set Metadata is refused on a protected version.
        self._judge_change(self._version(request, container, name))
        return self._forward(request)

    def _judge_change(self, version: Version) -> None:
        if version.hold:  # AZR/blob-service-error-codes
            raise _Refusal(409, "BlobImmutableDueToLegalHold")
        if version.retained(self.clock()):
            raise _Refusal(409, "BlobImmutableDueToPolicy")

    # Helpers

    def _need(self, action: str) -> None:
        if not self.permits(Ask(action, self._about)):  # AZR/blob-service-error-codes
            raise _Refusal(403, "AuthorizationPermissionMismatch")

    def _container(self, name: str) -> _Container:
        if name not in self._containers:
            raise _Refusal(404, "ContainerNotFound")
        return self._containers[name]

    def _version(self, request: Request, container: _Container, name: str) -> Version:
        wanted = request.query.get("versionid")
        if wanted is not None and not re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", wanted):
            raise _Refusal(400, "InvalidQueryParameterValue")
        found = container.versions.find(name, wanted)
        if found is None:
            raise _Refusal(404, "BlobNotFound")
        return found

    def _retire(self, request: Request, version: Version) -> None:
        """Make a current version a previous one, which the emulator forgets and the front keeps."""
        version.data = self._forward(Request("GET", request.raw_path, {}, {}, b"")).body
        version.current = False
        self._forward(Request("DELETE", request.raw_path, {}, {}, b""))

    def _forward(self, request: Request) -> Answer:
        """Let the emulator carry it out, without what it does not know and signed anew."""
        dropped = {"authorization", "host", "connection", "x-ms-date", _POLICY_MODE, _POLICY_UNTIL, _HOLD}
        headers = {key: value for key, value in request.headers.items() if key not in dropped}
        headers["x-ms-date"] = formatdate(usegmt=True)
        headers.setdefault("x-ms-version", "2021-12-02")
        if request.method in {"PUT", "POST"}:
            headers["content-length"] = str(len(request.body))
        target = request.raw_path + "?" * bool(request.query)
        target += "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in request.query.items())
        sent = Request(request.method, request.raw_path, request.query, headers, request.body)
        headers["authorization"] = f"SharedKey {self._account}:{signature(sent, self._account, self._key)}"
        return self.upstream.send(request.method, target, headers, request.body)


def _check_md5(request: Request) -> None:
    told = request.headers.get("content-md5")
    found = base64.b64encode(hashlib.md5(request.body, usedforsecurity=False).digest()).decode()
    if told not in {None, found}:  # AZR/blob-service-error-codes
        raise _Refusal(400, "Md5Mismatch")


def _archived(request: Request, data: bytes) -> Answer:
    """A previous version's bytes, or a range of them."""
    headers: Mapping[str, str] = {"content-type": "application/octet-stream"}
    wanted = request.headers.get("x-ms-range") or request.headers.get("range")
    if request.method == "HEAD":
        return Answer(200, b"", {**headers, "content-length": str(len(data))})
    if wanted is None:
        return Answer(200, data, headers)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(data)), len(data) - 1)
    if start >= len(data):
        raise _Refusal(416, "InvalidRange")
    return Answer(
        206, data[start : end + 1], {**headers, "content-range": f"bytes {start}-{end}/{len(data)}"}
    )
