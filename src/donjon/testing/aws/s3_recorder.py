"""Writes down what is asked of a server of S3 and KMS, by whom, and which permissions of AWS that takes.

It reads the requests themselves and knows nothing of Donjon's own tables, so that these can be held against
it.
Source of the permissions: the table "Actions defined by Amazon S3" in the Service Authorization Reference,
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html, and the page of each
operation in https://docs.aws.amazon.com/AmazonS3/latest/API/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from donjon.core.clock import Clock, system_clock
from donjon.testing.front import Answer, Front, Request, Upstream

_SIGNER = re.compile(r"Credential=([^/,]+)/")
#: Settings of a bucket, by the parameter that names them in a request for reading.
_SETTINGS = {
    "object-lock": "s3:GetBucketObjectLockConfiguration",
    "versioning": "s3:GetBucketVersioning",
    "publicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "policy": "s3:GetBucketPolicy",
    "location": "s3:GetBucketLocation",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: whose, what it takes, on which key (empty: the bucket) and whether it was allowed."""

    access_key: str
    permissions: tuple[str, ...]
    key: str
    allowed: bool


class S3Recorder(Front):
    """Passes everything on as it came, signed for this address, and keeps a list.

    ``clock`` dates the answers, and must be that of the server.
    """

    def __init__(self, upstream: Upstream, clock: Clock = system_clock) -> None:
        super().__init__(upstream, clock)
        self.asked: list[Asked] = []

    def handle(self, request: Request) -> Answer:
        """Pass on one request."""
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        answer = self.upstream.send(request.method, request.target, headers, request.body)
        signer = _SIGNER.search(request.headers.get("authorization", ""))
        permissions, key = needed(request)
        found = Asked(signer[1] if signer else "", permissions, key, answer.status != 403)
        with self.mutex:
            self.asked.append(found)
        return answer


def needed(request: Request) -> tuple[tuple[str, ...], str]:
    """The permissions that a request takes, and the key it is about."""
    if target := request.headers.get("x-amz-target"):  # KMS names the operation, and each is a permission
        return (f"kms:{target.rpartition('.')[2]}",), ""
    _, bucket, *rest = request.path.split("/", 2)
    key = rest[0] if rest else ""
    if not bucket:
        return (f"service {request.method}",), ""
    if not key:
        return (_of_bucket(request),), ""
    return _of_object(request), key


def _of_bucket(request: Request) -> str:
    if request.method == "HEAD":
        return "s3:ListBucket"
    if request.method == "GET":
        for parameter, permission in _SETTINGS.items():
            if parameter in request.query:
                return permission
        return "s3:ListBucketVersions" if "versions" in request.query else "s3:ListBucket"
    return f"bucket {request.method} {sorted(request.query)}"


def _of_object(request: Request) -> tuple[str, ...]:
    version = "Version" if "versionId" in request.query else ""
    others = set(request.query) - {"versionId", "x-id"}
    if request.method == "PUT" and "retention" in others:
        return ("s3:PutObjectRetention",)
    if others:
        return (f"object {request.method} {sorted(others)}",)
    if request.method == "PUT":
        locked = "x-amz-object-lock-mode" in request.headers
        return ("s3:PutObject", "s3:PutObjectRetention") if locked else ("s3:PutObject",)
    if request.method == "GET":
        return (f"s3:GetObject{version}",)
    if request.method == "HEAD":  # who may not see the lock gets an answer without it
        return (f"s3:GetObject{version}", "s3:GetObjectRetention")
    return (f"s3:DeleteObject{version}",)
