"""Files that are made when they are asked for."""
from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from siamese.collection import CollectionError
from siamese.interface import status
from siamese.interface.cache import scratch
from siamese.interface.events import HIDDEN

_numbers = itertools.count()


def on_demand(happens: Callable[..., Dependency], make: Callable[..., Path], inputs: list[Any], note: gr.HTML) -> None:
    """Make a file once ``happens`` does (``button.click``), and hand it to the browser.

    A download button holds its file before it is pressed; this makes the file first and presses a hidden one.

    Args:
        make: called with the inputs' values and a temporary folder; returns the file in it. A ValueError or a CollectionError
            is shown in ``note``.
    """
    name = f"on-demand-{next(_numbers)}"
    link = gr.DownloadButton("Download", visible="hidden", elem_id=name)

    def prepare(*values: Any) -> Iterator[tuple[Any, Any]]:
        folder = scratch()  # the visitor's own: the file is served from where it is made
        try:
            path = make(*values, folder)
        except (ValueError, CollectionError) as error:
            shutil.rmtree(folder)
            yield gr.update(value=None), status.note("error", str(error))
        else:
            yield gr.update(value=str(path)), status.note("idle", "")

    # The hidden button takes its new file a moment after the event; without one it does nothing.
    press = f"() => setTimeout(() => document.querySelector('#{name}').click(), 200)"
    happens(prepare, inputs, [link, note], concurrency_limit=4, **HIDDEN).then(None, js=press)
