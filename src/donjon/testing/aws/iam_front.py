"""IAM in front of EC2 and of the EBS direct APIs: policies are obeyed, also where they ask for tags.

MiniStack enforces policies, but judges one resource of a request and no tags of snapshots; moto ignores them.
This is a **fake** that obeys what AWS documents, where SAR stands for
https://docs.aws.amazon.com/service-authorization/latest/reference. It knows allowing statements, and of the
keys of conditions those that ``_needs`` gives; a policy with anything else fails the test that uses it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree

from donjon.core.clock import Clock
from donjon.testing.front import Answer, Front, Request, Upstream

_NS: Final = "{http://ec2.amazonaws.com/doc/2016-11-15}"
_WHO: Final = re.compile(r"Credential=([^/]+)/")
_BLOCKS: Final = re.compile(r"/snapshots/(?P<id>[^/]+)/(?P<what>blocks|changedblocks)(?P<one>/\d+)?")
#: SAR list_amazonec2.html: each of these is about a snapshot that is there, and is judged by its tags.
_OF_SNAPSHOT: Final = {
    "CopySnapshot": "SourceSnapshotId", "DeleteSnapshot": "SnapshotId", "LockSnapshot": "SnapshotId",
    "ModifySnapshotAttribute": "SnapshotId", "UnlockSnapshot": "SnapshotId",
}  # fmt: skip
#: These make snapshots, which are judged by the tags that the request gives them.
_MAKING: Final = {"CopySnapshot", "CreateSnapshot", "CreateSnapshots"}
_OPERATORS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "StringEquals": operator.eq,
    "StringLike": fnmatchcase,
    "Bool": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Need:
    """What somebody has to be allowed: an action on a resource, and what conditions may ask about it."""

    action: str
    resource: str
    keys: Mapping[str, str] = field(default_factory=dict)


def allows(policy: Mapping[str, Any], need: Need) -> bool:
    """Whether a statement of the policy allows it.

    A condition whose key the request does not have is not met:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        fits = any(fnmatchcase(need.action, one) for one in _several(statement["Action"]))
        if fits and any(fnmatchcase(need.resource, one) for one in _several(statement["Resource"])):
            conditions = statement.get("Condition", {})
            if all(_is_met(name, asked, need.keys) for name, asked in conditions.items()):
                return True
    return False


def _is_met(name: str, asked: Mapping[str, Any], keys: Mapping[str, str]) -> bool:
    compare = _OPERATORS[name]
    return all(
        key in keys and any(compare(keys[key], wanted) for wanted in _several(values))
        for key, values in asked.items()
    )


