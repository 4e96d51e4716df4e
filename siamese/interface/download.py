"""Files that are made when they are asked for."""
from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from siamese.collection import CollectionError
from siamese.interface import status
from siamese.interface.events import HIDDEN, QUICK
from siamese.interface.trouble import reason, sentence_for

log = logging.getLogger(__name__)

_numbers = itertools.count()


def on_demand(happens: Callable[..., Dependency], make: Callable[..., Path], inputs: list[Any], note: gr.HTML,
              served: Callable[..., str] | None = None) -> None:
    """Make a file once ``happens`` does (``button.click``), and hand it to the browser.

    A download button holds its file before it is pressed; this makes the file first and presses a hidden one.

    Args:
        make: called with the inputs' values and a temporary folder; returns the file in it. A ValueError or a CollectionError
            is shown in ``note``, and so is a disk that refuses.
        served: called with the file and the inputs' values; returns the copy for Gradio to serve. Gradio makes one by itself where None.
    """
    name = f"on-demand-{next(_numbers)}"
    link = gr.DownloadButton("Download", visible="hidden", elem_id=name)

    def prepare(*values: Any) -> Iterator[tuple[Any, Any]]:
        # Gradio copies the file to its cache before the folder is gone.
        try:
            with tempfile.TemporaryDirectory(prefix="siamese-") as folder:
                path = make(*values, Path(folder))
                yield gr.update(value=str(path) if served is None else served(path, *values)), status.note("idle", "")
        except (ValueError, CollectionError) as error:
            yield gr.update(value=None), status.note("error", str(error))
        except OSError as error:
            log.exception("a file could not be made")
            yield gr.update(value=None), status.note("error", sentence_for(error))

    # The hidden button takes its new file a moment after the event; without one it does nothing.
    press = f"() => setTimeout(() => document.querySelector('#{name}').click(), 200)"
    made = happens(prepare, inputs, [link, note], concurrency_limit=4, **HIDDEN)
    made.then(None, js=press)
    made.failure(lambda: status.note("error", reason()), None, note, **QUICK)  # Gradio's own copy did not fit on the disk
