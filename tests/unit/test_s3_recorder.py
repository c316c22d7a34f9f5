"""What the recorder makes of requests, by the tables of AWS."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from donjon.testing.aws.s3_recorder import needed
from donjon.testing.front import Request


@pytest.mark.parametrize(
    ("line", "headers", "permissions", "key"),
    [
        ("PUT /b/k/1", {}, ("s3:PutObject",), "k/1"),
        (
            "PUT /b/k",
            {"x-amz-object-lock-mode": "COMPLIANCE"},
            ("s3:PutObject", "s3:PutObjectRetention"),
            "k",
        ),
        ("PUT /b/k?retention&versionId=1", {}, ("s3:PutObjectRetention",), "k"),
        ("GET /b/k", {}, ("s3:GetObject",), "k"),
        ("GET /b/k?versionId=1", {}, ("s3:GetObjectVersion",), "k"),
        ("HEAD /b/k?versionId=1", {}, ("s3:GetObjectVersion", "s3:GetObjectRetention"), "k"),
        ("DELETE /b/k", {}, ("s3:DeleteObject",), "k"),
        ("DELETE /b/k?versionId=1", {}, ("s3:DeleteObjectVersion",), "k"),
        ("GET /b?versions&prefix=p", {}, ("s3:ListBucketVersions",), ""),
        ("GET /b?list-type=2", {}, ("s3:ListBucket",), ""),
        ("HEAD /b", {}, ("s3:ListBucket",), ""),
        ("GET /b?object-lock", {}, ("s3:GetBucketObjectLockConfiguration",), ""),
        ("POST /", {"x-amz-target": "TrentService.Decrypt"}, ("kms:Decrypt",), ""),
        # What no role has a use for is told as what it is, and fails the comparison.
        ("PUT /b?policy", {}, ("bucket PUT ['policy']",), ""),
        ("PUT /b/k?legal-hold", {}, ("object PUT ['legal-hold']",), "k"),
        ("GET /", {}, ("service GET",), ""),
    ],
)
def test_a_request_takes_what_aws_says(
    line: str, headers: dict[str, str], permissions: tuple[str, ...], key: str
) -> None:
    method, _, target = line.partition(" ")
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    assert needed(Request(method, parts.path, query, headers, b"", target)) == (permissions, key)
