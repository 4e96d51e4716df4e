"""Small pieces of HTML: header, status with progress, caption. All text is escaped."""

from __future__ import annotations

from html import escape
from typing import Literal

from siamese.records.provenance import NOTICE, SyntheticPair
from siamese.studio.backend.messages import ModelInfo
from siamese.studio.components.images import FAIR, GOOD, agreement_words

Kind = Literal["idle", "busy", "done", "error"]

HEADER = f"""<header class="masthead">
<div><h1>Siamese-Diffusion Studio</h1>
<p>Draw a lesion and sample a synthetic image of it.</p></div>
<p class="notice" role="note">{NOTICE}</p>
</header>"""


def status(kind: Kind, text: str, fraction: float | None = None) -> str:
    """The status line, with a progress bar if ``fraction`` 0..1 is given. Its height does not change during a run."""
    role = {"error": "alert", "busy": "group"}.get(kind, "status")  # a live region would read out every step
    bar = ""
    if fraction is not None:
        percent = round(100 * fraction)
        bar = (
            f'<div class="bar" role="progressbar" aria-label="Sampling" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{percent}"><div style="width:{percent}%"></div></div>'
        )
    return f'<div class="status {kind}" role="{role}"><p>{escape(text)}</p>{bar}</div>'


def note(kind: Kind, text: str) -> str:
    """A line below a group of controls; an empty text gives no line."""
    return (
        f'<p class="note {kind}" role="{"alert" if kind == "error" else "status"}">{escape(text)}</p>'
        if text
        else ""
    )


def time_left(seconds: float | None) -> str:
    """The remaining time in words, to follow a count; empty if it is unknown."""
    if seconds is None:
        return ""
    return (
        f", about {max(1, round(seconds))} s left"
        if seconds < 90
        else f", about {round(seconds / 60)} min left"
    )


def caption(
    pair: SyntheticPair | None, agreement: float | None, index: int = 0, count: int = 1, example: bool = False
) -> str:
    """The caption of the selected image: seed, settings and mask agreement."""
    if pair is None:
        return '<p class="caption">The images will appear above.</p>'
    recipe = pair.recipe
    which = "Example · " if example else f"Image {index + 1} of {count} · " if count > 1 else ""
    used = recipe.settings
    settings = (
        f"{which}Seed {recipe.seed} · {used.num_inference_steps} steps · guidance {used.guidance_scale:g}"
    )
    if recipe.reference_weight is not None:
        settings += f" · reference weight {recipe.reference_weight:g}"
    if agreement is None:
        return f'<p class="caption">{escape(settings)}</p>'
    level = "good" if agreement >= GOOD else "fair" if agreement >= FAIR else "poor"
    return (
        f'<p class="caption">{escape(settings)}<br><span class="agreement {level}">{escape(agreement_words(agreement).capitalize())}</span> '
        f"(mask agreement, Dice {agreement:.2f})</p>"
    )


def preview_caption(count: int) -> str:
    """The caption of previews."""
    return f'<p class="caption">{"A preview" if count == 1 else f"{count} previews"} of what is being sampled.</p>'


def model_line(info: ModelInfo | None, error: str | None = None) -> str:
    """Status line of the model: loading, ready, or the error with what to do."""
    if error is not None:
        return f'<p class="model error" role="alert">{escape(error)}</p>'
    if info is None:
        return '<p class="model busy" role="status">Loading the model. You can already draw.</p>'
    return f'<p class="model ready" role="status" data-size="{info.size}">Model {escape(info.name)} is ready.</p>'
