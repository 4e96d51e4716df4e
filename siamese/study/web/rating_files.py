"""The raters' page and the files that the studies' pages load, read once for each application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from siamese.study.web.pages import Pages
from siamese.study.web.protocol_files import scripts

STATIC = {
    "rate.js": "text/javascript",
    "controls.js": "text/javascript",
    "forms.js": "text/javascript",
    "look.css": "text/css",
    "rate.css": "text/css",
    "admin.css": "text/css",
    "icon.svg": "image/svg+xml",
}
"""Media types by file name."""


@dataclass(frozen=True)
class RatingFiles:
    """Files that are the same for everybody; those of each protocol are among them."""

    page: bytes
    """The raters' page in HTML; its script asks for the rest."""
    static: Mapping[str, tuple[bytes, str]]
    """Contents and media type by the name under ``/study-static/``."""


def load_rating_files(pages: Pages) -> RatingFiles:
    """The files as they are on disk now, and the raters' page among ``pages``."""
    folder = resources.files("siamese.study.web") / "static"
    own = {name: ((folder / name).read_bytes(), kind) for name, kind in STATIC.items()}
    protocols = {name: (data, STATIC["rate.js"]) for name, data in scripts().items()}
    return RatingFiles(page=pages.rating_page(), static=own | protocols)