def _several(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else said


class IamFront(Front):
    """Judges whom ``policies`` names, by their access keys; all others may do everything.

    ``used`` are the actions that somebody was allowed, ``refused`` what nobody was.
    """

    def __init__(self, upstream: Upstream, clock: Clock, *, account: str, region: str) -> None:
        super().__init__(upstream, clock)
        self.policies: dict[str, Mapping[str, Any]] = {}
        self.used: set[str] = set()
        self.refused: list[Need] = []
        self._account, self._region = account, region

    def handle(self, request: Request) -> Answer:
        """Judge a request, then let it through."""
        found = _WHO.search(request.headers.get("authorization", ""))
        policy = self.policies.get(found[1]) if found else None
        if policy is not None:
            needs = list(self._needs(request))
            for need in needs:
                if not allows(policy, need):
                    self.refused.append(need)
                    return _refusal(need)
            self.used |= {need.action for need in needs}
        return self.upstream.send(request.method, request.target, request.headers, request.body)

    def _needs(self, request: Request) -> Iterator[Need]:
        if (found := _BLOCKS.fullmatch(request.path)) is not None:
            yield from self._to_read(request, found)
            return
        asked = dict(parse_qsl(request.body.decode("latin-1"), keep_blank_values=True))
        action = asked.get("Action", request.path)
        if action == "CreateTags":
            for name in (value for key, value in asked.items() if key.startswith("ResourceId.")):
                yield Need("ec2:CreateTags", self._arn("snapshot", name), self._tags(name))
        elif action in _MAKING or action in _OF_SNAPSHOT:
            yield from self._about_snapshots(action, asked)
        else:
            yield Need(f"ec2:{action}", "*")

    def _about_snapshots(self, action: str, asked: Mapping[str, str]) -> Iterator[Need]:
        if action in _OF_SNAPSHOT:
            name = asked[_OF_SNAPSHOT[action]]
            yield Need(f"ec2:{action}", self._arn("snapshot", name), self._tags(name))
        if action not in _MAKING:
            return
        for kind, name in (("instance", "InstanceSpecification.InstanceId"), ("volume", "VolumeId")):
            if name in asked:
                yield Need(f"ec2:{action}", self._arn(kind, asked[name]))
        if action == "CreateSnapshots":  # also each of its volumes, all of this account
            yield Need(f"ec2:{action}", self._arn("volume", "vol-any"))
        given = {f"aws:RequestTag/{key}": value for key, value in _given(asked)}
        yield Need(f"ec2:{action}", self._arn("snapshot", "*"), given)
        if given:  # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html
            yield Need("ec2:CreateTags", self._arn("snapshot", "*"), given | {"ec2:CreateAction": action})

    def _to_read(self, request: Request, found: re.Match[str]) -> Iterator[Need]:
        """SAR list_amazonelasticblockstore.html. Of two that are compared both are asked about: the table
        has one kind of resource, and does not say which of them is meant."""
        changed = found["what"] == "changedblocks"
        names = [found["id"], *([request.query["firstSnapshotId"]] if changed else [])]
        action = (
            "GetSnapshotBlock" if found["one"] else "ListChangedBlocks" if changed else "ListSnapshotBlocks"
        )
        for name in names:
            yield Need(f"ebs:{action}", self._arn("snapshot", name), self._tags(name))

    def _arn(self, kind: str, name: str) -> str:
        """SAR list_amazonec2.html, resource types: the ARN of a snapshot has no account."""
        return f"arn:aws:ec2:{self._region}:{'' if kind == 'snapshot' else self._account}:{kind}/{name}"

    def _tags(self, snapshot_id: str) -> dict[str, str]:
        """The tags of a snapshot, asked of EC2 behind; the signature says which service is meant."""
        form = {"Version": "2016-11-15", "Action": "DescribeSnapshots", "SnapshotId.1": snapshot_id}
        body = urlencode(form).encode()
        scope = f"AKIAFRONT/20200101/{self._region}/ec2/aws4_request"
        headers = {
            "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(body)),
        }
        answer = self.upstream.send("POST", "/", headers, body)
        if answer.status != 200:
            return {}
        root = ElementTree.fromstring(answer.body)  # noqa: S314 - moto's own
        found = [item for above in root.iter(f"{_NS}tagSet") for item in above]
        return {
            f"aws:ResourceTag/{item.findtext(f'{_NS}key', '')}": item.findtext(f"{_NS}value", "")
            for item in found
        }


def _given(asked: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The tags that a request gives the snapshots that it makes."""
    for name, value in asked.items():
        found = re.fullmatch(r"(TagSpecification\.\d+)\.(Tag\.\d+)\.Key", name)
        if found and asked[f"{found[1]}.ResourceType"] == "snapshot":
            yield value, asked.get(f"{found[1]}.{found[2]}.Value", "")


def _refusal(need: Need) -> Answer:
    text = f"User is not authorized to perform: {need.action} on resource: {need.resource}"
    if need.action.startswith("ebs:"):
        body = f'{{"Message": "{text}", "Reason": "UNAUTHORIZED_ACCOUNT"}}'
        headers = {"x-amzn-ErrorType": "AccessDeniedException", "content-type": "application/x-amz-json-1.1"}
        return Answer(403, body.encode(), headers)
    error = f"<Error><Code>UnauthorizedOperation</Code><Message>{text}</Message></Error>"
    return Answer(
        403, f"<Response><Errors>{error}</Errors></Response>".encode(), {"content-type": "text/xml"}
    )
