"""Looks: theme and style sheet. System fonts only: the page loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

FAVICON = Path(__file__).parent / "static" / "favicon.svg"

_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Slate and teal, light and dark. Text on the primary button: white on teal 700, contrast 5.5."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
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


HEAD = """<meta name="viewport" content="width=device-width, initial-scale=1">
<script>
// A file dropped anywhere on the page goes to the drop zone of the drawing panel.
for (const kind of ['dragover', 'drop']) addEventListener(kind, (event) => {
  if (!event.dataTransfer || !Array.from(event.dataTransfer.types).includes('Files')) return;
  if (event.target.closest && event.target.closest('#file, #batch-file')) return;
  event.preventDefault(); event.stopPropagation();
  if (kind !== 'drop') return;
  const input = document.querySelector('#file input[type=file]');
  if (!input || !event.dataTransfer.files.length) return;
  const one = new DataTransfer(); one.items.add(event.dataTransfer.files[0]);
  input.files = one.files; input.dispatchEvent(new Event('change', {bubbles: true}));
}, true);
// The editor draws anew at every frame, all the time. Where the browser has no graphics card, that keeps the cores busy, which the
// sampling needs. So frames are few while nobody touches anything, and a frame that came late is followed by as long a pause.
{ const frame = window.requestAnimationFrame.bind(window), cancel = window.cancelAnimationFrame.bind(window);
  const waiting = new Map(); let touched = performance.now(), late = 0, number = 0;
  for (const kind of ['pointerdown', 'pointermove', 'touchmove', 'wheel', 'keydown'])
    addEventListener(kind, () => { touched = performance.now(); }, {capture: true, passive: true});
  const timed = (draw) => { const asked = performance.now();
    return frame((now) => { const took = performance.now() - asked; late = took > 34 ? Math.min(took, 100) : 0; draw(now); }); };
  window.requestAnimationFrame = (draw) => {
    const pause = performance.now() - touched < 1000 ? late : 100;
    if (!pause) return timed(draw);
    const id = -(++number);
    waiting.set(id, setTimeout(() => { waiting.delete(id); timed(draw); }, pause));
    return id;
  };
  window.cancelAnimationFrame = (id) => {
    if (waiting.has(id)) { clearTimeout(waiting.get(id)); waiting.delete(id); } else cancel(id);
  };
}
</script>"""

CSS = """
.gradio-container { width: 100%; max-width: none !important; }
.gradio-container > .main { width: 100%; max-width: 1360px !important; margin: 0 auto; }
.gradio-container .html-container { padding: 0 !important; }
.masthead { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 24px; }
.masthead div { flex: 1 1 380px; }
.masthead h1 { font-size: 1.5rem; font-weight: 650; letter-spacing: -0.01em; margin: 0; line-height: 1.25; }
.masthead p { margin: 2px 0 0; color: var(--body-text-color-subdued); }
.masthead nav a { color: var(--body-text-color); text-decoration: underline; text-underline-offset: 3px; font-size: 0.9375rem; }
.masthead .notice { margin: 4px 0 0; padding: 5px 12px; border-radius: 6px; font-size: 0.875rem;
  color: #713f12; background: #fef3c7; border: 1px solid #fcd34d; }
.dark .masthead .notice { color: #fde68a; background: #2b2410; border-color: #6b5414; }

/* Draw, choose, look: three columns; the image below on tablets; one column on phones. */
#studio { display: grid; gap: 24px; align-items: start; grid-template-columns: minmax(0, 1fr) 300px minmax(0, 1fr);
  grid-template-areas: "draw settings result"; margin-top: 8px; }
#draw { grid-area: draw; } #settings { grid-area: settings; } #result { grid-area: result; }
#studio > * { min-width: 0 !important; gap: 12px; }
@media (max-width: 1099px) { #studio { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr);
  grid-template-areas: "draw settings" "result result"; }
  #result { width: 100%; max-width: 560px; justify-self: center; } }
@media (max-width: 699px) { .masthead div { flex-basis: 100%; }
  #studio { grid-template-columns: minmax(0, 1fr); grid-template-areas: "draw" "settings" "result"; }
  #result { max-width: none; } .gradio-container > .main { padding: 12px 16px !important; } .masthead h1 { font-size: 1.25rem; } }
#studio .row > * { min-width: 0 !important; }

h2.step { display: flex; align-items: center; gap: 8px; font-size: 1rem; font-weight: 600; margin: 0; }
h2.step span { display: inline-grid; place-items: center; width: 24px; height: 24px; border-radius: 50%; font-size: 0.8125rem;
  color: #fff; background: #0f766e; }

/* Squares from the first paint on: the editor fits its drawing to its box once, and nothing below may move. */
#canvas, #image { aspect-ratio: 1; height: auto !important; min-height: 0 !important; }
#image .grid-wrap { height: 100% !important; max-height: none !important; min-height: 0 !important; padding: 0; overflow: hidden; }
#image .grid-container { height: 100%; gap: 4px; }
#image img { width: 100%; height: 100%; object-fit: contain; }
#canvas [aria-label="Color"], #canvas [aria-label="Clear canvas"] { display: none !important; }
#canvas .toolbar-wrap { width: 38px; } #canvas .toolbar-wrap .half-container { width: 100%; }
#canvas .toolbar-wrap button { width: 36px; height: 36px; display: flex; align-items: center; justify-content: center; }
#canvas .top-panel button { min-width: 28px; min-height: 28px; }
#result .row { align-items: center; }
#outline { border: 0; background: none; padding: 4px 0; }

.status { min-height: 48px; }
.status p, .caption, .model { margin: 0; font-size: 0.9375rem; line-height: 1.45; color: var(--body-text-color-subdued); }
.status.error p, .model.error { color: #b91c1c; } .dark .status.error p, .dark .model.error { color: #fca5a5; }
.status.done p { color: var(--body-text-color); }
.bar { height: 6px; margin-top: 8px; border-radius: 3px; overflow: hidden; background: var(--border-color-primary); }
.bar div { height: 100%; background: #0d9488; }
.caption { min-height: 2.9em; font-variant-numeric: tabular-nums; }
@media (max-width: 699px) { .caption { min-height: 5.8em; } .status { min-height: 64px; } }
#outdated { min-height: 1.3em; } #outdated .note { color: #b45309; } .dark #outdated .note { color: #fcd34d; }
#image .thumbnail-item.selected { outline: 3px solid #0d9488; outline-offset: -3px; }
.buttons { flex-wrap: wrap; gap: 8px !important; } .buttons > button { flex: 1 1 auto; min-width: 96px !important; }
.tools { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 6px !important; }
.tools > button { min-width: 0 !important; min-height: 36px; white-space: nowrap; }
.hint, .note { margin: 0; font-size: 0.875rem; line-height: 1.45; color: var(--body-text-color-subdued); }
#photo .hint { padding: 0 4px 4px; }
.note.error { color: #b91c1c; } .dark .note.error { color: #fca5a5; }
.view { display: flex; align-items: center; gap: 12px; } .view p { margin: 0; font-size: 0.875rem; color: var(--body-text-color-subdued); }
.view img, .view .blank { width: 64px; height: 64px; flex: none; border-radius: 4px; border: 1px solid var(--border-color-primary);
  image-rendering: pixelated; background: #000; }
.agreement { font-weight: 600; color: var(--body-text-color); } .agreement.good { color: #0f766e; } .dark .agreement.good { color: #5eead4; }
.agreement.poor { color: #b45309; } .dark .agreement.poor { color: #fcd34d; }
#actions { flex-wrap: nowrap; } #cancel { min-width: 88px; }
#collection .grid-wrap { max-height: none; min-height: 260px; }
#file { min-height: 116px; }
#file .icon-wrap { display: none; } /* its box is too low for it */
@media (max-width: 699px) { #file .wrap { padding-top: 40px; font-size: 0.875rem; line-height: 1.3; } } /* below a label of two lines */
"""
