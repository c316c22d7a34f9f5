"""An SSH connection with SFTP channels for many threads, which comes back after it was cut."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from donjon.core.addresses import split_address
from donjon.core.errors import (
    DonjonError,
    KeyNotAvailable,
    PermissionMissing,
    Refused,
    StoreUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    import paramiko

#: OpenSSH allows 10 sessions on a connection (``MaxSessions``) unless told otherwise.
_MAX_CHANNELS = 8
_CONNECT_TIMEOUT_S = 30.0
#: How long the server may leave a request without any answer.
_ANSWER_TIMEOUT_S = 120.0
_KEEPALIVE_S = 30
_SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True, slots=True)
class SftpAddress:
    """The parts of ``sftp://[user@]host[:port]/path``; ``/~/path`` is below the user's home."""

    host: str
    port: int
    user: str | None
    path: str

    @classmethod
    def parse(cls, url: str) -> SftpAddress:
        """The address in ``url``. Raises ``UsageError`` if it has no host or path, or has a password."""
        parts = split_address(url)
        port = parts.port or 22
        path = unquote(parts.path).rstrip("/")
        if parts.scheme != "sftp" or not parts.hostname or not path or parts.query or parts.fragment:
            raise UsageError(f"{url!r} is no SFTP address", hint="Write sftp://user@host:port/path.")
        if parts.password is not None:
            raise UsageError("passwords in addresses end up in logs", hint="Use an SSH key or agent instead.")
        user = unquote(parts.username) if parts.username else None
        return cls(parts.hostname, port, user, path.removeprefix("/~/"))

    @property
    def server(self) -> str:
        """``user@host:port`` for messages."""
        return f"{self.user}@{self.host}:{self.port}" if self.user else f"{self.host}:{self.port}"


