"""Requests to the page's functions that no page sends: refused with a sentence before Gradio sees them."""

from __future__ import annotations

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import JSONResponse

from siamese.studio.components.canvas import canvas_value
from siamese.studio.components.default_mask import example_mask
from siamese.studio.tabs.generate import Form, InputError, check_guidance, check_seed
from siamese.studio.visitors.values import Values, tell_faults
from siamese.web.errors import LastResort
from siamese.web.inputs import CheckedInput


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A page with a part of each kind, mounted as the studio's is."""
    with gr.Blocks() as page:
        number, text, tick, choice, state = (
            gr.Number(label="Seed"),
            gr.Textbox(),
            gr.Checkbox(),
            gr.Radio(["a", "b"]),
            gr.State(0),
        )
        photo, gallery, out = gr.File(), gr.Gallery(), gr.Textbox()

        def reported(event: gr.SelectData) -> str:
            return str(event.index)

        def refuses(value: float) -> str:
            raise gr.Error("The seed must be less.", print_exception=False)

        def breaks(value: float) -> str:
            raise RuntimeError("nobody meant this")

        number.change(
            lambda *values: "fine",
            [number, text, tick, choice, state, photo],
            out,
            api_name="all",
            queue=False,
        )
        gallery.select(reported, None, out, api_name="reported", queue=False)
        number.change(refuses, number, out, api_name="refuses", queue=False)
        number.change(breaks, number, out, api_name="breaks", queue=False)
        number.change(None, None, None, js="() => 1")
    app = FastAPI()
    app.add_middleware(Values, page=page)
    gr.mount_gradio_app(app, page, "/", ssr_mode=False, show_error=True)
    tell_faults(app.router.routes[-1].app)
    app.add_middleware(
        CheckedInput, refuse=lambda request, error: JSONResponse({"error": error.detail}, error.status_code)
    )
    app.add_middleware(LastResort)
    return TestClient(app, raise_server_exceptions=False)


GOOD = [1, "x", True, "a", None, None]


def call(client: TestClient, data: object, fn: object = 0, **more: object):
    return client.post(
        "/gradio_api/run/predict", json={"data": data, "fn_index": fn, "session_hash": "s"} | more
    )


@pytest.mark.slow
def test_what_the_page_sends_passes(client):
    for data in (GOOD, [None] * 6, [1.5, "", False, "b", {"any": "thing"}, None]):
        assert call(client, data).json()["data"] == ["fine"]
    assert client.post("/gradio_api/run/all", json={"data": GOOD}).json()["data"] == [
        "fine"
    ]  # by its name, as a script calls it
    assert call(client, [], 1, event_data={"index": 3, "value": None}).json()["data"] == ["3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        (0, "x"),
        (0, True),
        (0, [1]),
        (1, 5),
        (1, ["x"]),
        (2, 1),
        (2, "true"),
        (3, ["a"]),
        (3, {}),
        (5, "/etc/passwd"),
        (5, {"path": 5}),
        (5, []),
    ],
)
def test_values_of_the_wrong_kind_are_refused(client, at, wrong):
    reply = call(client, [*GOOD[:at], wrong, *GOOD[at + 1 :]])
    assert reply.status_code == 422
    assert f"Value {at + 1}" in reply.json()["error"]
    assert "Reload the page" in reply.json()["detail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"data": GOOD, "fn_index": 999}, 404),
        ({"data": GOOD, "fn_index": -1}, 404),
        ({"data": GOOD, "fn_index": "0"}, 404),
        ({"data": GOOD, "fn_index": [0]}, 404),
        ({"data": GOOD, "fn_index": True}, 404),
        ({"data": [], "fn_index": 4}, 404),
        ({"data": GOOD}, 404),
        ({"data": GOOD[:3], "fn_index": 0}, 422),
        ({"data": "x", "fn_index": 0}, 422),
        ({"fn_index": 0}, 422),
        ([], 422),
        ({"data": GOOD, "fn_index": 0, "session_hash": 5}, 422),
        ({"data": [], "fn_index": 1}, 422),
        ({"data": [], "fn_index": 1, "event_data": {"a": 1}}, 422),
    ],
)
@pytest.mark.parametrize("path", ["run/predict", "queue/join"])
def test_requests_for_what_is_not_there_are_refused(client, path, asked, status):
    reply = client.post(f"/gradio_api/{path}", json=asked)
    assert reply.status_code == status
    assert reply.json()["error"]


def test_a_functions_own_message_is_not_an_error_of_the_server(client):
    reply = call(client, [1], 2)
    assert reply.status_code == 422
    assert reply.json()["error"] == "The seed must be less."
    assert call(client, [1], 3).status_code == 500  # but what nobody meant is


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/theme.css", {"Range": "bytes=1-2-3"}),
        ("/static/%F0%9F%92%A9", {"Range": "bytes=" + "9" * 5000}),
        ("/gradio_api/proxy=http://x%00", {}),
        ("/gradio_api/file=%00", {}),
    ],
)
def test_addresses_and_ranges_that_cannot_be_read(client, path, headers):
    assert client.get(path, headers=headers).status_code in (200, 400, 403, 404)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"data": ["\\ud800"], "fn_index": 0}', "application/json"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"NaN", "application/json"),
        (b"[1]", "multipart/form-data; boundary=x"),
    ],
)
def test_bodies_that_cannot_be_read(client, content, kind):
    for path in ("run/predict", "queue/join", "cancel", "reset"):
        assert client.post(
            f"/gradio_api/{path}", content=content, headers={"Content-Type": kind}
        ).status_code in (400, 422)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (check_seed, 10**400),
        (check_seed, "x"),
        (check_seed, True),
        (check_guidance, "x"),
        (check_guidance, [1]),
        (check_guidance, 10**400),
    ],
)
def test_what_is_not_a_number_is_reported(check, value):
    with pytest.raises(InputError, match="must be"):
        check(value)


def test_a_missing_prompt_is_reported():
    canvas = canvas_value(example_mask(1, 64))
    with pytest.raises(InputError, match="Choose what the image shows"):
        Form(canvas, None).request()
