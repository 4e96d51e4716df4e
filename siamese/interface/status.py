"""Small pieces of HTML: header, status with progress, caption. All text is escaped."""
from __future__ import annotations

from html import escape
from typing import Literal

from siamese.interface.output import NOTICE
from siamese.interface.worker import Generated, ModelInfo

Kind = Literal["idle", "busy", "done", "error"]

HEADER = f"""<header class="masthead">
<div><h1>Siamese-Diffusion Studio</h1>
<p>Draw a lesion and sample a synthetic image of it.</p></div>
<p class="notice" role="note">{NOTICE}</p>
</header>"""


def heading(number: int, text: str) -> str:
    """A numbered section heading."""
    return f'<h2 class="step"><span aria-hidden="true">{number}</span>{escape(text)}</h2>'


def status(kind: Kind, text: str, fraction: float | None = None) -> str:
    """The line below Generate; with a bar where ``fraction`` 0..1 is given. Its height never changes while sampling."""
    role = {"error": "alert", "busy": "group"}.get(kind, "status")  # a live region would read out every step
    bar = ""
    if fraction is not None:
        percent = round(100 * fraction)
        bar = (f'<div class="bar" role="progressbar" aria-label="Sampling" aria-valuemin="0" aria-valuemax="100" '
               f'aria-valuenow="{percent}"><div style="width:{percent}%"></div></div>')
    return f'<div class="status {kind}" role="{role}"><p>{escape(text)}</p>{bar}</div>'


def caption(generated: Generated | None) -> str:
    """What is below the image: its seed and settings."""
    if generated is None:
        return '<p class="caption">The image will appear above.</p>'
    return f'<p class="caption">Seed {generated.seed} · {generated.steps} steps · guidance {generated.guidance:g}</p>'


def model_line(info: ModelInfo | None, error: str | None = None) -> str:
    """Whether the model is there: loading, ready, or what to do."""
    if error is not None:
        return f'<p class="model error" role="alert">{escape(error)}</p>'
    if info is None:
        return '<p class="model busy" role="status">Loading the model. You can draw meanwhile.</p>'
    return f'<p class="model ready" role="status">Model {escape(info.name)} is ready.</p>'
