"""Tells systemd how a service is: sd_notify(3), which is a datagram to a socket."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify(environment: Mapping[str, str], *lines: str) -> bool:
    """Tell the service manager; False if there is none. A manager that does not listen is none."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # in the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            client.connect(address)
            client.sendall("\n".join(lines).encode())
    except OSError:
        return False
    return True
