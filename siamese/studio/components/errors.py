"""Failures around an event of the page rather than in its function: the visitor gets a sentence, and the buttons are enabled again.

Gradio reads an event's inputs before the function runs, and writes the pictures that it returns afterwards, so the function cannot catch
the error of a full disk.
"""

from __future__ import annotations

import errno
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio import utils
from gradio.events import Dependency

from siamese.studio.components.listeners import HIDDEN, QUICK

log = logging.getLogger(__name__)

FULL = (
    "The server’s disk is full, so your request failed. Your drawing and settings are still on this page: try again in a few minutes. "
    "Whoever runs the server has to free space for temporary files."
)
BROKEN = "Something went wrong on the server, so your request failed. Please try again; the details are in the server’s log."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NEEDED_BYTES = 1_000_000
"""Free space that the temporary folder needs for an event to succeed: a few pictures."""


class Page(gr.Blocks):
    """Blocks whose failed events give the visitor a sentence, even if the error is raised outside the event's function."""

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """As Gradio's. Raises gr.Error in place of every exception that is not meant for the visitor."""
        try:
            return await super().process_api(*args, **options)
        except (gr.Error, HTTPException):
            raise
        except Exception as error:
            log.exception("an event of the page failed")
            raise gr.Error(message_for(error), print_exception=False) from error


def message_for(error: Exception) -> str:
    """The sentence for the visitor about an error that has no message of its own."""
    return FULL if isinstance(error, OSError) and error.errno in _FULL else BROKEN


def diagnosis() -> str:
    """The sentence for a failure that only the browser saw: this tries to write a file, to tell whether the disk is full."""
    folder = Path(utils.get_upload_folder())
    try:
        with tempfile.TemporaryFile(dir=folder if folder.is_dir() else None) as file:
            file.write(bytes(NEEDED_BYTES))
            file.flush()
    except OSError as error:
        return message_for(error)
    return BROKEN


def build_rescue() -> gr.Button:
    """The hidden button that ``static/studio.js`` presses after a failure which Gradio does not report.

    It shows a warning. Tabs that disable buttons during a run listen to it, too, and enable them again.
    """
    rescue = gr.Button("Rescue", visible="hidden", elem_id="rescue")
    rescue.click(lambda: gr.Warning(diagnosis()), None, None, concurrency_limit=None, **HIDDEN)
    return rescue


def after_event(
    event: Dependency,
    succeeded: Callable[..., Any],
    failed: Callable[..., Any],
    inputs: Any,
    outputs: list[Any],
) -> tuple[Dependency, Dependency]:
    """Call ``succeeded`` after ``event``, or ``failed`` if it raised; Gradio skips ``then`` after an error.

    Returns:
        The events of the two calls. Their outputs should not need the disk, because a full disk may be the cause.
    """
    return event.then(succeeded, inputs, outputs, **QUICK), event.failure(failed, inputs, outputs, **QUICK)
