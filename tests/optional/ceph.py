"""A Ceph of one monitor, one OSD in memory and one RADOS gateway, on this machine.

From Debian's packages ceph-mon, ceph-osd, ceph-common and radosgw. Nothing is authenticated inside the
cluster, which listens on loopback only; the gateway knows one user.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from donjon.testing.aws.people import User
from donjon.testing.servers.ports import free_port

_USER = User("admin", "admin", "adminsecret")
_START_TIMEOUT_S = 60.0
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{port}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
# The gateway wants secrecy by default, which nobody can give without keys.
ms mon client mode = crc
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
keyring = {folder}/keyring
pid file =
"""


@dataclass(frozen=True, slots=True)
class Ceph:
    """A running gateway."""

    endpoint: str
    user: User = _USER

    def make_bucket(self) -> str:
        """A new bucket with Object Lock; its name."""
        name = f"b{secrets.token_hex(8)}"
        self.user.client("s3", self.endpoint).create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        return name

    def url(self, bucket: str, prefix: str = "") -> str:
        """The address of a store in a bucket."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}"


@contextlib.contextmanager
def ceph(folder: Path) -> Iterator[Ceph]:
    """Run a cluster whose files are in ``folder`` until the body ends. Raises ``RuntimeError``."""
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    (folder / "keyring").touch()
    fsid, osd, port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
    configuration = folder / "ceph.conf"
    configuration.write_text(_CONFIGURATION.format(fsid=fsid, port=port, folder=folder))
    environment = os.environ | {"CEPH_CONF": str(configuration)}

    def run(*command: str) -> None:
        try:
            subprocess.run(
                command, env=environment, check=True, capture_output=True, timeout=_START_TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", b"") or b""
            message = f"Ceph did not start: {error} {output.decode(errors='replace')}"
            raise RuntimeError(message) from error

    monitors = str(folder / "monmap")
    gateway = free_port()
    with contextlib.ExitStack() as stack:

        def start(*command: str) -> None:
            with (folder / f"{command[0]}.out").open("ab") as out:
                process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.kill)

        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", monitors)
        run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors)
        start("ceph-mon", "-i", "a", "-f")
        run("ceph", "--connect-timeout", "30", "osd", "new", osd)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        start("ceph-osd", "-i", "0", "-f")
        start("radosgw", "-f", "-n", "client.rgw.a", f"--rgw_frontends=beast endpoint=127.0.0.1:{gateway}")
        keys = (f"--access-key={_USER.access_key}", f"--secret-key={_USER.secret_key}")
        run("radosgw-admin", "user", "create", f"--uid={_USER.name}", "--display-name=admin", *keys)
        server = Ceph(f"http://127.0.0.1:{gateway}")
        _wait(server)
        yield server


def _wait(server: Ceph) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urlopen(server.endpoint, timeout=5):  # noqa: S310
            return
        time.sleep(0.1)
    message = "the gateway of Ceph did not start"
    raise RuntimeError(message)
