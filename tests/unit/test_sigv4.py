"""Signatures of AWS: the documented example, and whatever botocore signs."""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from donjon.clouds.sigv4 import Signer


@dataclass
class Key:
    access_key: str = "AKIAIOSFODNN7EXAMPLE"
    secret_key: str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    token: str | None = None


def test_the_example_of_the_documentation() -> None:
    # "GET object" in https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    moment = calendar.timegm(time.strptime("20130524", "%Y%m%d"))
    signer = Signer("s3", "us-east-1", "examplebucket.s3.amazonaws.com", lambda: moment)
    told = signer.headers("/test.txt", "", {"range": "bytes=0-9"}, Key())
    assert told["authorization"].endswith(
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
#: botocore takes a path apart at dots and empty parts unless it is of S3; Donjon asks for none like that.
_PARTS = st.lists(_TEXT.filter(lambda text: text not in ("", ".", "..")), min_size=1, max_size=3)


@given(
    service=st.sampled_from(["s3", "ebs"]),
    parts=_PARTS,
    query=st.dictionaries(_TEXT, _TEXT, max_size=4),
    token=st.none() | st.from_regex(r"[A-Za-z0-9/+=]{1,40}", fullmatch=True),
    etag=st.none() | st.from_regex(r'"[0-9a-f-]{1,32}"', fullmatch=True),
    moment=st.integers(0, 4_000_000_000),
)
def test_like_botocore(
    service: str, parts: list[str], query: dict[str, str], token: str | None, etag: str | None, moment: int
) -> None:
    path = "".join("/" + quote(part, safe="~") for part in parts)
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    asked = "&".join(f"{name}={value}" for name, value in pairs)
    headers = {"if-match": etag} if etag else {}
    signer = Signer(service, "eu-west-3", "host.example:8333", lambda: moment)
    told = signer.headers(path, asked, headers, Key(token=token))

    url = "http://host.example:8333" + path + ("?" + asked if asked else "")
    request = AWSRequest("GET", url, headers={"host": "host.example:8333", **headers})
    credentials = ReadOnlyCredentials(Key.access_key, Key.secret_key, token)
    auth: Any = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, "eu-west-3")
    now = datetime.fromtimestamp(moment, UTC).replace(tzinfo=None)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        auth.add_auth(request)
    assert told == {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.parametrize("other", [{"secret_key": "another"}, {"day": 86_400}])
def test_a_new_secret_or_day_has_a_new_key(other: dict[str, Any]) -> None:
    now = [1_000_000]
    signer = Signer("s3", "eu-west-3", "host", lambda: now[0])
    first = signer.headers("/a", "", {}, Key())
    now[0] += other.pop("day", 0)
    second = signer.headers("/a", "", {}, Key(**other))
    assert first["authorization"] != second["authorization"]
    assert second == Signer("s3", "eu-west-3", "host", lambda: now[0]).headers("/a", "", {}, Key(**other))
