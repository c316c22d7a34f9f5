"""Calls every operation of a service that the SDK knows, with made-up arguments, to see what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

_DENIED = {"AccessDenied", "AccessDeniedException", "403", "Forbidden"}
#: Makes signed addresses or waits for a stream; no request of its own.
_NOT_TRIED = {"SelectObjectContent", "WriteGetObjectResponse"}
_DEEPEST = 6


def try_everything(client: Any, known: Mapping[str, Any]) -> dict[str, str]:
    """``denied``, ``done`` or the code of another error, by the name of the operation.

    ``known`` are the values of arguments by their names; what they do not have is made up.
    """
    model = client.meta.service_model
    methods = {operation: method for method, operation in client.meta.method_to_api_mapping.items()}
    outcomes = {}
    for name in model.operation_names:
        if name in _NOT_TRIED:
            continue
        shape = model.operation_model(name).input_shape
        arguments = _structure(shape, known, 0) if shape is not None else {}
        outcomes[name] = _outcome(getattr(client, methods[name]), arguments)
    return outcomes


def _outcome(call: Any, arguments: Mapping[str, Any]) -> str:
    try:
        answer = call(**arguments)
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        return "denied" if code in _DENIED else code
    except BotoCoreError as error:
        return type(error).__name__
    errors = {str(one.get("Code")) for one in answer.get("Errors", ())} if isinstance(answer, dict) else set()
    return "denied" if errors and errors <= _DENIED else "done"


def _structure(shape: Any, known: Mapping[str, Any], depth: int) -> dict[str, Any]:
    made = {}
    for name, member in shape.members.items():
        if name in known and depth == 0:
            made[name] = known[name]
        elif name in shape.required_members:
            made[name] = _value(name, member, known, depth + 1)
    return made


def _value(name: str, shape: Any, known: Mapping[str, Any], depth: int) -> Any:
    if name in known:
        return known[name]
    if shape.type_name == "structure":
        return _structure(shape, {}, depth) if depth < _DEEPEST else {}
    if shape.type_name == "list":
        return [_value("", shape.member, {}, depth + 1)]
    if shape.type_name == "map":
        return {"a": "b"}
    simple = {
        "integer": 7,
        "long": 7,
        "boolean": True,
        "blob": b"bytes",
        "timestamp": datetime.now(UTC) + timedelta(days=1),
        "float": 1.0,
        "double": 1.0,
    }
    if shape.type_name in simple:
        return simple[shape.type_name]
    return shape.enum[0] if getattr(shape, "enum", None) else "x" * max(1, shape.metadata.get("min", 1))
