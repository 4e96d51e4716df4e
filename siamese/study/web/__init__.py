"""The study's pages and JSON over FastAPI, beside the Gradio page or alone."""
