"""YAML as plans use it: mappings, lists and texts, each with its place in the file.

No scalar has a type of its own here: whether ``012`` is a number or the name of an account is for the models
to say, not for YAML. Anchors, aliases and merge keys work; tags, and keys that are no texts, have no use.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from donjon.plan.problems import Path

MAX_CHARACTERS: Final = 1 << 20
MAX_DEPTH: Final = 50
#: With all aliases followed.
MAX_VALUES: Final = 100_000

_NULLS: Final = {"", "~", "null", "Null", "NULL"}
_MERGE: Final = "<<"
Place = tuple[int, int]


@dataclass(slots=True, eq=False)
class Node:
    """A value: a text, None, a list, or a mapping whose keys have places too. Lines and columns from 1."""

    place: Place
    value: str | list[Node] | dict[str, Node] | None
    keys: dict[str, Place] = field(default_factory=dict)
    #: How many values this is, with all that is within it.
    size: int = 1

    def plain(self) -> Any:
        """The same without places."""
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return self.value

    def find(self, path: Path, *, at_key: bool = False) -> tuple[Path, Place]:
        """The place of a path, and the path itself; parts that are not in the file are passed over.

        The models tell their errors with such parts: the kind of a workload, for one.
        """
        node, place, found = self, self.place, []
        for part in path:
            if isinstance(node.value, dict) and part in node.value:
                place = node.keys[str(part)]
                node = node.value[str(part)]
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                place = node.place
            else:
                continue
            found.append(part)
        return tuple(found), place if at_key else node.place


@dataclass(slots=True)
class Document:
    """A file as it was read; ``root`` is None if nothing can be made of it."""

    root: Node | None
    problems: list[tuple[Place, str, str]] = field(default_factory=list)

    def add(self, place: Place, message: str, hint: str = "") -> None:
        """One more that is wrong with the file as such."""
        self.problems.append((place, message, hint))


class _Stop(Exception):
    """Reading on would be no use."""


def parse(text: str) -> Document:
    """Read a file. Never raises: what is wrong is in the document."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    document = Document(None)
    if len(text) > MAX_CHARACTERS:
        document.add((1, 1), f"a plan has at most {MAX_CHARACTERS >> 20} MiB", "Make a plan for each site.")
        return document
    try:
        document.root = _Builder(document).build(_events(text))
    except _Stop:
        pass
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = ", ".join(part for part in (error.context, error.problem) if part)
        document.add(place, f"is no YAML: {said}", "Look at the indentation and the quotes here.")
    except ReaderError as error:
        before = text[: error.position].splitlines() or [""]
        document.add((len(before), len(before[-1]) + 1), "is no YAML: a character that no text has")
    except (YAMLError, ValueError, OverflowError) as error:
        document.add((1, 1), f"is no YAML: {error}")
    return document


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anchors that are set anew, which is no fault
        yield from YAML(typ="safe", pure=True).parse(text)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come; ``key`` is the one whose value comes next."""

    node: Node
    anchor: str | None
    key: str | None = None
    merges: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class _Builder:
    """Makes nodes of the events of the parser, without recursion."""

    document: Document
    anchors: dict[str, Node | None] = field(default_factory=dict)
    stack: list[_Open] = field(default_factory=list)
    root: Node | None = None

    def build(self, events: Iterator[Any]) -> Node | None:
        from ruamel.yaml import events as kinds

        for event in events:
            place = (event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, kinds.DocumentStartEvent):
                if self.root is not None:
                    self.stop(place, "a second document begins here", "Make it a file of its own.")
            elif isinstance(event, kinds.AliasEvent):
                self.put(self.alias(event.anchor, place), None, place)
            elif isinstance(event, kinds.ScalarEvent):
                self.scalar(event, place)
            elif isinstance(event, kinds.CollectionStartEvent):
                self.open(event, place, {} if isinstance(event, kinds.MappingStartEvent) else [])
            elif isinstance(event, kinds.CollectionEndEvent):
                self.close()
        return self.root

    def stop(self, place: Place, message: str, hint: str = "") -> None:
        self.document.add(place, message, hint)
        raise _Stop

    def alias(self, name: str, place: Place) -> Node:
        node = self.anchors.get(name)
        if node is None:
            what = "is within what it stands for" if name in self.anchors else "stands for nothing above"
            self.stop(place, f"the alias *{name} {what}", f"Put &{name} before the value that is meant.")
        assert node is not None  # noqa: S101  (stop has raised)
        return node

    def scalar(self, event: Any, place: Place) -> None:
        self.check_tag(event, place)
        is_null = not event.style and event.value in _NULLS
        self.put(Node(place, None if is_null else event.value), event.anchor, place)

    def check_tag(self, event: Any, place: Place) -> None:
        if event.tag:
            self.document.add(place, "tags have no use in a plan", "Leave the word with the ! out.")

    def open(self, event: Any, place: Place, value: dict[str, Node] | list[Node]) -> None:
        self.check_tag(event, place)
        parent = self.stack[-1].node.value if self.stack else None
        if isinstance(parent, dict) and self.stack[-1].key is None:
            self.stop(place, "a key has to be a text", "Write it as `key: value`.")
        if len(self.stack) >= MAX_DEPTH:
            self.stop(place, f"is nested more than {MAX_DEPTH} levels deep")
        if event.anchor:
            self.anchors[event.anchor] = None
        self.stack.append(_Open(Node(place, value), event.anchor))

    def close(self) -> None:
        done = self.stack.pop()
        if isinstance(done.node.value, dict):
            for other in done.merges:
                self.grow(done.node, other, done.node.place)
                _merge(done.node, done.node.value, other)
        self.put(done.node, done.anchor, done.node.place)

    def put(self, node: Node, anchor: str | None, place: Place) -> None:
        """A value that is complete comes to its key, its list, or is the whole file."""
        if anchor:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if isinstance(top.node.value, list):
            top.node.value.append(node)
            self.grow(top.node, node, place)
        elif top.key is None:
            self.begin_key(top, node, place)
        else:
            key, top.key = top.key, None
            self.put_value(top, key, node)
            self.grow(top.node, node, place)

    def begin_key(self, top: _Open, node: Node, place: Place) -> None:
        if not isinstance(node.value, str):
            self.stop(place, "a key has to be a text", "Write it as `key: value`.")
        top.key = str(node.value)
        if top.key in top.node.keys:
            first = top.node.keys[top.key][0]
            self.document.add(place, f"{top.key!r} is there twice; it was given in line {first}", "Keep one.")
        else:
            top.node.keys[top.key] = place

    def put_value(self, top: _Open, key: str, node: Node) -> None:
        assert isinstance(top.node.value, dict)  # noqa: S101  (the caller has looked)
        if key != _MERGE:
            top.node.value.setdefault(key, node)
            return
        del top.node.keys[key]
        others = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(other.value, dict) for other in others):
            self.stop(node.place, "<< takes in mappings, and this is none", "Give an alias, such as *base.")
        top.merges += others

    def grow(self, parent: Node, child: Node, place: Place) -> None:
        parent.size += child.size
        if parent.size > MAX_VALUES:
            hint = "Use fewer aliases, or make several plans."
            self.stop(place, f"has more than {MAX_VALUES} values, with all aliases followed", hint)


def _merge(node: Node, value: dict[str, Node], other: Node) -> None:
    """What the other mapping has and this one has not."""
    assert isinstance(other.value, dict)  # noqa: S101  (put_value has looked)
    for key, child in other.value.items():
        if key not in value:
            value[key] = child
            node.keys[key] = other.keys[key]
