"""`donjon plan diff` and `adopt`: what another plan weakens, and putting it in force."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import JsonOption, KitOption, PassphraseOption, QuietOption, output, workspace
from donjon.cli.plan_files import plan_path
from donjon.cli.requests import NOT_APPROVED, ExpiresOption, ReasonOption, asking, request_data, request_text

if TYPE_CHECKING:
    from donjon.app.plans.adoption import Adopted, Unapproved
    from donjon.plan.changes import Weakening

_WEAKER = 4

DIFF_EPILOG = """\b
Examples:
  donjon plan diff
      the plan that was adopted here, and the file that would be carried out now
  donjon plan diff old.yaml new.yaml

\b
JSON: {"old", "new", "old_digest", "new_digest", "weakens": [{"path", "change", "meaning"}],
"changes": [...]}; "changes" are the places of all that differs, weaker or not."""

ADOPT_EPILOG = """\b
Examples:
  donjon plan adopt donjon.yaml
  donjon plan adopt donjon.yaml --reason 'ticket 4711'
      where it weakens something and the vaults have approvers, this asks them
  donjon plan adopt donjon.yaml --weaken
      where it weakens something and no vault has approvers

\b
JSON: {"adopted", "digest", "plan", "weakens": as for `donjon plan diff`, "requests": [...]}; "adopted" is
true, false if it was before, or null if approvals are missing: then "requests" are as for
`donjon approve show`, each with its "vault", else the ids of those that allowed it."""


def diff(
    old: Annotated[
        Path | None, typer.Argument(metavar="[OLD]", help="A plan [the one adopted here].")
    ] = None,
    new: Annotated[
        Path | None, typer.Argument(metavar="[NEW]", help="Another one [the plan of this host].")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Tell what a change of the plan would weaken, and what that means. Changes nothing.

    Ends with 4 if it weakens anything: such a plan comes into force only as `donjon plan adopt` says.
    """
    from donjon.app.plans.files import compare

    out = output(json=json, quiet=quiet)
    home = workspace().home
    found = compare(home, old, plan_path(home, new))
    data: dict[str, object] = {
        "old": str(found.old.path),
        "new": str(found.new.path),
        "old_digest": found.old.digest.hex(),
        "new_digest": found.new.digest.hex(),
        "weakens": _weakens(found.weakenings),
        "changes": list(found.changes),
    }
    text = f"From {found.old.path} ({found.old.digest.hex()[:12]})\n"
    text += f"to   {found.new.path} ({found.new.digest.hex()[:12]})\n"
    text += _text(found.weakenings) if found.weakenings else "Nothing becomes weaker."
    if found.changes:
        text += f"\nAll that differs: {', '.join(found.changes)}"
    out.result(data, text)
    return _WEAKER if found.weakenings else 0


def adopt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The plan that is to be in force here.")],
    weaken: Annotated[
        bool, typer.Option("--weaken", help="Although it weakens something, where nobody has to approve.")
    ] = False,
    reason: ReasonOption = None,
    expires: ExpiresOption = "7d",
    signed: Annotated[
        list[Path] | None,
        typer.Option("--file", metavar="FILE", help="A request that went round as a file; repeatable."),
    ] = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Put a plan in force on this host: from then on no plan that weakens it is carried out here.

    Its bytes are kept below the home folder. A plan that weakens the one in force needs the approvers of the
    vaults that it is about; the first run asks them, and ends with 11. Without approvers it needs --weaken.
    """
    from donjon.app.plans.adoption import Adopted
    from donjon.app.plans.adoption import adopt as put_in_force
    from donjon.core.clock import system_clock

    out = output(json=json, quiet=quiet)
    done = put_in_force(
        workspace(None, kit, passphrase_file),
        file,
        system_clock,
        weaken=weaken,
        asking=asking(reason, expires, None),
        files=signed or (),
    )
    if isinstance(done, Adopted):
        out.result(_data(done, done.is_new, list(done.requests)), _adopted_text(done))
        return 0
    requests = [request_data(asked) | {"vault": url} for url, asked in done.asked.items()]
    out.result(_data(done, None, requests), _unapproved_text(done, file))
    return NOT_APPROVED


def _data(done: Adopted | Unapproved, adopted: bool | None, requests: Sequence[object]) -> dict[str, object]:
    return {
        "adopted": adopted,
        "digest": done.file.digest.hex(),
        "plan": done.file.plan.name,
        "weakens": _weakens(done.weakenings),
        "requests": requests,
    }


def _weakens(found: tuple[Weakening, ...]) -> list[dict[str, object]]:
    return [{"path": one.path, "change": one.change, "meaning": one.meaning} for one in found]


def _text(found: tuple[Weakening, ...]) -> str:
    lines = [f"  {one.path}: {one.change}\n      {one.meaning}" for one in found]
    return "\n".join([f"Weaker in {len(found)} ways:", *lines])


def _adopted_text(done: Adopted) -> str:
    name = f"{done.file.plan.name!r} ({done.file.digest.hex()[:12]})"
    if not done.is_new:
        return f"The plan {name} is in force already"
    weaker = f"{_text(done.weakenings)}\n" if done.weakenings else ""
    return f"{weaker}The plan {name} is in force now"


def _unapproved_text(done: Unapproved, file: Path) -> str:
    parts = [_text(done.weakenings)]
    for url, asked in done.asked.items():
        which = asked.request.request_id.hex()[:12]
        parts.append(f"In {url}:\n{request_text(asked)}")
        parts.append(f"  each of them:  donjon approve sign {which} --key KEY --vault {url}")
    parts.append(f"Nothing was changed yet. Once enough have signed:  donjon plan adopt {file}")
    return "\n".join(parts)
