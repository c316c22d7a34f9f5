"""The plan file of this host: where it is, what is in it, and which plan is in force."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from donjon.app.config import Home
from donjon.codec.digest import digest
from donjon.core.errors import DonjonError, IntegrityFailure, NotApproved, PermissionMissing, UsageError
from donjon.keys.private import create_private, private_folder, replace_private
from donjon.plan.changes import Weakening, differences, weakenings
from donjon.plan.load import load, load_form
from donjon.plan.model import Plan

FILE_NAME = "donjon.yaml"
#: A text has at most so many bytes for each character.
_MAX_BYTES = 4 << 20
_SHOWN = 5


class Adoption(msgspec.Struct, frozen=True):
    """Which plan is in force here. ``digest`` is of the file's bytes, ``adopted_at`` in Unix seconds.

    ``requests`` are the ids of all that approvers ever allowed here, so that none is taken twice.
    """

    digest: str
    adopted_at: int
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan file as it was read: its bytes, their digest, and the plan."""

    path: Path
    data: bytes
    plan: Plan

    @property
    def digest(self) -> bytes:
        """What approvers know the file by."""
        return digest(self.data)


def locate(home: Home, option: Path | None, environment: Mapping[str, str], folder: Path) -> Path:
    """The plan file that is meant: the option's, that of ``DONJON_PLAN``, in this folder, in the home folder.

    Failing all of these it is the one that was adopted. Raises ``UsageError`` if there is none.
    """
    if named := option or environment.get("DONJON_PLAN"):
        return Path(named)
    adopted = read_adoption(home)
    places = [folder / FILE_NAME, home.folder / FILE_NAME]
    places += [_kept(home, adopted)] if adopted else []
    for path in places:
        if path.is_file():
            return path
    msg = f"there is no plan: neither {places[0]} nor {places[1]}"
    raise UsageError(msg, hint="Name it with --plan FILE, or begin one with `donjon plan example`.")


def read_bytes(path: Path) -> bytes:
    """The bytes of a plan file. Raises ``UsageError``, ``PermissionMissing``."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except PermissionError as error:
        raise PermissionMissing(f"{path}: no permission to read it", hint="Look at its owner.") from error
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise UsageError(msg, hint="Name the plan with --plan FILE.") from error
    if len(data) > _MAX_BYTES:
        msg = f"{path}: is larger than any plan"
        raise UsageError(msg, hint="Name the plan with --plan FILE.")
    return data


def digest_of(data: bytes) -> str:
    """What approvers know a plan file by, in hexadecimal."""
    return digest(data).hex()


def as_text(data: bytes, path: Path) -> str:
    """The text of a plan file. Raises ``UsageError`` if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        msg = f"{path}:{line}: is not UTF-8"
        raise UsageError(msg, hint="Save the plan as UTF-8.") from error


def read_plan(path: Path) -> PlanFile:
    """A plan that can be carried out. Raises ``UsageError`` that tells all that is wrong with it."""
    data = read_bytes(path)
    return PlanFile(path, data, load(as_text(data, path), str(path)))


def plan_in_force(home: Home, path: Path) -> tuple[Plan, bytes]:
    """The plan of a file, and the digest of its bytes, if it may be carried out here.

    If a plan was adopted, another one may be carried out only if it weakens nothing of that. Raises
    ``NotApproved`` if it does, ``UsageError`` that tells all that is wrong with the file.
    """
    file = read_plan(path)
    adopted = read_adoption(home)
    if adopted is None or adopted.digest == file.digest.hex():
        return file.plan, file.digest
    if found := weakenings(read_adopted(home, adopted).plan, file.plan):
        msg = f"{path}: is weaker than the plan that was adopted here:\n{told(found[:_SHOWN])}"
        more = f" See all {len(found)} with `donjon plan diff`." if len(found) > _SHOWN else ""
        raise NotApproved(msg, hint=f"Put it in force with `donjon plan adopt FILE`.{more}")
    return file.plan, file.digest


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two plans: what is weaker in the new one, and the places of all that differs."""

    old: PlanFile
    new: PlanFile
    weakenings: tuple[Weakening, ...]
    changes: tuple[str, ...]


def compare(home: Home, old: Path | None, new: Path) -> Comparison:
    """What a plan changes, compared with another file, or else with the one that was adopted."""
    if old is not None:
        before = read_plan(old)
    elif (adopted := read_adoption(home)) is not None:
        before = read_adopted(home, adopted)
    else:
        msg = "no plan was adopted here that this could be compared with"
        raise UsageError(msg, hint="Name two plans, or adopt one: `donjon plan adopt FILE`.")
    after = read_plan(new)
    found = weakenings(before.plan, after.plan)
    return Comparison(before, after, tuple(found), tuple(differences(before.plan, after.plan)))


def told(found: list[Weakening]) -> str:
    """What is weaker, a line each."""
    return "\n".join(f"  {one.path}: {one.change}. {one.meaning}" for one in found)


def read_adoption(home: Home) -> Adoption | None:
    """Which plan was adopted here, if any. Raises ``DonjonError`` if that cannot be told."""
    path = _state(home)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Adoption)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, OSError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise DonjonError(msg, hint="It tells which plan is in force. Find out who changed it.") from error


def read_adopted(home: Home, adopted: Adoption) -> PlanFile:
    """The plan that was adopted. Raises ``IntegrityFailure`` if its file was changed since."""
    path = _kept(home, adopted)
    if not path.is_file():
        msg = f"{path}: the plan that was adopted is gone"
        raise IntegrityFailure(msg, hint="Put it back there, for it is what others are compared with.")
    data = read_bytes(path)
    if digest(data).hex() != adopted.digest:
        msg = f"{path}: is not the plan that was adopted, but was changed since"
        raise IntegrityFailure(msg, hint="Find out who changed it, and put the adopted one back.")
    return PlanFile(path, data, load_form(as_text(data, path), str(path)))


def keep_adopted(home: Home, file: PlanFile, adopted: Adoption) -> None:
    """Let a plan be the one in force: after a crash it is this one or the one before, and whole."""
    kept = _kept(home, adopted)
    private_folder(kept.parent)
    if not kept.exists():
        create_private(kept, file.data)
    replace_private(_state(home), msgspec.json.format(msgspec.json.encode(adopted)) + b"\n")


@contextlib.contextmanager
def adopting(home: Home) -> Iterator[None]:
    """Only one process of this host adopts at a time."""
    path = private_folder(_state(home).parent) / "lock"
    with path.open("ab") as lock:
        os.fchmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state(home: Home) -> Path:
    return home.folder / "plan" / "adopted.json"


def _kept(home: Home, adopted: Adoption) -> Path:
    return home.folder / "plan" / f"{adopted.digest}.yaml"
