"""The folder into which Gradio's components write: that of the visitor whose event runs.

Gradio has one cache for all visitors, and names a file by its content. It finds the cache in three ways, which importing this module
redirects: each component's ``GRADIO_CACHE``; ``utils.get_upload_folder``, which its check of paths allows, too; and ``temp_files``, lists
of all files ever written, which only its own clean-up reads and which would grow for ever.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

from gradio import processing_utils, utils
from gradio.blocks import Block

_folder: ContextVar[Path | None] = ContextVar("siamese_cache", default=None)
_default = utils.get_upload_folder


class _Nothing(set[str]):
    """A set that stays empty."""

    def add(self, value: str) -> None:
        """Ignore ``value``: ``TemporaryFolder`` reads the disk instead."""


def cache_folder() -> str:
    """The folder for files that the browser loads: that of the visitor whose event runs; Gradio's own outside of events."""
    return str(_folder.get() or _default())


def scratch() -> Path:
    """A new folder for files that the browser loads. It is removed an hour after its last use."""
    Path(cache_folder()).mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=cache_folder()))


@contextmanager
def caching(folder: Path) -> Iterator[None]:
    """Inside, Gradio writes to ``folder``."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


utils.get_upload_folder = cast(Any, processing_utils).get_upload_folder = cache_folder
cast(Any, Block).GRADIO_CACHE = property(lambda block: cache_folder(), lambda block, value: None)
cast(Any, Block).temp_files = property(lambda block: _Nothing(), lambda block, value: None)
