"""Files that are made when they are asked for."""

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
from siamese.studio.components.errors import reason, sentence_for
from siamese.studio.components.listeners import HIDDEN, QUICK
from siamese.studio.storage.collections import CollectionError
from siamese.studio.visitors.cache import scratch

log = logging.getLogger(__name__)

_numbers = itertools.count()


def on_demand(
    happens: Callable[..., Dependency],
    make: Callable[..., Path],
    inputs: list[Any],
    note: gr.HTML,
    made: Callable[..., object] = lambda path, *values: None,
) -> None:
    """Make a file once ``happens`` does (``button.click``), and hand it to the browser.

    A download button holds its file before it is pressed; this makes the file first and presses a hidden one.

    Args:
        make: called with the inputs' values and a temporary folder; returns the file in it. A ValueError or a CollectionError
            is shown in ``note``, and so is a disk that refuses.
        made: called with the file and the inputs' values once it is there.
    """
    name = f"on-demand-{next(_numbers)}"
    link = gr.DownloadButton("Download", visible="hidden", elem_id=name)

    def prepare(*values: Any) -> Iterator[tuple[Any, Any]]:
        folder = None
        try:
            folder = scratch()  # the visitor's own: the file is served from where it is made
            path = make(*values, folder)
            made(path, *values)
            yield gr.update(value=str(path)), html.note("idle", "")
        except (ValueError, CollectionError, OSError) as error:
            if folder is not None:
                shutil.rmtree(
                    folder, ignore_errors=True
                )  # as far as the disk lets it; the hourly clean-up takes the rest
            if isinstance(error, OSError):
                log.exception("a file could not be made")
            yield (
                gr.update(value=None),
                html.note("error", sentence_for(error) if isinstance(error, OSError) else str(error)),
            )

    # The hidden button takes its new file a moment after the event; without one it does nothing.
    press = f"() => setTimeout(() => document.querySelector('#{name}').click(), 200)"
    prepared = happens(prepare, inputs, [link, note], concurrency_limit=4, **HIDDEN)
    prepared.then(None, js=press)
    prepared.failure(
        lambda: html.note("error", reason()), None, note, **QUICK
    )  # what Gradio writes beside it did not fit on the disk
