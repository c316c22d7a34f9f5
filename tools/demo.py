"""The main job of Donjon on real files, for all to see: back up, lose everything, recover, prove it.

Three acts: a vault in a local folder; one on a real S3 server that is attacked with every key there is; and a
plan for three workloads whose copies are proved to obey the rule 3-2-1-1-0.
Runs the real `donjon` command in a temporary folder, which is removed at the end, also after a failure and
after Ctrl-C. Ends with 0 only if every proof holds.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from donjon.core.units import format_size
from donjon.stores.base import LockEnforcement
from donjon.stores.local import LocalStore
from tools.demo_files import attack_vault, change, destroy, make_home
from tools.demo_plan import play_plan
from tools.demo_s3 import play_s3
from tools.demo_stage import (
    DemoFailed,
    Stage,
    forget_user,
    listen_for_endings,
    prove,
    say,
    temporary_folder,
    title,
)

_INTERRUPTED = 130
#: RuntimeError: the server did not start. shutil.Error is an OSError.
_FAILURES = (
    DemoFailed, subprocess.CalledProcessError, OSError, RuntimeError, BotoCoreError, ClientError,
)  # fmt: skip


def play(folder: Path) -> None:
    """The whole story. Raises ``DemoFailed``, ``OSError`` or ``shutil.Error`` if the disk fails, and what

    ``play_s3`` raises.
    """
    stage = Stage(folder)
    home, kit = folder / "home", ("--kit", "usb-stick/vault.kit")
    (folder / "usb-stick").mkdir()
    (folder / "other-stick").mkdir()

    title("Some real files: this Python's standard library, and documents of every odd kind")
    make_home(home)
    say(f"{folder}/home")

    title("Make a vault. Two kits open it, and are kept elsewhere, in two places")
    enforcement = LocalStore(folder).lock_enforcement
    if enforcement is LockEnforcement.NONE:
        say(f"{folder}: this file system has no extended attributes, so the vault goes without locks.")
    kits = (*kit, "--second-kit", "other-stick/second.kit")
    stage.donjon("init", "vault", *kits, *(("--lock", "none") if enforcement is LockEnforcement.NONE else ()))

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

    play_s3(stage, folder / "recovered/documents", witness / "documents")
    play_plan(stage, folder / "recovered-from-s3")
    _summarize(stage, points)


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
    for label, result in stage.results.items():
        say(f"  {label:<18} {result}")
    say(
        """
What to try next, in this checkout:
  source .venv/bin/activate
  donjon init /path/to/vault --kit /path/to/stick/vault.kit --second-kit /path/to/other/second.kit
  donjon backup /etc
  donjon points --kit /path/to/stick/vault.kit
README.md goes on from there; docs/guide.md has schedules, several hosts and what to do after an attack."""
    )


def main() -> int:
    """Play, clean up, and tell by the exit code whether all proofs hold."""
    listen_for_endings()
    forget_user()
    started = time.monotonic()
    try:
        with temporary_folder() as folder:
            play(folder)
    except KeyboardInterrupt:
        print("\nInterrupted; the temporary folder is removed.", file=sys.stderr)
        return _INTERRUPTED
    except _FAILURES as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    say(f"\nAll of it took {time.monotonic() - started:.0f} s, and the temporary folder is gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
