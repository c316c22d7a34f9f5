"""A real SSH server on the loopback interface, with keys of its own, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from donjon.testing.servers.ports import free_port, wait_for_port

#: Where Debian keeps what the server needs while it is not running.
_PRIVILEGE_SEPARATION = Path("/run/sshd")
_START_TIMEOUT_S = 10.0
_CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/identity.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
UseDNS no
LogLevel ERROR
MaxStartups 100
Subsystem sftp internal-sftp {options}
"""


@dataclass(frozen=True)
class SshServer:
    """A running server. ``identity`` is the private key that it lets in, as the user of this process."""

    folder: Path
    port: int
    identity: Path
    known_hosts: Path

    def url(self, path: Path) -> str:
        """The address of a folder of this machine."""
        return f"sftp://{getpass.getuser()}@127.0.0.1:{self.port}{path}"

    def session_processes(self) -> list[int]:
        """The server's processes that serve connections, by their ids."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{self.folder}/config" in _ancestors_command(int(process.name)):
                    found.append(int(process.name))
        return found


def _ancestors_command(process: int) -> str:
    """The command line of the parent of a process."""
    status = Path(f"/proc/{process}/stat").read_text()
    parent = status.rpartition(")")[2].split()[1]
    return Path(f"/proc/{parent}/cmdline").read_text().replace("\0", " ")


@contextlib.contextmanager
def ssh_server(folder: Path, options: str = "") -> Iterator[SshServer]:
    """Run a server whose keys are in ``folder`` until the body ends; ``options`` go to its SFTP part.

    Raises ``RuntimeError`` if OpenSSH is missing or does not start: a suite that needs it must fail, not
    be skipped.
    """
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        message = "sshd is missing; install it with: apt-get install openssh-server"
        raise RuntimeError(message)
    for name in ("host_key", "identity"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)  # noqa: S603 - a fixed command
    port = free_port()
    (folder / "config").write_text(_CONFIGURATION.format(port=port, folder=folder, options=options))
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    made_folder = os.geteuid() == 0 and not _PRIVILEGE_SEPARATION.exists()
    if made_folder:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
    log = (folder / "log").open("wb")
    server = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=log)  # noqa: S603
    try:
        wait_for_port(server, port, time.monotonic() + _START_TIMEOUT_S, folder / "log")
        yield SshServer(folder, port, folder / "identity", folder / "known_hosts")
    finally:
        server.terminate()
        server.wait()
        log.close()
        if made_folder:
            with contextlib.suppress(OSError):  # another server may have put something there
                _PRIVILEGE_SEPARATION.rmdir()
