"""Options of commands that ask approvers, and how requests look: text for people, and JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import ask_secret
from donjon.cli.output import Output, one_line
from donjon.cli.permits import mark_data, mark_line
from donjon.core.clock import iso
from donjon.core.units import format_size, parse_duration

if TYPE_CHECKING:
    from donjon.app.approvals.approvers import KeyChoice, NamedApprover
    from donjon.app.approvals.requests import Asking
    from donjon.app.approvals.views import Asked, Deletion, Doomed, What
    from donjon.app.keys.changes import Pending

#: The exit code of a command that changed nothing because approvals are missing.
NOT_APPROVED = 11

KeyOption = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="FILE|URI",
        help="The approver's key: a file, or pkcs11:token=T;object=K.",
    ),
]
AskerOption = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="FILE|URI", help="Ask as an approver, with this key: a file or pkcs11: URI."
    ),
]
ModuleOption = Annotated[
    Path | None,
    typer.Option(
        "--pkcs11-module",
        metavar="FILE",
        help="The library that reaches the token [DONJON_PKCS11_MODULE].",
    ),
]
PinOption = Annotated[
    Path | None,
    typer.Option("--pin-file", metavar="FILE", help="File with the token's PIN [DONJON_PKCS11_PIN_FILE]."),
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, hidden from the provider.")
]
ExpiresOption = Annotated[
    str, typer.Option("--expires", metavar="DURATION", help="How long the approvers may take, up to 90d.")
]
NewFileOption = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="Write the request to a file, not into the vault."),
]


def key_choice(key: str, module: Path | None, pin_file: Path | None) -> KeyChoice:
    """The approver's key that these options name, completed from the environment."""
    from donjon.app.approvals.approvers import KeyChoice

    if module is None and (named := os.environ.get("DONJON_PKCS11_MODULE")):
        module = Path(named)
    if pin_file is None and (named := os.environ.get("DONJON_PKCS11_PIN_FILE")):
        pin_file = Path(named)
    return KeyChoice(key, module, pin_file, ask_secret())


def asking(
    reason: str | None,
    expires: str,
    file: Path | None,
    key: KeyChoice | None = None,
) -> Asking:
    """How these options ask."""
    from donjon.app.approvals.requests import Asking

    return Asking(reason, parse_duration(expires), file, key)


def report_pending(pending: Pending, file: Path | None, again: str, out: Output) -> int:
    """Say that approvals are missing and how to give them; ``again`` is what then carries it out."""
    request = request_data(pending.asked) | file_data(file)
    out.result(
        {"changed": False, "request": request, "new": pending.is_new}, pending_text(pending, file, again)
    )
    return NOT_APPROVED


def pending_text(pending: Pending, file: Path | None, again: str) -> str:
    """What was asked, and what comes next."""
    asked = pending.asked
    which = f"--file {file}" if file else asked.request.request_id.hex()[:12]
    then = f"donjon approve apply --file {file}" if file else again
    needed = asked.approvers.needed
    return f"""{request_text(asked)}
Nothing was changed yet: {needed} of the {len(asked.approvers.members)} approvers have to allow it.
  each of them:  donjon approve sign {which} --key KEY
  then:          {then}"""


def file_data(file: Path | None) -> dict[str, object]:
    """Where the request was written to."""
    return {"file": str(file.absolute()) if file else None}


def signed_text(asked: Asked) -> str:
    """How many have signed, and who has not."""
    signed, needed = len(asked.signers), asked.approvers.needed
    text = f"Signed: {signed} of the {needed} that are needed"
    if signed < needed:
        return f"{text}; not yet by {', '.join(map(_short, asked.missing))}"
    return text


def request_text(asked: Asked) -> str:
    """What a request says, for people."""
    content = asked.request.content
    lines = [f"Request {asked.request.request_id.hex()[:12]} ({asked.state.value}): {_head(asked.what)}"]
    lines += _lines(asked.what)
    if asked.reason != "":
        lines.append(f"Reason: {'(hidden)' if asked.reason is None else one_line(asked.reason)}")
    lines.append(
        f"Asked by {one_line(asked.asked_by)} at {iso(content.created_at)}; expires {iso(content.expires_at)}"
    )
    who = ", ".join(map(_short, asked.signers)) or "nobody yet"
    lines.append(f"Signed by {who}; {asked.approvers.needed} of {len(asked.approvers.members)} are needed.")
    return "\n".join(lines)


def request_data(asked: Asked) -> dict[str, object]:
    """The same as JSON."""
    content = asked.request.content
    kind, more = _what_data(asked.what)
    return {
        "id": asked.request.request_id.hex(),
        "state": asked.state.value,
        "operation": kind,
        "asked_by": asked.asked_by,
        "created": iso(content.created_at),
        "expires": iso(content.expires_at),
        "reason": asked.reason,
        "approvals": asked.approvers.needed,
        "signed": [signer.approver_id.hex() for signer in asked.signers],
        "missing": [member.approver_id.hex() for member in asked.missing],
        **more,
    }


def approver_line(member: NamedApprover) -> str:
    """An approver on a line of a listing."""
    return f"{member.approver_id.hex()[:12]}  {one_line(member.name) or '(name hidden)'}"


