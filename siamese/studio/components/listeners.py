"""How the page's events run: options of Gradio's listeners."""

from __future__ import annotations

from typing import Any

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Without Gradio's own progress over the outputs; no part of the API."""
QUICK: dict[str, Any] = HIDDEN | {"queue": False}
"""At once, past what waits for the model."""
LINED: dict[str, Any] = HIDDEN | {"concurrency_limit": None}
"""What waits for the model: at once into the model's own line, which knows limits and turns. Gradio's would know neither visitors nor places."""
