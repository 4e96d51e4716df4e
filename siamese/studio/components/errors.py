"""What goes wrong around an event of the page rather than in it: the visitor gets a sentence, and the buttons back.

Gradio reads an event's inputs before the event's function runs and writes the pictures that it returns afterwards, so a full disk is met where
the function cannot catch it.
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
    "The server’s disk is full, so this was not done. Your drawing and settings are still here: try again in a few minutes. "
    "Whoever runs the server has to free space for temporary files."
)
BROKEN = "Something went wrong on the server, so this was not done. Please try again; the details are in the server’s log."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ROOM = 1_000_000
"""Bytes that the temporary folder must take for an event to go through: a few pictures."""

RESCUE = """<script>
// Gradio reads an event's inputs outside of what it guards: where that fails (a drawing that the server cannot take), nothing that
// follows the event runs, and a button that waits for it would wait for ever. This presses a hidden button, which gives it back.
{ let asked = null;
  addEventListener('unhandledrejection', (event) => {
    const rescue = document.querySelector('#rescue');
    if (!rescue) return;
    event.preventDefault(); console.warn(event.reason);
    clearTimeout(asked); asked = setTimeout(() => rescue.click(), 500);  // one press may meet several
  });
}
</script>"""


class Page(gr.Blocks):
    """Blocks whose events fail with a sentence, wherever around their function it was."""

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """As Gradio's. Raises gr.Error for whatever is no refusal already."""
        try:
            return await super().process_api(*args, **options)
        except (gr.Error, HTTPException):
            raise
        except Exception as error:
            log.exception("an event of the page failed")
            raise gr.Error(sentence_for(error), print_exception=False) from error


def sentence_for(error: Exception) -> str:
    """What to tell a visitor of an error that nothing else explains."""
    return FULL if isinstance(error, OSError) and error.errno in _FULL else BROKEN


def reason() -> str:
    """The sentence for a failure that was seen in the browser alone: whether the disk is full is tried out."""
    folder = Path(utils.get_upload_folder())
    try:
        with tempfile.TemporaryFile(dir=folder if folder.is_dir() else None) as file:
            file.write(bytes(ROOM))
            file.flush()
    except OSError as error:
        return sentence_for(error)
    return BROKEN


def build_rescue() -> gr.Button:
    """The hidden button that the page's script presses; it says what happened. Whoever takes buttons away listens to it, too."""
    rescue = gr.Button("Rescue", visible="hidden", elem_id="rescue")
    rescue.click(lambda: gr.Warning(reason()), None, None, concurrency_limit=None, **HIDDEN)
    return rescue


def whatever_happens(
    happened: Dependency,
    ended: Callable[..., Any],
    failed: Callable[..., Any],
    inputs: Any,
    outputs: list[Any],
) -> tuple[Dependency, Dependency]:
    """Once ``happened`` is over, call ``ended``, or ``failed`` where it raised: Gradio leaves ``then`` out after an error.

    Returns:
        The two events. What they give back should need no disk, which may be what failed.
    """
    return happened.then(ended, inputs, outputs, **QUICK), happened.failure(failed, inputs, outputs, **QUICK)
