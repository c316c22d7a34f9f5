"""A process that ends at a chosen call."""

from __future__ import annotations

from typing import Any


class Killed(BaseException):
    """The process ends here."""


class Dying:
    """A service, or a place, that ends with the process before or after one of its calls."""

    def __init__(self, inner: Any, method: str, *, after: bool) -> None:
        self._inner, self._method, self._after = inner, method, after

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name != self._method:
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            if self._after:
                value(*arguments, **options)
            raise Killed

        return call
