"""Changing a credential, so that a crash at any point leaves one that works, and a second run goes on.

What has to survive a crash is one small file beside the place, mode 0600:

1. before anything is created: which credentials there are. So one that is there later, and was never used, is
   the one whose secret was lost with a reply;
2. after the service made the new one: its id and its secret, which are told once only;
3. the place holds the new one, and it was tried: the old one is switched off, and the file goes.

A kill before 2 leaves the old one in its place; the next run removes what was lost and begins anew. After 2
the next run goes on with the secret that was kept. The old one is switched off only when the place holds
the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from donjon.core.errors import CredentialsRejected, KeyNotAvailable, Refused
from donjon.credentials.base import Credential, CredentialService, NewSecret, Place
from donjon.keys.private import replace_private

_MAX_FILE_BYTES = 64 << 10
#: A new credential of a cloud is known everywhere after some seconds; AWS calls it eventual consistency:
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency
_WAITS_S = (1, 2, 4, 8, 15)


class _State(msgspec.Struct):
    """What a rotation remembers. ``secret`` is empty until the new credential is made."""

    kind: str
    old: str
    known: tuple[str, ...]
    started_at: int
    new: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        return f"_State({self.kind!r}, {self.old!r}, {self.new!r})"


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. ``remains`` says what is still to be done, for people."""

    old: str
    new: str
    place: str
    resumed: bool
    disabled: bool
    removed: tuple[str, ...] = ()
    remains: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Retired:
    """What was deleted, and what waits until when (Unix seconds)."""

    deleted: tuple[str, ...]
    waiting: tuple[tuple[str, int], ...]


class Rotation:
    """The rotation of the credential that one place holds."""

    def __init__(
        self,
        service: CredentialService,
        place: Place,
        *,
        clock: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        self._service = service
        self._place = place
        self._clock = clock
        self._sleep = sleep
        path = Path(place.path)
        self._path = path.with_name(f".{path.name}.donjon-rotation")

    def rotate(self) -> Rotated:
        """Put a new credential in the place of the old one.

        Raises ``Refused`` if there is no room for a new one, and what the service raises. Nothing is
        switched off before the new one was tried.
        """
        state = self._read()
        removed: tuple[str, ...] = ()
        resumed = state is not None
        if state is not None and not state.new:
            removed = self._remove_lost(state)
            state = None
        if state is None:
            state = self._create()
        new = NewSecret(state.new, state.secret)
        self._try(new)
        if self._place.current() != new.id:
            self._place.put(new)
        if self._place.current() != new.id:
            msg = f"{self._place.path}: does not hold the new credential {new.id} after it was written"
            raise Refused(msg, hint="Something else writes this file. The old credential still works.")
        if self._service.can_disable:
            self._service.disable(state.old)
        self._path.unlink(missing_ok=True)
        verb = "is switched off; delete it" if self._service.can_disable else "still works; delete it"
        remains = (f"{state.old} {verb} with `donjon credentials retire` once nothing misses it",)
        return Rotated(
            state.old, state.new, self._place.path, resumed, self._service.can_disable, removed, remains
        )

    def retire(self, grace_s: int) -> Retired:
        """Delete what the credential in the place has replaced for ``grace_s`` seconds or longer.

        The time counts from when the present one was made, as no service tells when one was switched off.
        Of a service that can switch off, only what is off is deleted. Raises ``Refused`` while a rotation
        is under way or if the present credential does not work.
        """
        if self._read() is not None:
            msg = f"{self._place.path}: a rotation is under way"
            raise Refused(msg, hint="Run `donjon credentials rotate` again to finish it, then retire.")
        listed = self._service.list()
        current = self._current(listed)
        if not current.active or current.created_at is None:
            msg = f"{self._place.path}: holds {current.id}, which is switched off, or whose age nobody tells"
            raise Refused(msg, hint="Nothing is deleted before the present credential is known to work.")
        due_at = current.created_at + grace_s
        deleted, waiting = [], []
        for old in sorted(listed, key=lambda one: one.id):
            newer = old.created_at is None or old.created_at > current.created_at
            if old.id == current.id or newer or (old.active and self._service.can_disable):
                continue
            if self._clock() < due_at:
                waiting.append((old.id, due_at))
                continue
            self._service.delete(old.id)
            deleted.append(old.id)
        return Retired(tuple(deleted), tuple(waiting))

    # -- steps -----------------------------------------------------------------------------------

    def _create(self) -> _State:
        listed = self._service.list()
        old = self._current(listed)
        if self._service.most is not None and len(listed) >= self._service.most:
            others = ", ".join(one.id for one in listed if one.id != old.id)
            msg = (
                f"{old.owner} has {len(listed)} credentials, and can have no more: besides {old.id} {others}"
            )
            raise Refused(
                msg, hint="Run `donjon credentials retire`, or delete the one that nothing uses, and repeat."
            )
        state = _State(self._service.kind, old.id, tuple(sorted(one.id for one in listed)), self._clock())
        self._write(state)
        try:
            new = self._service.create()
        except Refused:
            self._path.unlink(missing_ok=True)
            raise
        state.new, state.secret = new.id, new.secret
        self._write(state)
        return state

    def _remove_lost(self, state: _State) -> tuple[str, ...]:
        """Delete the credential whose secret came with a reply that nobody kept."""
        lost = [
            one.id
            for one in self._service.list()
            if one.id not in state.known and one.last_used_at is None and not one.in_use
        ]
        if len(lost) > 1:  # then somebody else makes credentials too, and may use them
            msg = f"credentials that nobody here knows: {', '.join(lost)}"
            raise Refused(msg, hint=f"Delete those that nothing uses, remove {self._path}, and repeat.")
        for credential_id in lost:
            self._service.delete(credential_id)
        self._path.unlink(missing_ok=True)
        return tuple(lost)

    def _try(self, new: NewSecret) -> None:
        for wait_s in (*_WAITS_S, None):
            try:
                return self._service.verify(new)
            except CredentialsRejected:
                if wait_s is None:
                    raise
                self._sleep(wait_s)
        raise AssertionError

    def _current(self, listed: Sequence[Credential]) -> Credential:
        current = self._place.current()
        for one in listed:
            if one.id == current:
                return one
        msg = f"{self._place.path}: holds {current}, which the service does not list"
        raise KeyNotAvailable(msg, hint="Is it the credential of another owner? Name the right one.")

    # -- the file --------------------------------------------------------------------------------

    def _read(self) -> _State | None:
        try:
            with self._path.open("rb") as file:
                state = msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_State)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            msg = f"{self._path}: a rotation was begun, and its file cannot be read"
            hint = "Look which credentials there are, remove the file, and begin anew."
            raise KeyNotAvailable(msg, hint=hint) from error
        if state.kind != self._service.kind:
            msg = f"{self._path}: is of a rotation of {state.kind}"
            raise Refused(msg, hint="Finish that one first.")
        return state

    def _write(self, state: _State) -> None:
        with contextlib.suppress(FileNotFoundError):
            replace_private(self._path, msgspec.json.encode(state))
            return
        msg = f"{self._path.parent}: there is no such folder"
        raise KeyNotAvailable(msg, hint="Name the file that holds the credential.")
