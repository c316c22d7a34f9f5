"""The third act: one plan for three workloads, the proof of 3-2-1-1-0, and a copy that somebody breaks."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from donjon.core.units import KIB, MIB
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.folders import remove_tree
from tools.demo_stage import DemoFailed, Stage, s3_server, say, title

_VAULT_BUCKET, _PHOTOS = "vault", "photos"
_KIT = ("--kit", "usb-stick/plan.kit")
_SECOND = ("--second-kit", "other-stick/plan.kit")
_OBJECTS = 40
_FINDINGS = 4
#: What is red once the copy in the cellar is gone: what rests on it, and nothing else. Of the photos, which
#: are in a bucket themselves, it was the only copy that is not in object storage.
_RED = {"documents": {"copies"}, "machine": {"copies"}, "photos": {"copies", "media"}}
_PLAN = """\
version: 1
name: demo
sites:
  office: {{provider: on-premises, account: example.com, region: Berlin, administrators: [ann]}}
  cloud: {{provider: aws, account: "444455556666", region: eu-west-1, administrators: [security]}}
  cellar: {{provider: on-premises, account: cellar.example.com, region: Potsdam, administrators: [bo]}}
vaults:
  cloud: {{url: "{vault}", site: cloud}}
  cellar: {{url: "{cellar}", site: cellar, medium: disk}}
defaults:
  site: office
  vault: cloud
  copies: [cellar]
  schedule: {{every: 6h}}
  retention: {{daily: 7}}
  verify: {{every: 7d, data_percent: 100}}
  rpo: 12h
  rto: 1h
workloads:
  documents: {{source: {{kind: tree, paths: ["{documents}"]}}}}
  machine: {{source: {{kind: block, devices: ["{image}"]}}}}
  photos: {{source: {{kind: bucket, url: "{photos}"}}}}
"""


def play_plan(stage: Stage, documents: Path) -> None:
    """Back up ``documents``, a disk and a bucket by a plan, prove 3-2-1-1-0, break a copy and look again.

    Raises ``DemoFailed``, ``RuntimeError`` if the server does not start, and errors of the SDK.
    """
    title("Third act: one plan for files, a disk and a bucket, each with copies in two other places")
    with s3_server(stage.folder / "cloud") as server:
        stage = stage.with_environment(
            {"DONJON_HOME": str(stage.folder / "plan-config"), **server.environment}
        )
        _play(stage, server, documents)


def _play(stage: Stage, server: SeaweedFs, documents: Path) -> None:
    folder = stage.folder
    image, cellar, vault = folder / "machine.img", folder / "cellar", server.url(_VAULT_BUCKET, "donjon")
    _make_image(image)
    _make_photos(server)
    stage.donjon("init", vault, "--name", "cloud", "--create", *_KIT, *_SECOND)
    stage.donjon("auditor", "add", "eve", "--out", "usb-stick/eve.auditor", "--vault", "cloud", *_KIT)
    plan = folder / "donjon.yaml"
    plan.write_text(
        _PLAN.format(
            vault=vault,
            cellar=cellar.as_uri(),
            documents=documents,
            image=image,
            photos=server.url(_PHOTOS),
        )
    )
    say(plan.read_text())
    stage.donjon("plan", "check", "donjon.yaml")
    stage.donjon("plan", "run", label="plan: three workloads")

    title("An auditor reads every copy back, and times a restore; both are signed")
    sign = ("--record", "--sign", "usb-stick/eve.auditor", *_KIT)
    for place in (vault, cellar.as_uri()):
        stage.donjon("verify", "--vault", place, "--data", "100", *sign)
    for workload in ("documents", "machine", "photos"):
        stage.donjon("restore", f"{workload}@latest", f"timed/{workload}", "--vault", vault, *sign)

    title("3 copies, 2 media, 1 offsite, 1 immutable, 0 unverified: is it so?")
    stage.donjon("status")

    title("Somebody with all rights in the cellar destroys the copy there")
    remove_tree(cellar)
    stage.donjon("status", code=_FINDINGS)
    told = stage.ask("status", code=_FINDINGS)
    _check(told["workloads"])
    stage.results["3-2-1-1-0"] = "green for three workloads; red, with the reason, once a copy was destroyed"


def _make_image(image: Path) -> None:
    """A disk of 64 MiB, most of which was never written."""
    randomness = random.Random(2)  # noqa: S311  (made-up data, the same each time)
    with image.open("wb") as file:
        for megabyte in (0, 1, 7, 31):
            file.seek(megabyte * MIB)
            file.write(randomness.randbytes(MIB))
        file.truncate(64 * MIB)


def _make_photos(server: SeaweedFs) -> None:
    """A bucket of production, with a few objects."""
    client, randomness = server.client(), random.Random(3)  # noqa: S311  (made-up data)
    client.create_bucket(Bucket=_PHOTOS)
    for number in range(_OBJECTS):
        client.put_object(
            Bucket=_PHOTOS,
            Key=f"2026/{number % 4}/{number}.jpg",
            Body=randomness.randbytes(50 * KIB),
            ContentType="image/jpeg",
            Metadata={"camera": "one"},
        )


def _check(workloads: Sequence[Mapping[str, Any]]) -> None:
    """Raises ``DemoFailed`` unless each workload is red for the copy that is gone, and for nothing else."""
    for workload in workloads:
        red = {cell["rule"] for cell in workload["cells"] if cell["state"] in {"not-met", "unknown"}}
        reasons = " ".join(cell["reason"] for cell in workload["cells"] if cell["rule"] in red)
        if red != _RED[workload["workload"]] or "cellar" not in reasons:
            msg = f"{workload['workload']}: status is red for {sorted(red)}: {reasons}"
            raise DemoFailed(msg)
