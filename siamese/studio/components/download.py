"""Downloads whose file is written when the visitor asks for it."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from siamese.studio.components import html
from siamese.studio.components.errors import diagnosis, message_for
from siamese.studio.components.listeners import HIDDEN, QUICK
from siamese.studio.storage.collection_entry import CollectionError
from siamese.studio.visitors.cache import scratch

log = logging.getLogger(__name__)

_numbers = itertools.count()


def on_demand(
    trigger: Callable[..., Dependency],
    make: Callable[..., Path],
    inputs: list[Any],
    note: gr.HTML,
    made: Callable[..., object] = lambda path, *values: None,
) -> None:
    """Write a file on the event ``trigger`` (``button.click``), and hand it to the browser.

    Gradio's download button needs its file before it is pressed. This writes the file first, and then presses a hidden button.

    Args:
        make: called with the inputs' values and a temporary folder; returns the file in it. ``note`` shows a ValueError,
            a CollectionError or an OSError.
        made: called with the file and the inputs' values when the file is written.
    """
    name = f"on-demand-{next(_numbers)}"
    link = gr.DownloadButton("Download", visible="hidden", elem_id=name)

    def prepare(*values: Any) -> Iterator[dict[Any, Any]]:
        folder = None
        try:
            folder = (
                scratch()
            )  # the visitor's own: the server serves the file from the folder in which it is made
            path = make(*values, folder)
            made(path, *values)
            yield {link: gr.update(value=str(path)), note: html.note("idle", "")}
        except (ValueError, CollectionError, OSError) as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)  # the hourly clean-up removes what is left
            text = str(error)
            if isinstance(error, OSError):
                log.exception("a file could not be made")
                text = message_for(error)
            yield {link: gr.update(value=None), note: html.note("error", text)}

    prepared = trigger(prepare, inputs, [link, note], concurrency_limit=4, **HIDDEN)
    prepared.then(None, js=f"() => studioPage.pressSoon('{name}')")
    # Gradio's own copy of the file may not fit on the disk.
    prepared.failure(lambda: html.note("error", diagnosis()), None, note, **QUICK)
