"""The second act: a vault on a real S3 server, attacked with the writer's and the administrator's keys."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from donjon.testing.aws.s3_attack import Held, Version, hide, losses, overwrite, take_stock
from donjon.testing.aws.seaweedfs import SeaweedFs
from tools.demo_stage import DemoFailed, Stage, prove, s3_server, say, title

_BUCKET = "backups"
_PREFIX = "laptop"
_KIT = ("--kit", "usb-stick/s3.kit")
_SECOND = ("--second-kit", "other-stick/s3.kit")
_NONE_LOST = "none of it destroyed anything"
#: SeaweedFS knows no condition that caps locks.
_UNCAPPED = "lock-bomb"
_DRILL = ("drill", "attack", "--as")
_SECOND_S = 1.1
_WRITER = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:PutObjectRetention"],
            "Resource": [
                f"arn:aws:s3:::{_BUCKET}/{_PREFIX}/{part}/*"
                for part in ("sessions", "packs", "index", "manifests")
            ],
        },
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject"],
            "Resource": [
                f"arn:aws:s3:::{_BUCKET}/{_PREFIX}/{part}"
                for part in ("vault", "keyring/*", "index/*", "manifests/*")
            ],
        },
    ],
}


def play_s3(stage: Stage, documents: Path, witness: Path) -> None:
    """Back up ``documents``, attack the vault, restore, and compare with ``witness``.

    Raises ``DemoFailed``, ``RuntimeError`` if the server does not start, and errors of the SDK.
    """
    title("Second act: an S3 server with Object Lock, and a vault in its bucket that nobody can delete")
    with s3_server(stage.folder / "seaweedfs") as server:
        say(f"SeaweedFS answers at {server.endpoint}, for this machine alone.")
        stage = stage.with_environment({"DONJON_HOME": str(stage.folder / "s3-config")})
        _play(stage, server, documents, witness)


def _play(stage: Stage, server: SeaweedFs, documents: Path, witness: Path) -> None:
    administrator = stage.with_environment(server.environment)
    place = f"s3://{_BUCKET}/{_PREFIX}"
    administrator.donjon("init", place, "--endpoint", server.endpoint, "--create", *_KIT, *_SECOND)

    title("Back up, with an S3 credential that may put objects and read the index, and nothing else")
    user = server.make_user(_WRITER)
    writer = stage.with_environment(user.environment)
    writer.donjon("backup", str(documents), "--workload", "laptop", label="S3: backup")

    boss = server.client()
    before = take_stock(boss, _BUCKET)
    profiles = stage.folder / "thieves"
    profiles.write_text(
        f"[writer]\naws_access_key_id={user.access_key}\naws_secret_access_key={user.secret_key}\n"
    )
    watcher = administrator.with_environment({"AWS_SHARED_CREDENTIALS_FILE": str(profiles)})
    title("Somebody has the writer's key, and tries everything; the drill does it, on objects of its own")
    watcher.donjon(*_DRILL, "writer", "--profile", "writer", "--intrusive", "--known", _UNCAPPED)
    say("What is known to go through here: SeaweedFS has no cap on locks, which a policy of AWS sets.")
    title("Somebody has the administrator's key, which may change settings, but ends no lock")
    watcher.donjon(*_DRILL, "administrator", "--intrusive")
    drills = watcher.ask("evidence", "list")["evidence"]
    _check(before, take_stock(boss, _BUCKET, before), drills)
    tried = sum(drill["rows"] for drill in drills)
    stage.results["attacks on S3"] = f"{tried} tried in {len(drills)} drills; {_NONE_LOST}, and all is signed"

    title("The administrator lays garbage and delete markers over every object of the vault")
    time.sleep(_SECOND_S)  # SeaweedFS tells versions of one second in no order
    keys = sorted({entry["Key"] for entry in boss.list_object_versions(Bucket=_BUCKET)["Versions"]})
    for trial in (overwrite(boss, _BUCKET, keys), hide(boss, _BUCKET, keys)):
        say(f"  {trial.attack.what:<40} {trial.row().answer}, on top of the locked versions")

    title("The oldest version is what counts: Donjon reads through what lies over it, and names it")
    report = administrator.ask("verify", "--data", "100", *_KIT, code=12, announce=True)
    _show_covered(report["problems"], {key.removeprefix(f"{_PREFIX}/") for key in keys})

    title("Recover, from the bucket and the kit alone")
    shutil.rmtree(stage.folder / "s3-config")
    shutil.rmtree(documents)
    from_bucket = ("--vault", f"{place}?endpoint={server.endpoint}", *_KIT)
    target = "recovered-from-s3"
    administrator.donjon("restore", f"latest:{documents}", target, *from_bucket, label="S3: restore")

    title("Prove it again")
    prove(witness, stage.folder / target)
    say("Every name, byte, hole, hard link, owner, mode, time and attribute came back from the bucket.")


def _check(
    before: Mapping[Version, Held], after: Mapping[Version, Held], drills: Sequence[Mapping[str, Any]]
) -> None:
    """Raises ``DemoFailed`` if anything is gone, changed or less locked, or a drill did not pass."""
    lost = losses(before, after)
    if lost:
        raise DemoFailed("\n".join(["the attack destroyed something:", *lost]))
    if [drill["passed"] for drill in drills] != [True, True]:
        msg = f"the drills left no evidence that they passed: {drills}"
        raise DemoFailed(msg)
    say(f"All {len(before)} objects are there, with the same bytes and the same locks.")


def _show_covered(problems: Sequence[Mapping[str, Any]], names: set[str]) -> None:
    """Raises ``DemoFailed`` unless each object is named as hidden and as replaced, and nothing else is."""
    for name in sorted(names):
        kinds = sorted(problem["kind"] for problem in problems if problem["object"] == name)
        say(f"  {', '.join(kinds):<20} {name[:60]}")
    told = {(problem["kind"], problem["object"]): problem["what"] for problem in problems}
    expected = {(kind, name) for kind in ("hidden", "suspicious") for name in names}
    if told.keys() != expected:
        missing = [f"{name} is not told to be {kind}" for kind, name in sorted(expected - told.keys())]
        more = [
            f"{name} is {kind}: {what}" for (kind, name), what in told.items() if (kind, name) not in expected
        ]
        raise DemoFailed("\n".join(["verify does not tell what was done to the bucket:", *missing, *more]))
    say("Each of them was read all the same, and all data is sound.")
