"""A visitor's own photo: in memory, with a list of the files in which the page showed it."""

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
)  # one is itself only: Gradio hashes states to see changes, and arrays have no hash
class Photo:
    """A visitor's own photo. A session holds it reduced; as it was uploaded it stays in a file, while it is used.

    What is served of it is written through it, so that ``forget`` finds every file.
    """

    pixels: np.ndarray
    """uint8 [H, W, 3], what is traced: its longer side is at most ``siamese.studio.components.canvas.MAX_SIDE``."""
    name: str
    original: Path
    """The uploaded file, at its own size, with a folder of its own."""
    files: list[Path] = field(default_factory=list, repr=False)
    """What is served of it, in the visitor's folder, each with a folder of its own."""
    gone: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set by ``forget``; an event that still runs may hold the photo."""

    def served(self, pixels: np.ndarray) -> str:
        """A picture uint8 [H, W, 3 or 4] that shows the photo, as a file for Gradio to serve. OSError where it cannot be written."""
        path = processing_utils.save_pil_to_cache(servable(pixels), utils.get_upload_folder(), format="png")
        self.note(Path(path))
        return path

    def at_its_own_size(self) -> np.ndarray:
        """uint8 [H, W, 3]; UploadError where the file is not there any more."""
        return read_photo(self.original)

    def forget(self) -> None:
        """Delete the files, those that are written from now on at once; the pixels go with the last reference to the photo."""
        self.gone.set()
        paths = [self.original, *self.files]
        self.files.clear()
        for path in paths:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # another file is in it
                path.parent.rmdir()

    def note(self, path: Path) -> None:
        """The file at ``path`` shows the photo, too."""
        self.files.append(path)
        if self.gone.is_set():
            self.forget()
