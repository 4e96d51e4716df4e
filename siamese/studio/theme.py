"""The page's looks: Gradio's theme, and the files in ``static`` that come with it."""

from __future__ import annotations

from pathlib import Path

from gradio import themes

STATIC = Path(__file__).parent / "static"
FAVICON, SCRIPT = STATIC / "favicon.svg", STATIC / "studio.js"
STYLE_SHEETS = (STATIC / "studio.css", STATIC / "canvas" / "canvas.css", STATIC / "studies.css")

_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")


def theme() -> themes.Base:
    """Slate and teal, light and dark. Text on the primary button: white on teal 700, contrast 5.5."""
    return themes.Base(
        primary_hue=themes.colors.teal,
        neutral_hue=themes.colors.slate,
        radius_size=themes.sizes.radius_md,
        font=_FONT,
        font_mono=_MONO,
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        body_background_fill="#f6f8fa",
        body_background_fill_dark="#0b1220",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_hover_dark="#115e59",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        checkbox_background_color_selected="#0f766e",
        checkbox_background_color_selected_dark="#0f766e",
        block_shadow="none",
        block_shadow_dark="none",
    )


def page_head() -> str:
    """HTML for the page's head: the viewport, and ``static/studio.js`` inline, because it has to run before Gradio's own script."""
    script = SCRIPT.read_text(encoding="utf-8")
    return (
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<script>\n{script}</script>'
    )
