"""The template part and the script of each rating protocol."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import jinja2

from siamese.study.protocols import RatingProtocol, find_protocol, protocols

PREFIX = "protocols/"


def protocol_file(protocol: RatingProtocol[Any], suffix: str) -> Traversable:
    """The protocol's own file: ``.html`` for its template part, ``.js`` for its script."""
    name = f"{protocol.name}{suffix}"
    if protocol.assets is not None:
        return protocol.assets / name
    folder = "templates" if suffix == ".html" else "static"
    return resources.files("siamese.study.web") / folder / "protocols" / name


def template_source(name: str) -> str | None:
    """The template part ``protocols/NAME.html`` for Jinja; None if that is not a protocol's."""
    protocol = find_protocol(name.removeprefix(PREFIX).removesuffix(".html"))
    if not name.startswith(PREFIX) or protocol is None:
        return None
    return protocol_file(protocol, ".html").read_text(encoding="utf-8")


def protocol_loader() -> jinja2.BaseLoader:
    """Finds protocols' template parts, a plug-in's too."""
    return jinja2.FunctionLoader(template_source)


def scripts() -> dict[str, bytes]:
    """Every protocol's script by its address below ``/study-static/``."""
    return {f"{PREFIX}{p.name}.js": protocol_file(p, ".js").read_bytes() for p in protocols()}
