"""A WORM front for an emulator of Google Cloud Storage: the JSON API, with object retention enforced.

A **fake**. The rules are those of Google's documentation, cited beside each of them; ``GS`` stands for
https://docs.cloud.google.com/storage/docs. The order in which a request is judged (permission, bucket,
checksum, precondition, lock) is a choice, for Google documents none. Where Google is silent, it refuses.
The emulator behind it keeps the bytes of live objects.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from donjon.core.clock import Clock
from donjon.testing.callers import Ask, CalledFront
from donjon.testing.front import Answer, Request, Upstream
from donjon.testing.versions import Version, Versions

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/(.+)")
_OBJECTS = re.compile(r"/storage/v1/b/([^/]+)/o")
_UPLOAD = re.compile(r"/upload/storage/v1/b/([^/]+)/o")
_BUCKET = re.compile(r"/storage/v1/b/([^/]+)")
_PAGE = 1000
#: GS/object-lock: at most 100 years.
_LONGEST_S = 3_155_760_000


class _Bucket:
    def __init__(self, resource: dict[str, Any], *, retention: bool) -> None:
        self.resource = resource
        self.retention = retention
        self.versions = Versions()
        self.facts: dict[str, dict[str, str]] = {}  # checksums by generation

    @property
    def versioned(self) -> bool:
        return bool(self.resource.get("versioning", {}).get("enabled"))


class _Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class GcsFront(CalledFront):
    """Answers the JSON API of Cloud Storage, so far as Donjon and those who attack it use it."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        super().__init__(upstream, clock)
        self._about = ""  # the object of the request that is being judged
        self._buckets: dict[str, _Bucket] = {}
        self._sessions: dict[str, tuple[str, dict[str, Any], str | None, bytearray]] = {}
        self._generation = 0

    def handle(self, request: Request) -> Answer:
        """Judge and carry out one request."""
        routes: tuple[tuple[re.Pattern[str], dict[str, Callable[..., Answer]]], ...] = (
            (_UPLOAD, {"POST": self._upload, "PUT": self._continue_upload}),
            (_OBJECT, {"GET": self._get, "PATCH": self._patch, "DELETE": self._delete}),
            (_OBJECTS, {"GET": self._list}),
            (
                _BUCKET,
                {"GET": self._get_bucket, "PATCH": self._patch_bucket, "DELETE": self._delete_bucket},
            ),
            (re.compile(r"/storage/v1/b"), {"POST": self._create_bucket}),
        )
        try:
            for pattern, methods in routes:
                if (match := pattern.fullmatch(request.path)) and request.method in methods:
                    with self.mutex:
                        self._about = match[2] if pattern is _OBJECT else ""
                        return methods[request.method](request, *match.groups())
            raise _Refusal(501, "notImplemented", f"the front has no {request.method} {request.path}")
        except _Refusal as refusal:
            error = {"reason": refusal.reason, "message": str(refusal), "domain": "global"}
            told = {"error": {"code": refusal.status, "message": str(refusal), "errors": [error]}}
            return _json(told, refusal.status)

    # Buckets

    def _create_bucket(self, request: Request) -> Answer:
        self._need("storage.buckets.create")
        resource = json.loads(request.body)
        # GS/using-object-lock: object retention is asked for when the bucket is made, and stays.
        retention = _flag(request, "enableObjectRetention")
        if retention:
            self._need("storage.buckets.enableObjectRetention")
        name = json.dumps({"name": resource["name"]}).encode()
        made = self.upstream.send(
            "POST", "/storage/v1/b?project=p", {"Content-Type": "application/json"}, name
        )
        if made.status != 200:
            return made
        self._buckets[resource["name"]] = _Bucket(resource, retention=retention)
        return self._bucket_answer(resource["name"])

    def _get_bucket(self, _: Request, bucket: str) -> Answer:
        self._need("storage.buckets.get")
        return self._bucket_answer(bucket)

    def _patch_bucket(self, request: Request, bucket: str) -> Answer:
        self._need("storage.buckets.update")
        change = json.loads(request.body)
        if "objectRetention" in change:  # GS/object-lock: it cannot be turned off
            raise _Refusal(400, "invalid", "Object retention cannot be changed on an existing bucket.")
        self._bucket(bucket).resource.update(change)
        return self._bucket_answer(bucket)

    def _delete_bucket(self, _: Request, bucket: str) -> Answer:
        self._need("storage.buckets.delete")
        # GS/deleting-buckets: only an empty bucket can go, and noncurrent generations count.
        if next(self._bucket(bucket).versions.all(), None) is not None:
            raise _Refusal(409, "conflict", "The bucket you tried to delete is not empty.")
        del self._buckets[bucket]
        return self.upstream.send("DELETE", f"/storage/v1/b/{bucket}", {})

    def _bucket_answer(self, name: str) -> Answer:
        bucket = self._bucket(name)
        told = {"kind": "storage#bucket", "id": name, "metageneration": "1", **bucket.resource}
        if bucket.retention:
            told["objectRetention"] = {"mode": "Enabled"}
        return _json(told)

    def _bucket(self, name: str) -> _Bucket:
        if name not in self._buckets:
            raise _Refusal(404, "notFound", "The specified bucket does not exist.")
        return self._buckets[name]

    # Creating

    def _upload(self, request: Request, bucket: str) -> Answer:
        condition = request.query.get("ifGenerationMatch")
        if request.query.get("uploadType") == "multipart":
            resource, content = _related(request)
            return self._create(bucket, resource, content, condition)
        if request.query.get("uploadType") != "resumable":
            raise _Refusal(501, "notImplemented", "the front knows multipart and resumable uploads")
        resource = json.loads(request.body)
        self._judge_creation(bucket, resource, condition)
        session = f"session-{len(self._sessions)}"
        self._sessions[session] = bucket, resource, condition, bytearray()
        where = f"{self.address}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
        return Answer(200, headers={"Location": where, "X-GUploader-UploadID": session})

    def _continue_upload(self, request: Request, _: str) -> Answer:
        bucket, resource, condition, received = self._sessions[request.query["upload_id"]]
        received += request.body
        if request.headers["content-range"].endswith("/*"):  # GS/performing-resumable-uploads: 308 for more
            return Answer(308, headers={"Range": f"bytes=0-{len(received) - 1}"})
        # GS/json_api/v1/objects/insert: X-Goog-Hash with the last piece is compared like crc32c.
        for part in request.headers.get("x-goog-hash", "").split(","):
            if part.startswith("crc32c="):
                resource["crc32c"] = part.removeprefix("crc32c=")
        del self._sessions[request.query["upload_id"]]
        return self._create(bucket, resource, bytes(received), condition)

    def _create(self, bucket: str, resource: dict[str, Any], content: bytes, condition: str | None) -> Answer:
        sums = {"crc32c": _crc32c(content), "md5Hash": _md5(content)}
        for kind, value in sums.items():  # GS/data-validation: a mismatch is answered with 400
            if resource.get(kind, value) != value:
                told = f'Provided {kind} "{resource[kind]}" doesn\'t match calculated {kind} "{value}".'
                raise _Refusal(400, "invalid", told)
        self._judge_creation(bucket, resource, condition)
        name, kept = resource["name"], self._bucket(bucket)
        if (before := kept.versions.current(name)) is not None:
            self._retire(bucket, before)
        target = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        stored = self.upstream.send("POST", target, {"Content-Type": "application/octet-stream"}, content)
        if stored.status != 200:
            return stored
        # Generations grow; they are no times, although they look like microseconds.
        self._generation = max(self._generation + 1, self.clock() * 1_000_000)
        made = Version(name, str(self._generation), self.clock(), len(content))
        made.mode, made.retain_until = _retention(resource)
        kept.versions.add(made)
        kept.facts[made.version] = sums
        return self._object_answer(bucket, made)

    def _judge_creation(self, bucket: str, resource: dict[str, Any], condition: str | None) -> None:
        self._about = resource["name"]
        self._need("storage.objects.create")
        kept = self._bucket(bucket)
        mode, until = _retention(resource)
        if mode is not None:
            self._need("storage.objects.setRetention")  # GS/json_api/v1/objects/insert
            self._judge_retention(kept, mode, until)
        before = kept.versions.current(resource["name"])
        # GS/request-preconditions: 0 looks at the live object alone; 412 conditionNotMet.
        if condition is not None and int(condition) != (0 if before is None else int(before.version)):
            raise _Refusal(412, "conditionNotMet", "At least one of the pre-conditions did not hold.")
        if before is not None:
            self._need("storage.objects.delete")  # GS/json_api/v1/objects/insert: to replace an object
            if not kept.versioned:  # GS/object-lock: with versioning the live one becomes noncurrent
                self._judge_removal(before)

    def _judge_retention(self, bucket: _Bucket, mode: str, until: int | None) -> None:
        if not bucket.retention:  # GS/object-lock: only in buckets that were made for it
            raise _Refusal(400, "invalid", "Object retention is not enabled on this bucket.")
        if mode not in {"Locked", "Unlocked"} or until is None:
            raise _Refusal(400, "invalid", "A retention has a mode and a time.")
        if not self.clock() < until <= self.clock() + _LONGEST_S:
            raise _Refusal(400, "invalid", "The retention must end in the future, within 100 years.")

    # Reading

    def _get(self, request: Request, bucket: str, name: str) -> Answer:
        self._need("storage.objects.get")
        version = self._version(request, bucket, name)
        if request.query.get("alt") != "media":
            return self._object_answer(bucket, version)
        content = self._content(bucket, version)
        sums = self._bucket(bucket).facts[version.version]
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Goog-Generation": version.version,
            "X-Goog-Hash": f"crc32c={sums['crc32c']},md5={sums['md5Hash']}",
        }
        if (wanted := request.headers.get("range")) is None:
            return Answer(200, content, headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        end = min(int(last), len(content) - 1) if first and last else len(content) - 1
        if start >= len(content):  # RFC 9110, 15.5.17
            return Answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return Answer(206, content[start : end + 1], headers)

    def _list(self, request: Request, bucket: str) -> Answer:
        self._need("storage.objects.list")
        rows = [
            version
            for version in self._bucket(bucket).versions.all(request.query.get("prefix", ""))
            if version.current or _flag(request, "versions")
        ]
        start = int(request.query.get("pageToken") or 0)
        end = start + min(int(request.query.get("maxResults") or _PAGE), _PAGE)
        told: dict[str, Any] = {"kind": "storage#objects"}
        told["items"] = [self._resource(bucket, version) for version in rows[start:end]]
        if end < len(rows):
            told["nextPageToken"] = str(end)
        return _json(told)

    # Changing and deleting

    def _patch(self, request: Request, bucket: str, name: str) -> Answer:
        self._need("storage.objects.update")
        version, change = self._version(request, bucket, name), json.loads(request.body)
        if "retention" in change:
            self._need("storage.objects.setRetention")
            override = _flag(request, "overrideUnlockedRetention")
            if override:
                self._need("storage.objects.overrideUnlockedRetention")
            self._change_retention(self._bucket(bucket), version, change, override=override)
        return self._object_answer(bucket, version)

    def _change_retention(
        self, bucket: _Bucket, version: Version, change: dict[str, Any], *, override: bool
    ) -> None:
        mode, until = _retention(change)
        held = version.retained(self.clock())
        shorter = until is None or (version.retain_until or 0) > until
        # GS/object-lock: Locked is frozen, its time only grows. Unlocked grows freely; to remove, shorten
        # or lock it takes the override.
        if held and version.mode == "Locked" and (mode != "Locked" or shorter):
            raise _Refusal(403, "retentionPolicyNotMet", "A locked retention can only be extended.")
        weak = held and version.mode == "Unlocked"
        if weak and not override and (mode != "Unlocked" or shorter):
            raise _Refusal(403, "retentionPolicyNotMet", "This needs overrideUnlockedRetention.")
        if mode is not None and (mode, until) != (version.mode, version.retain_until):
            self._judge_retention(bucket, mode, until)
        version.mode, version.retain_until = mode, until

    def _delete(self, request: Request, bucket: str, name: str) -> Answer:
        self._need("storage.objects.delete")
        kept, version = self._bucket(bucket), self._version(request, bucket, name)
        # GS/object-versioning: without a generation the live one becomes noncurrent; with one it is gone.
        if "generation" in request.query or not kept.versioned:
            self._judge_removal(version)
            if version.current:
                self._drop(bucket, version)
            kept.versions.remove(version)
        else:
            self._retire(bucket, version)
        return Answer(204)

    def _judge_removal(self, version: Version) -> None:
        # GS/json_api/v1/status-codes: 403 with these reasons
        if version.hold:
            raise _Refusal(403, "objectUnderActiveHold", f"Object '{version.name}' is under active hold.")
        if version.retained(self.clock()):
            told = f"Object '{version.name}' is subject to its retention until {_time(version.retain_until)}."
            raise _Refusal(403, "retentionPolicyNotMet", told)

    # Helpers

    def _need(self, permission: str) -> None:
        if not self.permits(
            Ask(permission, self._about)
        ):  # GS/json_api/v1/status-codes: the message names the permission
            told = f"the caller does not have {permission} access to the Google Cloud Storage resource."
            raise _Refusal(403, "forbidden", told)

    def _version(self, request: Request, bucket: str, name: str) -> Version:
        found = self._bucket(bucket).versions.find(name, request.query.get("generation"))
        if found is None:
            raise _Refusal(404, "notFound", f"No such object: {bucket}/{name}")
        return found

    def _content(self, bucket: str, version: Version) -> bytes:
        if version.data is not None:
            return version.data
        target = f"/storage/v1/b/{bucket}/o/{quote(version.name, safe='')}?alt=media"
        return self.upstream.send("GET", target, {}).body

    def _retire(self, bucket: str, version: Version) -> None:
        """Make a live generation noncurrent, or forget it in a bucket without versions."""
        kept = self._bucket(bucket)
        version.data = self._content(bucket, version)
        self._drop(bucket, version)
        version.current = False
        if not kept.versioned:
            kept.versions.remove(version)

    def _drop(self, bucket: str, version: Version) -> None:
        """Let the emulator forget a live object."""
        self.upstream.send("DELETE", f"/storage/v1/b/{bucket}/o/{quote(version.name, safe='')}", {})

    def _object_answer(self, bucket: str, version: Version) -> Answer:
        return _json(self._resource(bucket, version))

    def _resource(self, bucket: str, version: Version) -> dict[str, Any]:
        told: dict[str, Any] = {
            "kind": "storage#object",
            "name": version.name,
            "bucket": bucket,
            "generation": version.version,
            "metageneration": "1",
            "size": str(version.size_bytes),
            "timeCreated": _time(version.created_at),
            "updated": _time(version.created_at),
            **self._bucket(bucket).facts[version.version],
        }
        if not version.current:
            told["timeDeleted"] = _time(version.created_at)
        if version.mode is not None:
            told["retention"] = {"mode": version.mode, "retainUntilTime": _time(version.retain_until)}
            told["retentionExpirationTime"] = _time(version.retain_until)
        return told


def _flag(request: Request, name: str) -> bool:
    """Google's client writes flags as Python does."""
    return request.query.get(name, "").lower() == "true"


def _related(request: Request) -> tuple[dict[str, Any], bytes]:
    """The two parts of a multipart/related upload (RFC 2387): the resource, and the bytes."""
    boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    _, first, second, _ = request.body.split(b"--" + boundary)
    return json.loads(first.partition(b"\r\n\r\n")[2]), second.partition(b"\r\n\r\n")[2][:-2]


def _retention(resource: dict[str, Any]) -> tuple[str | None, int | None]:
    told = resource.get("retention") or {}
    until = told.get("retainUntilTime")
    return told.get("mode"), None if until is None else int(datetime.fromisoformat(until).timestamp())


def _time(unix_seconds: int | None) -> str:
    return datetime.fromtimestamp(unix_seconds or 0, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _crc32c(content: bytes) -> str:
    import google_crc32c

    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _json(told: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(told).encode(), {"Content-Type": "application/json; charset=UTF-8"})
