"""A visitor's own photo: in memory, with a list of the files in which the page showed it."""
from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gradio import processing_utils, utils

from siamese.interface.output import servable


@dataclass(frozen=True, eq=False)  # one is itself only: Gradio hashes states to see changes, and arrays have no hash
class Photo:
    """A visitor's own photo. What is served of it is written through it, so that ``forget`` finds every file."""

    pixels: np.ndarray
    """uint8 [H, W, 3] at its own size."""
    name: str
    files: list[Path] = field(default_factory=list, repr=False)
    """In Gradio's cache, each with a folder of its own."""
    gone: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set by ``forget``; an event that still runs may hold the photo."""

    def served(self, pixels: np.ndarray) -> str:
        """A picture uint8 [H, W, 3 or 4] that shows the photo, as a file for Gradio to serve. OSError where it cannot be written."""
        return self._noted(processing_utils.save_pil_to_cache(servable(pixels), utils.get_upload_folder(), format="png"))

    def served_file(self, path: Path) -> str:
        """A copy of the file ``path``, which holds the photo, for Gradio to serve. OSError where it cannot be written."""
        return self._noted(processing_utils.save_file_to_cache(path, utils.get_upload_folder()))

    def forget(self) -> None:
        """Delete the files, those that are written from now on at once; the pixels go with the last reference to the photo."""
        self.gone.set()
        while self.files:
            path = self.files.pop()
            path.unlink(missing_ok=True)
            with suppress(OSError):  # another file is in it
                path.parent.rmdir()

    def _noted(self, path: str) -> str:
        self.files.append(Path(path))
        if self.gone.is_set():
            self.forget()
        return path