class SftpConnection:
    """Channels of one SSH connection, made when they are needed.

    The server's key must be in the user's or the system's ``known_hosts``; nothing is ever added to it.
    The user is known by the key in ``identity``, else by those of the agent and of ``~/.ssh``.
    """

    def __init__(
        self, address: SftpAddress, *, identity: Path | None = None, known_hosts: Path | None = None
    ) -> None:
        """``identity`` is by default the file that the variable ``DONJON_SFTP_IDENTITY`` names."""
        from_environment = os.environ.get("DONJON_SFTP_IDENTITY")
        self.address = address
        self._identity = identity or (Path(from_environment).expanduser() if from_environment else None)
        self._known_hosts = known_hosts
        self._client: paramiko.SSHClient | None = None
        self._idle: list[paramiko.SFTPClient] = []
        self._mutex = threading.Lock()
        self._slots = threading.BoundedSemaphore(_MAX_CHANNELS)

    @contextlib.contextmanager
    def channel(self) -> Iterator[paramiko.SFTPClient]:
        """A channel for the calling thread alone, for as long as the body runs.

        Raises ``StoreUnavailable`` if the connection cannot be had or breaks in the body; the next call
        connects anew. Errors that the server answers come as paramiko raises them (``OSError``).
        """
        ssh = _load_paramiko()
        with self._slots:
            sftp = self._take()
            sound = False
            try:
                yield sftp
                sound = True
            except DonjonError:
                sound = True
                raise
            except (EOFError, TimeoutError, ConnectionError, ssh.SSHException) as error:
                self._drop(sftp.get_channel().get_transport())
                raise self._cut(error) from error
            except OSError as error:
                if not _is_open(sftp):
                    self._drop(sftp.get_channel().get_transport())
                    raise self._cut(error) from error
                # Answers to requests that were sent ahead may be left in a channel after any other error.
                sound = error.errno is not None
                raise
            finally:
                if sound:
                    self._give_back(sftp)
                else:
                    with contextlib.suppress(Exception):
                        sftp.close()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._mutex:
            client, self._client = self._client, None
            self._idle.clear()
        if client is not None:
            client.close()

    def _take(self) -> paramiko.SFTPClient:
        ssh = _load_paramiko()
        with self._mutex:
            if self._client is not None and not _is_active(self._client):
                self._client.close()
                self._client = None
            if self._client is None:
                self._idle.clear()
                self._client = self._connect(ssh)
            while self._idle:
                sftp = self._idle.pop()
                if _is_open(sftp):
                    return sftp
            client = self._client
        # Outside the lock: it is a round trip, and others may want an idle channel meanwhile.
        try:
            sftp = client.open_sftp()
            sftp.get_channel().settimeout(_ANSWER_TIMEOUT_S)
        except (EOFError, OSError, ssh.SSHException) as error:
            if not isinstance(error, ssh.ChannelException):  # the server allows fewer sessions
                self._drop(client.get_transport())
            raise self._cut(error) from error
        return sftp

    def _give_back(self, sftp: paramiko.SFTPClient) -> None:
        with self._mutex:
            if (
                self._client is not None
                and sftp.get_channel().get_transport() is self._client.get_transport()
            ):
                self._idle.append(sftp)
                return
        sftp.close()

    def _drop(self, transport: paramiko.Transport | None) -> None:
        """Forget a connection that broke, before paramiko itself has noticed."""
        with self._mutex:
            if self._client is not None and self._client.get_transport() in {None, transport}:
                self._client.close()
                self._client = None

    def _connect(self, ssh: Any) -> paramiko.SSHClient:
        client = ssh.SSHClient()
        address = self.address
        try:
            self._load_known_hosts(client)
            client.set_missing_host_key_policy(_RefuseUnknownHost(address))
            client.connect(
                address.host,
                address.port,
                address.user,
                key_filename=os.fspath(self._identity) if self._identity else None,
                look_for_keys=self._identity is None,
                timeout=_CONNECT_TIMEOUT_S,
                banner_timeout=_CONNECT_TIMEOUT_S,
                auth_timeout=_CONNECT_TIMEOUT_S,
            )
            client.get_transport().set_keepalive(_KEEPALIVE_S)
        except BaseException as error:
            client.close()
            if isinstance(error, DonjonError) or not isinstance(error, Exception):
                raise
            raise self._connect_error(ssh, error) from error
        return client

    def _load_known_hosts(self, client: paramiko.SSHClient) -> None:
        if self._known_hosts is not None:
            client.load_system_host_keys(os.fspath(self._known_hosts))
            return
        client.load_system_host_keys()
        if _SYSTEM_KNOWN_HOSTS.exists():
            client.load_system_host_keys(os.fspath(_SYSTEM_KNOWN_HOSTS))

    def _connect_error(self, ssh: Any, error: Exception) -> DonjonError:
        server = self.address.server
        if isinstance(error, ssh.BadHostKeyException):
            return Refused(
                f"{server} shows another host key than known_hosts has: {error.key.fingerprint}",
                hint="Ask the server's administrator. If the key was changed on purpose, remove the old one "
                f"with: ssh-keygen -R '{_known_name(self.address)}'",
            )
        if isinstance(error, ssh.PasswordRequiredException):
            return KeyNotAvailable(
                f"the SSH key for {server} is encrypted", hint="Load it into an agent: ssh-add FILE"
            )
        if isinstance(error, ssh.AuthenticationException):
            return PermissionMissing(
                f"cannot log in to {server}: {error}",
                hint="Name the private key in DONJON_SFTP_IDENTITY or load it with ssh-add, and put its "
                "public half into the server's authorized_keys.",
            )
        if isinstance(error, (FileNotFoundError, PermissionError)):
            return KeyNotAvailable(
                f"cannot read {error.filename}: {error.strerror}",
                hint="Look at DONJON_SFTP_IDENTITY and at the modes of ~/.ssh.",
            )
        return self._cut(error)

    def _cut(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"no connection to {self.address.server}: {str(error) or type(error).__name__}",
            hint="Look at the address, the network and the server's log, then try again.",
        )


class _RefuseUnknownHost:
    """What paramiko asks about a host whose key it does not know."""

    def __init__(self, address: SftpAddress) -> None:
        self._address = address

    def missing_host_key(self, _client: object, _hostname: str, key: Any) -> None:
        host, port = self._address.host, self._address.port
        raise Refused(
            f"the host key of {host}:{port} is unknown: {key.get_name()} {key.fingerprint}",
            hint="Compare this fingerprint with the one that the server's administrator gives you, then run: "
            f"ssh-keyscan -p {port} {host} >> ~/.ssh/known_hosts",
        )


def _known_name(address: SftpAddress) -> str:
    return address.host if address.port == 22 else f"[{address.host}]:{address.port}"


def _is_active(client: paramiko.SSHClient) -> bool:
    transport = client.get_transport()
    return transport is not None and transport.is_active()


def _is_open(sftp: paramiko.SFTPClient) -> bool:
    channel = sftp.get_channel()
    return not channel.closed and channel.get_transport().is_active()


def _load_paramiko() -> Any:
    """The SDK. Raises ``UsageError`` if it is not installed."""
    try:
        import paramiko  # here, for it takes longer to load than `donjon --version` may
    except ImportError as error:
        raise UsageError(
            "SFTP needs a package that is not installed", hint="Run: pip install 'donjon[sftp]'"
        ) from error
    # It logs tracebacks of broken connections, which Python prints if no handler is there.
    logger = logging.getLogger("paramiko")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return paramiko
