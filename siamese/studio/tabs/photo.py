"""A visitor's own photo in memory, with a list of all files that show it."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gradio import processing_utils, utils

from siamese.records.uploads import read_photo
from siamese.studio.components.images import servable


@dataclass(
    frozen=True, eq=False
)  # compared by identity: Gradio hashes states to detect changes, and arrays have no hash
class Photo:
    """A visitor's own photo. The session holds it in reduced size; the upload stays in a file as long as the photo is used.

    All files that show it are written by its methods or noted in it, so that ``forget`` can delete every one.
    """

    pixels: np.ndarray
    """uint8 [H, W, 3], as shown on the canvas: its longer side is at most ``siamese.masks.packed.MAX_SIDE``."""
    name: str
    original: Path
    """The uploaded file, at its own size, alone in its folder."""
    files: list[Path] = field(default_factory=list, repr=False)
    """Files that show it, each alone in its folder in the visitor's folder."""
    gone: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set by ``forget``, for events that still run with the photo."""

    def served(self, pixels: np.ndarray) -> str:
        """Write a picture uint8 [H, W, 3 or 4] that shows the photo to a file for Gradio to serve; returns its path. Raises OSError if it cannot be written."""
        path = processing_utils.save_pil_to_cache(servable(pixels), utils.get_upload_folder(), format="png")
        self.note(Path(path))
        return path

    def at_its_own_size(self) -> np.ndarray:
        """The uploaded photo uint8 [H, W, 3]. Raises UploadError if the file does not exist any more."""
        return read_photo(self.original)

    def forget(self) -> None:
        """Delete all files; later ones are deleted as soon as they are noted."""
        self.gone.set()
        paths = [self.original, *self.files]
        self.files.clear()
        for path in paths:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # there is another file in it
                path.parent.rmdir()

    def note(self, path: Path) -> None:
        """Note that the file at ``path`` shows the photo."""
        self.files.append(path)
        if self.gone.is_set():
            self.forget()
