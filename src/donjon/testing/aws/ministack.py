"""AWS on this machine, as several accounts: MiniStack, in an environment of its own (tools/side-venv.sh).

What it enforces was tried: policies of users, roles, buckets and KMS keys with Allow, Deny and conditions,
permission boundaries, session policies, ExternalId, and the locks of S3. The root of an account is exempt
from bucket and key policies. It keeps everything in memory, and knows no checksums of a composed upload.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from donjon.testing.aws.people import User
from donjon.testing.servers.ports import free_port, wait_for_answer

#: The accounts of the tests: what is attacked from, and what is attacked.
PRODUCTION: str = "111111111111"
BACKUP: str = "222222222222"
#: Where tools/side-venv.sh installs it, below the folder that the tests run in.
_INSTALLED = Path(".tools/ministack/bin/ministack")
_SECRET = "of-every-account"  # noqa: S105 - of a server that lives as long as a test
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class MiniStack:
    """A running server."""

    endpoint: str
    #: Holds by how much the server's clock is ahead; None where it runs with everybody's.
    clock_file: Path | None = None

    def set_days_later(self, days: int) -> None:
        """Let it be so many days later for the server than for everybody else."""
        assert self.clock_file is not None
        self.clock_file.write_text(f"+{days}d\n")

    def root(self, account: str = BACKUP) -> User:
        """The root user of an account; the account comes to be with its first use."""
        return User(f"root of {account}", account, _SECRET)

    def client(self, service: str, user: User | None = None, region: str = "us-east-1") -> Any:
        """A plain client of the SDK, by default for the root of the backup account."""
        return (user or self.root()).client(service, self.endpoint, region)

    def make_user(self, policy: Mapping[str, Any], account: str = BACKUP) -> User:
        """A new user who may do what a policy of IAM allows, and nothing else."""
        name = f"u{secrets.token_hex(8)}"
        iam = self.client("iam", self.root(account))
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return User(name, key["AccessKeyId"], key["SecretAccessKey"])

    def make_bucket(self, account: str = BACKUP, *, locks: bool = True) -> str:
        """A new bucket, with Object Lock and therefore versions unless told otherwise; its name."""
        name = f"b{secrets.token_hex(8)}"
        client = self.client("s3", self.root(account))
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locks)
        return name

    def url(self, bucket: str, prefix: str = "") -> str:
        """The address of a store in a bucket."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}"


@contextlib.contextmanager
def ministack(folder: Path, *, moves_clock: bool = False) -> Iterator[MiniStack]:
    """Run a server that logs into ``folder`` until the body ends; policies are enforced.

    With ``moves_clock`` its days can pass by ``set_days_later``, so that locks end; libfaketime does it.

    Raises ``RuntimeError`` if it is missing or does not start: a suite that needs it must fail, not be
    skipped.
    """
    if not _INSTALLED.exists():
        message = "MiniStack is missing; install it with: tools/side-venv.sh python3 ministack"
        raise RuntimeError(message)
    port = free_port()
    environment = os.environ | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "AUTH": "true",
        "CLOUDTRAIL_RECORDING": "1",
        "AWS_ACCESS_KEY_ID": "0" * 12,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "TMPDIR": str(folder),
    }
    clock_file = folder / "clock" if moves_clock else None
    if clock_file is not None:
        clock_file.write_text("+0d\n")
        environment |= {"LD_PRELOAD": str(_faketime()), "FAKETIME_TIMESTAMP_FILE": str(clock_file)}
        environment |= {"FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    log = folder / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            [str(_INSTALLED.absolute())], env=environment, stdout=out, stderr=out, cwd=folder
        )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        health = f"{endpoint}/_ministack/health"
        wait_for_answer(process, health, time.monotonic() + _START_TIMEOUT_S, log)
        yield MiniStack(endpoint, clock_file)
    finally:
        process.kill()
        process.wait()


def _faketime() -> Path:
    """The library that the command ``faketime`` loads. Raises ``RuntimeError`` if it is missing."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        message = "libfaketime is missing; install Debian's package faketime"
        raise RuntimeError(message)
    return found[0]
