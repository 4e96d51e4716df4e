"""The protocols that there are. A module of this package registers its protocol when it is imported; a plug-in calls ``register`` itself."""

from __future__ import annotations

from typing import Any, TypeVar

from siamese.study.protocols.base import RatingProtocol

Kind = TypeVar("Kind", bound=RatingProtocol[Any])
_registered: dict[str, RatingProtocol[Any]] = {}


def register(kind: type[Kind]) -> type[Kind]:
    """Make ``kind`` known by its name; to be used as a decorator of the class.

    Raises:
        ValueError: another protocol has this name.
    """
    if kind.name in _registered:
        raise ValueError(f"there is a protocol {kind.name!r} already.")
    _registered[kind.name] = kind()
    return kind


def protocols() -> list[RatingProtocol[Any]]:
    """All protocols in the order in which they are offered."""
    return sorted(_registered.values(), key=lambda p: (p.position, p.name))


def protocol_names() -> tuple[str, ...]:
    """Names of ``protocols()``."""
    return tuple(p.name for p in protocols())


def find_protocol(name: object) -> RatingProtocol[Any] | None:
    """The protocol of that name; None if no protocol has it."""
    return _registered.get(name) if isinstance(name, str) else None
