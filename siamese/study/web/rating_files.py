"""The raters' page and the files that the studies' pages load, read once for each application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

STATIC = {
    "rate.js": "text/javascript",
    "rate.css": "text/css",
    "admin.css": "text/css",
    "icon.svg": "image/svg+xml",
}
"""Media types by file name."""


@dataclass(frozen=True)
class RatingFiles:
    """Files that are the same for everybody."""

    page: bytes
    """The raters' page in HTML; its script asks for the rest."""
    static: Mapping[str, tuple[bytes, str]]
    """Contents and media type by the name under ``/study-static/``."""


def load_rating_files() -> RatingFiles:
    """The files as they are on disk now."""
    web = resources.files("siamese.study.web")
    return RatingFiles(
        page=(web / "templates" / "rate.html").read_bytes(),
        static={name: ((web / "static" / name).read_bytes(), kind) for name, kind in STATIC.items()},
    )
