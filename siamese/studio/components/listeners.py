"""Options of Gradio's listeners, which say how the page's events run."""

from __future__ import annotations

from typing import Any

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Without Gradio's progress display over the outputs, and not part of the public API."""
QUICK: dict[str, Any] = HIDDEN | {"queue": False}
"""For events that do not wait for the model: they bypass Gradio's queue."""
LINED: dict[str, Any] = HIDDEN | {"concurrency_limit": None}
"""For events that wait for the model: they enter its own line, which knows visitors, limits and turns, without waiting in Gradio's queue."""
