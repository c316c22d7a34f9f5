"""Acting as another user for a while, as a test that runs as root can."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def acting_as(user: int) -> Iterator[None]:
    """This process with the effective ids of ``user``, who is in no other group; for the whole process."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
