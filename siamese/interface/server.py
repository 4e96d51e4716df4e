"""Launching: the page first, then the model."""
from __future__ import annotations

import gradio as gr

from siamese.interface.page import build_page
from siamese.interface.style import CSS, FAVICON, theme
from siamese.interface.worker import ModelWorker


def launch(worker: ModelWorker, host: str, port: int | None = None, share: bool = False) -> tuple[gr.Blocks, str]:
    """Serve the page, start to load the model, return page and address at once.

    Args:
        port: a free one from 7860 on where None.
        share: also open a public address through Gradio's servers.

    Raises:
        OSError: the port is taken.
    """
    page = build_page(worker)
    _, address, _ = page.queue().launch(
        server_name=host, server_port=port, share=share, prevent_thread_lock=True, quiet=True, footer_links=[],
        ssr_mode=False, show_error=True, theme=theme(), css=CSS, favicon_path=FAVICON)
    # Only now: importing torch holds the interpreter for seconds, in which the page would not come up.
    worker.start()
    return page, address


def serve(model: str, host: str, port: int, share: bool = False) -> None:
    """Serve until interrupted."""
    worker = ModelWorker(model)
    page, address = launch(worker, host, port, share)
    print(f"Siamese-Diffusion Studio is at {address}", flush=True)
    try:
        page.block_thread()
    finally:
        page.close()
        worker.close()
