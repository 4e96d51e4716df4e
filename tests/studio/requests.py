"""Requests to the page as a program could send them."""

from __future__ import annotations

import io
from pathlib import Path

import gradio as gr
import httpx2
from PIL import Image

from siamese.studio.server import Studio

META = {"_type": "gradio.FileData"}


def upload(client: httpx2.Client, data: bytes = b"a photo", name: str = "photo.png") -> str:
    reply = client.post("/gradio_api/upload", files={"files": (name, data)})
    assert reply.status_code == 200, reply.text
    return reply.json()[0]


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


def post(
    client: httpx2.Client, route: str, number: int, data: list, session: str | None = None
) -> httpx2.Response:
    session = session or f"page-{id(client)}"
    return client.post(
        f"/gradio_api/{route}",
        json={"fn_index": number, "data": data, "session_hash": session, "event_data": None},
    )


def page_of(studio: Studio) -> gr.Blocks:
    return studio._server._uvicorn.config.app.router.routes[-1].app.page


def files_in(place: Path) -> list[Path]:
    return sorted(p for p in place.rglob("*") if p.is_file() and p.name != ".lock")
