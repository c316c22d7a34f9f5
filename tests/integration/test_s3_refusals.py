"""What a server refuses in the middle of work, or before it: keys, permissions, caps, regions."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.front import Answer, Front, Request, Upstream, serving
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon, end, end_well
from tests.integration.engine import fill
from tests.integration.s3_roles import PREFIX, As, Roles, rendered

PACK_KEYS = f"{PREFIX}/packs/"


@pytest.fixture
def roles(s3_server: SeaweedFs, host: Donjon) -> Roles:
    return Roles.make(s3_server, host)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 30, 1, size_bytes=20_000)
    return folder


def _packs(roles: Roles) -> set[str]:
    client = roles.server.client()
    found = client.list_object_versions(Bucket=roles.bucket, Prefix=PACK_KEYS)
    return {version["Key"] for version in found.get("Versions", ())}


def _assert_restores(roles: Roles, source: Path) -> None:
    reader = roles.reader()
    target = reader.folder / "restored"
    reader.run("restore", f"latest:{source}", target, "--vault", roles.url)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []


# --- half-way ---------------------------------------------------------------------------------------


def _take_key(roles: Roles, writer: As) -> Callable[[], As]:
    """Remove the key; what comes back gives another one."""
    assert writer.user is not None
    user = writer.user
    roles.server.drop_key(user)
    return lambda: replace(writer, user=roles.server.make_key(user))


def _take_permission(roles: Roles, writer: As) -> Callable[[], As]:
    """Forbid puts in the policy of the bucket; what comes back allows them again."""
    client = roles.server.client()
    client.put_bucket_policy(Bucket=roles.bucket, Policy=json.dumps(_forbid_puts(roles.bucket)))

    def give_back() -> As:
        client.delete_bucket_policy(Bucket=roles.bucket)
        return writer

    return give_back


def _forbid_puts(bucket: str) -> dict[str, Any]:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize(
    ("take", "said"),
    [(_take_key, "the credentials are not accepted"), (_take_permission, "no permission s3:PutObject")],
)
def test_what_is_taken_away_half_way_ends_with_11_and_the_next_run_goes_on(
    roles: Roles, source: Path, take: Callable[[Roles, As], Callable[[], As]], said: str
) -> None:
    writer = roles.writer("web1")
    part = random.Random(5).randbytes(70_000_000)  # more than one pack
    process = writer.start("backup", "--stdin", "stream", stream=subprocess.PIPE)
    try:
        assert process.stdin
        process.stdin.write(part)  # the backup waits for the rest, so it cannot be done before
        process.stdin.flush()
        _wait_for_pack(roles, process)
        give_back = take(roles, writer)
        with suppress(BrokenPipeError):
            process.stdin.write(part[::-1])
        _, errors = end_well(process)
    finally:
        end(process)
    assert process.returncode == 11, errors
    lines = errors.decode().splitlines()
    assert len(lines) == 2, lines
    assert said in lines[0]
    before = _packs(roles)
    assert before
    again = give_back()
    again.run("backup", "--stdin", "stream", input_bytes=part + part[::-1])
    again.run("backup", source)
    assert before < _packs(roles)
    assert len(_packs(roles)) <= 6  # 140 MB and the small tree, and nothing twice
    _assert_restores(roles, source)


def _wait_for_pack(roles: Roles, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not _packs(roles):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- before anything is sent ------------------------------------------------------------------------


def test_a_policy_that_forbids_the_lock_ends_with_11_before_data_is_sent(roles: Roles, source: Path) -> None:
    """As a cap does that was lowered after the vault was made."""
    writer = roles.writer("web1")
    give_back = _take_permission(roles, writer)
    lines = writer.run("backup", source, code=11).stderr.decode().splitlines()
    assert len(lines) == 2, lines
    assert "s3:PutObject and s3:PutObjectRetention" in lines[0]
    assert "a policy may cap how long objects can be locked" in lines[1]
    assert _packs(roles) == set()
    give_back().run("backup", source)
    _assert_restores(roles, source)


def test_a_lock_over_the_cap_that_is_rendered_is_refused_before_the_vault_is_made(
    s3_server: SeaweedFs, host: Donjon
) -> None:
    bucket = s3_server.make_bucket()
    policy = rendered(bucket)["bucket"]
    policy["Statement"] = policy["Statement"][:2]  # the third wants TLS, which the server here has not
    s3_server.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    url = s3_server.url(bucket)
    too_long = host.run(
        "init", "--single-recipient", url, "--create", "--kit", host.kit, "--lock", "90d", code=1
    )
    assert b"allows locks of at most 32 days, and this vault needs 91" in too_long.stderr
    assert not host.kit.exists()
    assert "Versions" not in s3_server.client().list_object_versions(Bucket=bucket)


class Elsewhere(Front):
    """A bucket in another region than the one that the client thinks of.

    "If the request is signed for the wrong region", S3 answers 301 with the right one in
    ``x-amz-bucket-region``, or 400 AuthorizationHeaderMalformed:
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTRedirect.html
    """

    region = "eu-west-9"

    def handle(self, request: Request) -> Answer:
        """See the class."""
        if f"/{self.region}/s3/" not in request.headers["authorization"]:
            body = f"<Error><Code>PermanentRedirect</Code><Region>{self.region}</Region></Error>".encode()
            headers = {"x-amz-bucket-region": self.region, "content-type": "application/xml"}
            return Answer(301, body, headers)
        return self.upstream.send(request.method, request.target, request.headers, request.body)


def test_a_bucket_in_another_region_is_found_there(s3_server: SeaweedFs, host: Donjon, source: Path) -> None:
    front = Elsewhere(Upstream(s3_server.ports["s3"]), lambda: int(time.time()))
    with serving(front) as url:
        bucket = s3_server.make_bucket()
        for region in ("us-east-1", "eu-west-9"):
            kit = host.folder / f"{region}.kit"
            host.run(
                "init",
                "--single-recipient",
                f"s3://{bucket}/{region}?endpoint={url}&region={region}",
                "--create",
                "--kit",
                kit,
            )
            host.run("backup", source, "--vault", region)
            assert host.json("verify", "--vault", region, "--kit", kit, "--data", "100")["ok"]