def approver_data(member: NamedApprover) -> dict[str, object]:
    """The same as JSON."""
    return {"id": member.approver_id.hex(), "name": member.name or None, "public": member.public.hex()}


def deletion_lines(deletion: Deletion) -> list[str]:
    """The points that are to go, one a line."""
    return [f"  {_point_line(doomed)}" for doomed in deletion.points]


def deletion_data(deletion: Deletion) -> dict[str, object]:
    """The same as JSON."""
    return {
        "locked_until": iso(deletion.locked_until) if deletion.locked_until else None,
        "lock_enforcement": deletion.enforcement,
        "points": [_point_data(doomed) for doomed in deletion.points],
    }


def held_text(deletion: Deletion) -> str:
    """Until when locks hold the points, whoever signs."""
    held = [doomed.locked_until for doomed in deletion.points if doomed.locked_until]
    if not held:
        return "No lock holds them."
    first, last = iso(min(held)), iso(max(held))
    until = f"nothing goes before {first}" + (f", and the last not before {last}" if last != first else "")
    return f"Even so, {until}, as the locks hold (enforcement: {deletion.enforcement})."


def _short(member: NamedApprover) -> str:
    short = member.approver_id.hex()[:12]
    return f"{one_line(member.name)} ({short})" if member.name else short


def _head(what: What) -> str:
    from donjon.app.approvals.views import Change, Deletion, NewKey, Removal, Suspect

    match what:
        case Deletion(points):
            return "1 point is to go early" if len(points) == 1 else f"{len(points)} points are to go early"
        case Change(_, needed, members):
            return f"from now on {needed} of {len(members)} approve"
        case Removal(recipient_id, kind, name):
            known = f"{one_line(name) or '(name hidden)'} ({kind})" if kind else "that is not there any more"
            return f"no new backup is to be sealed to the key {known} {recipient_id.hex()[:12]}"
        case NewKey(writer_id, writer, number, key_id, _):
            whose = f"{one_line(writer) or '(name hidden)'} ({writer_id.hex()[:12]})"
            return f"the key {key_id.hex()} is to sign for the writer {whose}, as its number {number}"
        case Suspect():
            return "a suspect point is to be used, restored or read, for as long as this request is open"
    return "another plan is to be put in force"


def _lines(what: What) -> list[str]:
    from donjon.app.approvals.views import Change, Deletion, NewKey, NewPlan, Suspect

    match what:
        case Deletion():
            return deletion_lines(what)
        case Suspect(point, marks):
            return [f"  {_point_line(point)}", *(f"  {mark_line(mark)}" for mark in marks)]
        case Change(before, _, members):
            lines = [f"  {'new  ' if what.is_new(one) else 'stays'} {approver_line(one)}" for one in members]
            lines += [f"  gone  {approver_line(one)}" for one in what.gone]
            return [*lines, f"Until now {before.needed} of {len(before.members)} are needed."]
        case NewKey(last=last):
            counts = "  what its keys signed counts up to this point, and nothing after it:"
            none = "  no point that its keys signed until now is to count"
            return [counts, f"  {_point_line(last)}"] if last else [none]
        case NewPlan(old, new):
            return [f"  in force {old.hex()}", f"  to be    {new.hex()}"]
    return []


def _what_data(what: What) -> tuple[str, dict[str, object]]:
    from donjon.app.approvals.views import Change, Deletion, NewKey, NewPlan, Removal, Suspect

    match what:
        case Deletion():
            return "delete points", deletion_data(what)
        case Suspect(point, marks):
            return "use suspect point", {"point": _point_data(point), "marks": list(map(mark_data, marks))}
        case Change(_, needed, members):
            rows = [approver_data(member) | {"new": what.is_new(member)} for member in members]
            gone = [member.approver_id.hex() for member in what.gone]
            return "change approvers", {"new_approvals": needed, "approvers": rows, "gone": gone}
        case Removal(recipient_id, kind, name):
            key = {"id": recipient_id.hex(), "kind": kind or None, "name": name or None}
            return "remove key", {"key": key}
        case NewKey(writer_id, writer, number, key_id, last):
            named = {"id": writer_id.hex(), "name": writer or None, "key": number, "key_id": key_id.hex()}
            return "name writer key", {"writer": named, "last_point": _point_data(last) if last else None}
        case NewPlan(before, after):
            return "change plan", {"plan": before.hex(), "new_plan": after.hex()}


def _point_line(doomed: Doomed) -> str:
    short = doomed.point_id.hex()[:12]
    if doomed.point is None:
        return f"{short}  is not in the vault"
    held = f"locked until {iso(doomed.locked_until)}" if doomed.locked_until else "not locked"
    what = "(sealed)"
    if doomed.body is not None:
        what = f"{one_line(doomed.body.workload)}  {format_size(doomed.body.size_bytes)}"
    return "  ".join(filter(None, [short, iso(doomed.point.time), held, one_line(doomed.writer), what]))


def _point_data(doomed: Doomed) -> dict[str, object]:
    point, body = doomed.point, doomed.body
    return {
        "id": doomed.point_id.hex(),
        "time": iso(point.time) if point else None,
        "workload": body.workload if body else None,
        "bytes": body.size_bytes if body else None,
        "writer_name": doomed.writer or None,
        "present": point is not None,
        "locked_until": iso(doomed.locked_until) if doomed.locked_until else None,
    }
