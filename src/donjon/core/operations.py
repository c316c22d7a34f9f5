"""What adapters ask of a provider, and the permissions that it takes.

Each adapter has a table of these beside its calls. Policies of roles are made from the tables, and errors
name the permission from them, so that neither can lag behind the code.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request: the SDK's name of it, what it does in words, and the permissions it takes.

    ``optional`` permissions make an answer fuller; without them the request succeeds all the same.
    ``of_bucket`` means that it is about the bucket or container and not about one object.
    """

    method: str
    action: str
    permissions: tuple[str, ...]
    optional: tuple[str, ...] = ()
    of_bucket: bool = False

    @property
    def all_permissions(self) -> tuple[str, ...]:
        """What a role gets that is to have whole answers."""
        return self.permissions + self.optional

    @property
    def creates(self) -> bool:
        """Whether it puts a new object."""
        return self.action.startswith("create")
