"""Where Gradio's components write: into the folder of the visitor whose event runs.

Gradio has one cache for everybody, and names a file by its content. The place is asked for in three ways, which all lead here once this
module is imported: each component's ``GRADIO_CACHE``, ``utils.get_upload_folder`` (also the folder that its check of paths allows), and
``temp_files``, lists of all files ever written, which only its own clean-up reads and which would grow for ever.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from gradio import processing_utils, utils
from gradio.blocks import Block

_folder: ContextVar[Path | None] = ContextVar("siamese_cache", default=None)
_default = utils.get_upload_folder


class _Nothing(set[str]):
    """Keeps nothing."""

    def add(self, value: str) -> None:
        """Nothing is to be remembered: ``TemporaryFolder`` looks at the disk."""


def cache_folder() -> str:
    """Where files for the browser are written now: the running event's visitor's folder; Gradio's own outside of any event."""
    return str(_folder.get() or _default())


def scratch() -> Path:
    """A new folder for files that are made for the browser. It is not removed by whoever makes them, but when it was not used for an hour."""
    Path(cache_folder()).mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=cache_folder()))


@contextmanager
def caching(folder: Path) -> Iterator[None]:
    """What Gradio writes inside is written to ``folder``."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


utils.get_upload_folder = processing_utils.get_upload_folder = cache_folder
Block.GRADIO_CACHE = property(lambda block: cache_folder(), lambda block, value: None)
Block.temp_files = property(lambda block: _Nothing(), lambda block, value: None)
