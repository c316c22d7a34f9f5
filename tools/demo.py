"""The main job of Donjon on real files, for all to see: back up, lose everything, recover, prove it.

Runs the real `donjon` command in a temporary folder, which is removed at the end, also after a failure
and after Ctrl-C. Ends with 0 only if every proof holds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from donjon.core.units import format_size
from donjon.stores.base import LockEnforcement
from donjon.stores.local import LocalStore
from donjon.testing.folders import remove_tree
from donjon.testing.trees import compare_trees
from tools.demo_files import attack_vault, change, destroy, make_home

_INTERRUPTED = 130
_SHOWN = 10


class DemoFailed(Exception):
    """A command or a proof failed."""


@dataclass(slots=True)
class Stage:
    """The temporary folder, and how long each command took."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def donjon(self, *arguments: str, label: str = "") -> None:
        """Run a command for all to see. Raises ``DemoFailed`` if it fails."""
        words = " ".join(arguments).replace(str(self.folder), "$PWD")
        say(_bold(f"$ donjon {words}"))
        started = time.monotonic()
        command = self._command(arguments)
        code = subprocess.run(command, cwd=self.folder, env=self._environment(), check=False).returncode
        if label:
            self.seconds[label] = time.monotonic() - started
        if code:
            msg = f"`donjon {words}` ended with {code}"
            raise DemoFailed(msg)

    def ask(self, *arguments: str) -> Any:
        """What a command answers with ``--json``."""
        command = self._command((*arguments, "--json"))
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(), check=True, stdout=subprocess.PIPE
        )
        return json.loads(done.stdout)

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "donjon", *arguments]

    def _environment(self) -> dict[str, str]:
        """Nothing that this user has set up for Donjon may be used or changed."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("DONJON_")}
        return others | {"DONJON_HOME": str(self.folder / "config")}


def play(folder: Path) -> None:
    """The whole story. Raises ``DemoFailed``, and ``OSError`` or ``shutil.Error`` if the disk fails."""
    stage = Stage(folder)
    home, kit = folder / "home", ("--kit", "usb-stick/vault.kit")
    (folder / "usb-stick").mkdir()

    title("Some real files: this Python's standard library, and documents of every odd kind")
    make_home(home)
    say(f"{folder}/home")

    title("Make a vault. The kit opens it, and is kept elsewhere")
    enforcement = LocalStore(folder).lock_enforcement
    if enforcement is LockEnforcement.NONE:
        say(f"{folder}: this file system has no extended attributes, so the vault goes without locks.")
    stage.donjon("init", "vault", *kit, *(("--lock", "none") if enforcement is LockEnforcement.NONE else ()))

    title("Back up")
    stage.donjon("backup", "home", "--workload", "laptop", label="first backup")

    title("A day of work: edit, add, remove and rename. Then back up again")
    change(home)
    witness = _keep_witness(home)
    stage.donjon("backup", "home", "--workload", "laptop", label="second backup")

    title("Both points, and what differs")
    stage.donjon("points", *kit)
    points = stage.ask("points", *kit)["points"]
    stage.donjon("diff", points[0]["id"][:8], "latest", *kit)

    title("Read all data back and check every byte against its digest")
    stage.donjon("verify", "--data", "100", *kit, label="verify all data")

    title("Ransomware strikes, with all rights of this user")
    say(f"{destroy(home)} files are garbage now")
    _attack(folder / "vault", enforcement)

    title("Recover, from the vault and the kit alone")
    shutil.rmtree(folder / "config")  # the host is lost too: what it knew of the vault is gone
    from_vault = ("--vault", "./vault", *kit)
    stage.donjon("restore", f"latest:{home}", "recovered", *from_vault, label="restore")

    title("Prove it")
    prove(witness, folder / "recovered")
    say("Every name, byte, hole, hard link, owner, mode, time and attribute came back.")
    _summarize(stage, points)


def prove(witness: Path, recovered: Path) -> None:
    """Raises ``DemoFailed`` unless both trees are the same in everything."""
    differences = compare_trees(os.fsencode(witness), os.fsencode(recovered))
    if differences:
        more = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
        raise DemoFailed("\n".join(["what came back differs:", *differences[:_SHOWN], *more]))


def _keep_witness(home: Path) -> Path:
    """A copy by the system's own `cp`, to compare with in the end."""
    witness = home.with_name("witness")
    subprocess.run(["cp", "-a", home, witness], check=True)
    prove(home, witness)
    return witness


def _attack(vault: Path, enforcement: LockEnforcement) -> None:
    if enforcement is not LockEnforcement.KERNEL:
        say(
            "The vault is spared here: this user or file system cannot set the immutable flag, so nothing\n"
            "would stop whoever deletes files. Run the demo as root on ext4, XFS or Btrfs to see it hold."
        )
        return
    objects, survived = attack_vault(vault)
    say(
        f"{objects} objects in the vault: {survived} refused to be overwritten or deleted (immutable flag;\n"
        "root could lift it on purpose, so keep another vault where this host's root is nobody)"
    )
    if survived < objects:
        msg = f"ransomware deleted {objects - survived} objects of the vault"
        raise DemoFailed(msg)


def _summarize(stage: Stage, points: list[dict[str, Any]]) -> None:
    title("Summary")
    protected = " and ".join(format_size(point["bytes"]) for point in points)
    stored = " and ".join(format_size(point["bytes_stored"]) for point in points)
    for label, seconds in stage.seconds.items():
        say(f"  {label:<18} {seconds:5.1f} s")
    say(f"  {'files':<18} {points[0]['files']} and {points[1]['files']}, {protected}")
    say(f"  {'added to the vault':<18} {stored}, compressed and deduplicated")
    say(
        """
What to try next, in this checkout:
  source .venv/bin/activate
  donjon init /path/to/vault --kit /path/to/usb-stick/vault.kit
  donjon backup /etc
  donjon points --kit /path/to/usb-stick/vault.kit
README.md goes on from there; docs/guide.md has schedules, several hosts and what to do after an attack."""
    )


def title(text: str) -> None:
    """A heading of the story."""
    say("\n" + _bold(f"== {text}"))


def say(text: str) -> None:
    """A line; at once, as the commands write to the same terminal."""
    print(text, flush=True)


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, locked objects included, whatever happens but ``kill -9``."""
    folder = Path(tempfile.mkdtemp(prefix="donjon-demo-"))
    try:
        yield folder
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave locked files behind
        remove_tree(folder)


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)


def main() -> int:
    """Play, clean up, and tell by the exit code whether all proofs hold."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    try:
        with temporary_folder() as folder:
            play(folder)
    except KeyboardInterrupt:
        print("\nInterrupted; the temporary folder is removed.", file=sys.stderr)
        return _INTERRUPTED
    except (DemoFailed, subprocess.CalledProcessError, OSError) as error:  # shutil.Error is an OSError
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    say(f"\nAll of it took {time.monotonic() - started:.0f} s, and the temporary folder is gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
