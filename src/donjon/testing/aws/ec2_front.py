"""EC2's snapshots on this machine: moto, with what it lacks in front of it.

The front is a **fake**. Each rule cites AWS' documentation, where ``EBS`` stands for
https://docs.aws.amazon.com/ebs/latest/userguide and ``EC2A`` for
https://docs.aws.amazon.com/AWSEC2/latest/APIReference. Of whoever asks it knows only what ``denied`` takes
away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from donjon.core.clock import Clock, iso, system_clock
from donjon.testing.front import Answer, Front, HangUp, Request, Upstream, serving

_DAY_S: Final = 86_400
_HOUR_S: Final = 3600
_XMLNS: Final = "http://ec2.amazonaws.com/doc/2016-11-15"
_NS: Final = f"{{{_XMLNS}}}"
_ABOUT_SNAPSHOTS: Final = {
    "CreateSnapshot", "CreateSnapshots", "CopySnapshot", "DescribeSnapshots", "CreateVolume",
}  # fmt: skip
_FORM: Final = {"content-type": "text/xml;charset=UTF-8"}


@dataclass
class _Lock:
    mode: str
    created_at: int
    expires_at: int
    cool_off_until: int = 0

    def state(self, now: int) -> str:
        """EBS/snapshot-lock-concepts.html: the states of a lock."""
        if now >= self.expires_at:
            return "expired"
        return "compliance-cooloff" if self.mode == "compliance" and now < self.cool_off_until else self.mode


@dataclass
class _Known:
    """What is known of a snapshot beside what moto knows."""

    state: str = ""
    key: str = ""
    lock: _Lock | None = None
    in_use: bool = False


class _Refusal(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class Ec2Front(Front):
    """Locks, keys, states and refusals. ``holds`` lets new snapshots stay pending."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        super().__init__(upstream, clock)
        self.known: dict[str, _Known] = {}
        self.volume_keys: dict[str, str] = {}
        self.holds = False
        self.throttled = 0
        self.loses: set[str] = set()

    def of(self, snapshot_id: str) -> _Known:
        """What is known of a snapshot, to be changed by a test."""
        return self.known.setdefault(snapshot_id, _Known())

    def handle(self, request: Request) -> Answer:
        """Judge and carry out one request."""
        asked = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        action = asked.get("Action", "")
        try:
            self._judge(action)
            own: Callable[[dict[str, str]], Answer] | None = {
                "LockSnapshot": self._lock,
                "UnlockSnapshot": self._unlock,
                "DescribeLockedSnapshots": self._locked,
            }.get(action)
            answer = own(asked) if own else self._pass_on(action, asked, request)
        except _Refusal as refusal:
            text = (
                f"<Response><Errors><Error><Code>{refusal.code}</Code><Message>{escape(str(refusal))}"
                "</Message></Error></Errors><RequestID>r</RequestID></Response>"
            )
            return Answer(refusal.status, text.encode(), _FORM)
        if action in self.loses:
            self.loses.discard(action)
            raise HangUp
        return answer

    def _judge(self, action: str) -> None:
        if self.throttled > 0:  # EC2A/throttling.html
            self.throttled -= 1
            raise _Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
        if f"ec2:{action}" in self.denied:
            message = f"You are not authorized to perform this operation. {action} is not allowed."
            raise _Refusal("UnauthorizedOperation", message, 403)

    def _pass_on(self, action: str, asked: dict[str, str], request: Request) -> Answer:
        snapshot_id = asked.get("SnapshotId", "")
        if action == "DeleteSnapshot":
            self._check_deletable(snapshot_id, self.of(snapshot_id))
        if action == "ModifySnapshotAttribute":
            self._check_shareable(request, snapshot_id, self.of(snapshot_id))
        if action == "CopySnapshot":
            self._check_copyable(asked)
        answer = self.upstream.send(request.method, request.target, request.headers, request.body)
        if answer.status != 200 or action not in _ABOUT_SNAPSHOTS:
            return answer
        root = ElementTree.fromstring(answer.body)  # noqa: S314 - moto's own
        if action == "CreateVolume" and (key := asked.get("KmsKeyId")):
            self.volume_keys[_text(root, "volumeId")] = key
        if action == "CreateSnapshots":
            self._leave_out(asked, request, root)
        for item in [one for one in root.iter() if one.find(f"{_NS}snapshotId") is not None]:
            known = self.of(_text(item, "snapshotId"))
            if action in {"CreateSnapshot", "CreateSnapshots", "CopySnapshot"}:
                known.state = "pending" if self.holds else ""
                known.key = asked.get("KmsKeyId") or self.volume_keys.get(_text(item, "volumeId"), "")
            if action != "CopySnapshot":
                _show(item, known)
        return Answer(answer.status, ElementTree.tostring(root), answer.headers)

    def _ask(self, request: Request, form: dict[str, str]) -> str:
        """Ask moto something in the name of who asked."""
        body = urlencode({"Version": "2016-11-15", **form}).encode()
        headers = {**request.headers, "content-length": str(len(body))}
        return self.upstream.send("POST", request.target, headers, body).body.decode()

    def _leave_out(self, asked: dict[str, str], request: Request, root: ElementTree.Element) -> None:
        """EC2A/API_InstanceSpecification.html: data volumes can be left out; moto takes them all the same."""
        excluded = {value for name, value in asked.items() if ".ExcludeDataVolumeId." in name}
        for above in root.iter(f"{_NS}snapshotSet"):
            for item in list(above):
                if _text(item, "volumeId") in excluded:
                    above.remove(item)
                    self._ask(request, {"Action": "DeleteSnapshot", "SnapshotId": _text(item, "snapshotId")})

    def _check_deletable(self, snapshot_id: str, known: _Known) -> None:
        """EBS/ebs-snapshot-lock.html: locked snapshots cannot be deleted by anybody. The code that EC2
        answers is not documented; EC2A/errors-overview.html has OperationNotPermitted for what is not
        allowed, and InvalidSnapshot.InUse.
        """
        if known.lock is not None and known.lock.state(self.clock()) != "expired":
            raise _Refusal("OperationNotPermitted", f"The snapshot {snapshot_id} is locked.")
        if known.in_use:
            message = f"The snapshot {snapshot_id} is currently in use by ami-0123"
            raise _Refusal("InvalidSnapshot.InUse", message)

    def _check_shareable(self, request: Request, snapshot_id: str, known: _Known) -> None:
        """EBS/ebs-modifying-snapshot-permissions.html: not what the key aws/ebs encrypts."""
        said = self._ask(request, {"Action": "DescribeSnapshots", "SnapshotId.1": snapshot_id})
        if "<encrypted>true</encrypted>" in said and not known.key:
            message = "Encrypted snapshots with EBS default key cannot be shared"
            raise _Refusal("OperationNotPermitted", message)

    def _check_copyable(self, asked: dict[str, str]) -> None:
        """EC2A/API_CopySnapshot.html: only completed snapshots are copied."""
        source = self.of(asked["SourceSnapshotId"])
        if source.state in {"pending", "error"}:
            raise _Refusal("IncorrectState", f"The snapshot {asked['SourceSnapshotId']} is {source.state}")

    def _lock(self, asked: dict[str, str]) -> Answer:
        """EC2A/API_LockSnapshot.html, EBS/snapshot-lock-concepts.html: duration or date, 1 to 36,500 days; a
        cool-off of 1 to 72 hours in compliance mode alone; after it only a longer lock.
        """
        now, snapshot_id, mode = self.clock(), asked["SnapshotId"], asked["LockMode"]
        if ("LockDuration" in asked) == ("ExpirationDate" in asked):
            raise _Refusal("InvalidParameterCombination", "Specify either LockDuration or ExpirationDate.")
        until = (
            now + int(asked["LockDuration"]) * _DAY_S
            if "LockDuration" in asked
            else int(datetime.fromisoformat(asked["ExpirationDate"].replace("Z", "+00:00")).timestamp())
        )
        if not now < until <= now + 36_500 * _DAY_S:
            raise _Refusal("InvalidParameterValue", "The lock duration must be from 1 to 36500 days.")
        hours = int(asked.get("CoolOffPeriod", "0"))
        if "CoolOffPeriod" in asked and (mode != "compliance" or not 1 <= hours <= 72):
            raise _Refusal("InvalidParameterValue", "CoolOffPeriod is 1 to 72 hours, in compliance mode.")
        held = self.of(snapshot_id).lock
        weaker = mode != "compliance" or "CoolOffPeriod" in asked
        if held and held.state(now) == "compliance" and (weaker or until < held.expires_at):
            raise _Refusal("OperationNotPermitted", "A compliance lock can only be made longer.")
        cool_off = now + hours * _HOUR_S if hours else (held.cool_off_until if held else 0)
        self.of(snapshot_id).lock = _Lock(mode, now, until, cool_off)
        return self._answer("LockSnapshot", self._described(snapshot_id))

    def _unlock(self, asked: dict[str, str]) -> Answer:
        """EC2A/API_UnlockSnapshot.html: not in compliance mode once its cool-off has ended."""
        known = self.of(asked["SnapshotId"])
        if known.lock is not None and known.lock.state(self.clock()) == "compliance":
            raise _Refusal("OperationNotPermitted", "The snapshot is locked in compliance mode.")
        known.lock = None
        return self._answer("UnlockSnapshot", f"<snapshotId>{asked['SnapshotId']}</snapshotId>")

    def _locked(self, asked: dict[str, str]) -> Answer:
        """EC2A/API_DescribeLockedSnapshots.html."""
        wanted = {value for name, value in asked.items() if name.startswith("SnapshotId.")}
        found = [one for one, known in self.known.items() if known.lock and (not wanted or one in wanted)]
        items = "".join(f"<item>{self._described(one)}</item>" for one in found)
        return self._answer("DescribeLockedSnapshots", f"<snapshotSet>{items}</snapshotSet>")

    def _described(self, snapshot_id: str) -> str:
        lock = self.of(snapshot_id).lock
        assert lock is not None
        return (
            f"<snapshotId>{snapshot_id}</snapshotId><lockState>{lock.state(self.clock())}</lockState>"
            f"<lockCreatedOn>{iso(lock.created_at)}</lockCreatedOn>"
            f"<lockExpiresOn>{iso(lock.expires_at)}</lockExpiresOn>"
            f"<lockDuration>{(lock.expires_at - lock.created_at) // _DAY_S}</lockDuration>"
        )

    @staticmethod
    def _answer(action: str, content: str) -> Answer:
        text = f'<{action}Response xmlns="{_XMLNS}"><requestId>r</requestId>{content}</{action}Response>'
        return Answer(200, text.encode(), _FORM)


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{_NS}{name}", "")


def _show(item: ElementTree.Element, known: _Known) -> None:
    """EC2A/API_Snapshot.html: state and key; moto lets everything be completed at once."""
    for name, value in (("status", known.state), ("kmsKeyId", known.key)):
        found = item.find(f"{_NS}{name}")
        if value and found is None:
            found = ElementTree.SubElement(item, f"{_NS}{name}")
        if value and found is not None:
            found.text = value


@contextlib.contextmanager
def ec2_front(moto: str, clock: Clock = system_clock) -> Iterator[tuple[Ec2Front, str]]:
    """A front before the moto at an address, and the front's own address, until the body ends."""
    front = Ec2Front(Upstream(urlsplit(moto).port or 0), clock)
    with serving(front) as address:
        yield front, address
