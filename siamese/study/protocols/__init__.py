"""Rating protocols, one a module. Every module of this package is imported here, so that its protocol is registered."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from siamese.study.protocols.base import RatingProtocol
from siamese.study.protocols.registry import find_protocol, protocol_names, protocols, register

__all__ = [
    "RatingProtocol",
    "find_protocol",
    "protocol_names",
    "protocols",
    "register",
]

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
