"""Files and visitors: no path that was not uploaded is opened, what a visitor uploads or makes is theirs, and how much there may be."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import gradio as gr
import httpx2
import numpy as np
import pytest
from PIL import Image

from siamese.records.prompts import POLYP
from siamese.studio.tabs.gallery import GalleryImages
from siamese.studio.visitors import cookie as visitor
from siamese.studio.visitors import limits, sessions
from siamese.studio.visitors.cookie import (
    COOKIE,
    MAX_NEW,
    NoCookieError,
    Visitor,
    VisitorCookies,
    keeper,
    serving,
    visitor_of,
)
from siamese.studio.visitors.refusal import RefusedError
from siamese.studio.visitors.sessions import SESSIONS_EACH, Sessions
from tests.factories import make_pair
from tests.studio.requests import META, page_of, png, post, upload


class TestVisitor:
    def test_the_cookie(self, studio):
        made = httpx2.get(f"{studio.address}/").headers["set-cookie"]
        assert made.startswith(f"{COOKIE}=")
        assert made.endswith("; HttpOnly; SameSite=Lax")
        assert "Secure" in VisitorCookies.header(Visitor("a", cookie="b"), "https").decode()

    def test_the_cookie_on_a_space_is_for_its_frame_alone(self, monkeypatch):
        monkeypatch.setenv("SPACE_ID", "me/studio")
        assert (
            VisitorCookies.header(Visitor("a", cookie="b"), "http")
            .decode()
            .endswith("; HttpOnly; SameSite=None; Secure; Partitioned")
        )

    def test_it_names_the_same_visitor_after_a_restart_and_nobody_can_make_one(self, tmp_path):
        def scope(cookie: str) -> dict:
            return {
                "headers": [(b"cookie", f"other=1; {COOKIE}={cookie}; more=2".encode())],
                "client": ("10.1.2.3", 9),
            }

        cookies = VisitorCookies(tmp_path)
        new = cookies.new(scope(""))
        assert VisitorCookies(tmp_path).visitor(scope(new.cookie)).id == new.id
        assert len(new.id) == 43
        forged = ("A" if new.cookie[0] != "A" else "B") + new.cookie[
            1:
        ]  # the last letter has bits that mean nothing
        assert cookies.visitor(scope(forged)).id == cookies.visitor(scope("")).id == "address 10.1.2.3"
        assert os.stat(tmp_path / "visitor-key").st_mode & 0o777 == 0o600

    def test_one_address_has_no_endless_line_of_visitors(self, tmp_path, monkeypatch):
        monkeypatch.setattr(visitor, "MAX_NEW", MAX_NEW)  # the studio of these tests takes more
        cookies, scope = VisitorCookies(tmp_path), {"headers": [], "client": ("10.1.2.3", 9)}
        assert all(cookies.new(scope) for _ in range(MAX_NEW))
        assert cookies.new(scope) is None
        assert cookies.new(scope | {"client": ("10.1.2.4", 9)})

    def test_of_a_request_by_address_if_there_is_no_cookie(self):
        from fastapi import Request

        request = gr.Request(
            Request({"type": "http", "headers": [], "client": ("10.1.2.3", 9)}), session_hash="chosen"
        )
        assert visitor_of(request) == "address 10.1.2.3"
        with serving(Visitor("address 10.1.2.3")), pytest.raises(NoCookieError, match="Allow cookies"):
            keeper()

    @pytest.mark.slow
    def test_two_windows_have_one_collection_and_another_visitor_another(self, studio, come, monkeypatch):
        monkeypatch.setattr(sessions, "BEGINNING_SECONDS", 0)
        client, stranger = come(), come()
        page = page_of(studio)
        number, function = next((n, f) for n, f in page.fns.items() if f.name == "keep")
        pair, said = make_pair(), []
        for window, image, asks in (
            ("one", pair, client),
            ("two", replace(pair, image=255 - pair.image), client),
            ("three", pair, stranger),
        ):
            post(asks, "run/predict", number, [None], window)
            page.state_holder[window][function.inputs[0]._id] = GalleryImages((image,), (0.5,))
            said.append(str(post(asks, "run/predict", number, [None], window).json()["data"]))
        assert ["holds 1 pair." in said[0], "holds 2 pairs." in said[1], "holds 1 pair." in said[2]] == [
            True
        ] * 3, said
        assert post(stranger, "run/predict", number, [None], "one").status_code == 403

    def test_the_page_sends_no_key_to_what_is_kept(self, studio):
        assert not [
            c
            for f in page_of(studio).fns.values()
            if f.fn is not None  # otherwise it runs in the browser alone
            for c in f.inputs
            if isinstance(c, gr.BrowserState)
        ]

    def test_without_a_cookie_nothing_is_kept_and_the_page_says_why(self, studio):
        with httpx2.Client(base_url=studio.address) as client:
            for name in ("refresh", "show"):
                number, function = next((n, f) for n, f in page_of(studio).fns.items() if f.name == name)
                assert (
                    "Allow cookies" in post(client, "run/predict", number, [None] * len(function.inputs)).text
                )


class TestOwnership:
    def test_a_file_is_its_visitors_alone(self, come):
        client, stranger = come(), come()
        path = upload(client)
        assert client.get(f"/gradio_api/file={path}").content == b"a photo"
        assert stranger.get(f"/gradio_api/file={path}").status_code == 403
        assert httpx2.get(f"{client.base_url}/gradio_api/file={path}").status_code == 403

    @pytest.mark.slow
    def test_the_same_photo_of_two_visitors_is_two_files(self, studio, come):
        one, two = come(), come()
        photo = png(32, 24)
        paths = [upload(client, photo) for client in (one, two)]
        number, function = next((n, f) for n, f in page_of(studio).fns.items() if f.name == "open_file")
        broken = upload(one, b"no image")
        for path in (paths[0], broken):
            reply = post(
                one,
                "run/predict",
                number,
                [{"path": path, "meta": META}] + [None] * (len(function.inputs) - 1),
                "opens",
            )
            assert reply.status_code == 200, reply.text
        assert not Path(broken).exists()
        assert two.get(f"/gradio_api/file={paths[1]}").content == photo

    @pytest.mark.slow
    def test_what_an_event_makes_is_in_the_visitors_folder(self, studio, come):
        client, stranger = come(), come()
        number, function = next((n, f) for n, f in page_of(studio).fns.items() if f.name == "open_file")
        photo = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(photo, "PNG")
        file = {"path": upload(client, photo.getvalue(), "photo.png"), "meta": META}
        reply = post(
            client, "run/predict", number, [file] + [None] * (len(function.inputs) - 1), "draws"
        ).json()
        path = reply["data"][0]["photo"]["path"]
        assert client.get(f"/gradio_api/file={path}").status_code == 200
        assert stranger.get(f"/gradio_api/file={path}").status_code == 403

    def test_an_image_that_the_visitor_was_shown_comes_back_with_a_click(self, studio, come):
        client, stranger = come(), come()
        number = next(n for n, f in page_of(studio).fns.items() if f.name == "select_pair")
        (studio._folder.page / "example.png").write_bytes(png(8, 8))
        for path, status in (
            (upload(client), 200),
            (str(studio._folder.page / "example.png"), 200),
            (upload(stranger), 403),
        ):
            event = {
                "index": 0,
                "value": {"image": {"path": path, "meta": META}, "caption": ""},
                "selected": True,
            }
            reply = client.post(
                "/gradio_api/run/predict",
                json={"fn_index": number, "data": [[]], "session_hash": "picks", "event_data": event},
            )
            assert reply.status_code == status, reply.text

    def test_pages_are_downloads_and_never_run(self, come):
        client = come()
        reply = client.get(f"/gradio_api/file={upload(client, b'<script>', 'x.html')}")
        assert reply.headers["content-disposition"].startswith("attachment")
        assert reply.headers["x-content-type-options"] == "nosniff"


class TestQuotas:
    def test_uploads_of_one_visitor(self, come, monkeypatch):
        monkeypatch.setattr(limits, "UPLOADS_EACH", 3 * 2**20)
        client, other = come(), come()
        upload(client, b"x" * 2**21)
        for data in (b"x" * 2**21, b"x" * 2**23):
            reply = client.post("/gradio_api/upload", files={"files": ("photo.png", data)})
            assert reply.status_code == 413
            assert "try again later" in reply.json()["detail"]
        upload(other, b"x" * 2**21)

    def test_uploads_and_results_of_all(self, studio, come, monkeypatch):
        client = come()
        monkeypatch.setattr(limits, "FILES_ALL", 10)
        upload_again = client.post("/gradio_api/upload", files={"files": ("photo.png", b"x" * 20)})
        assert upload_again.status_code == 507
        assert "try again in a few minutes" in upload_again.json()["detail"]
        number, function = next((n, f) for n, f in page_of(studio).fns.items() if f.name == "random")
        studio._folder.of("somebody").joinpath("result").write_bytes(b"x" * 20)
        reply = post(client, "run/predict", number, [None] * (len(function.inputs) - 1) + [POLYP])
        assert "try again in a few minutes" in reply.json()["error"]

    def test_one_upload_that_is_too_large(self, come, monkeypatch):
        monkeypatch.setattr(limits, "MAX_UPLOAD_BYTES", 1000)
        reply = come().post("/gradio_api/upload", files={"files": ("photo.png", b"x" * 2000)})
        assert reply.status_code == 413
        assert "Make it smaller" in reply.json()["detail"]

    def test_bodies(self, come):
        reply = come().post(
            "/gradio_api/run/predict",
            content=b" " * (limits.MAX_BODY_BYTES + 1),
            headers={"content-type": "application/json"},
        )
        assert reply.status_code == 413
        assert "smaller" in reply.json()["detail"]

    def test_a_closed_page_makes_room_and_an_open_one_does_not(self):
        ended, own = [], Visitor("one")
        store = Sessions(ended.append)
        with ExitStack() as stack:
            for number in range(SESSIONS_EACH - 1):
                stack.enter_context(store.open(own, f"open-{number}"))
            store.enter(own, "closed")
            store.enter(own, "newcomer")
            assert ended == ["closed"]
            stack.enter_context(store.open(own, "newcomer"))
            with pytest.raises(RefusedError, match="Close one of them"):
                store.enter(own, "fifth")
            store.enter(Visitor("two"), "fifth")
        store.enter(own, "fifth of one")
        assert len(ended) == 2

    def test_windows_that_were_opened_together_become_one_visitors(self, monkeypatch):
        store = Sessions()
        store.enter(Visitor("first", fresh=True), "window")
        with pytest.raises(RefusedError, match="another visitor"):
            store.enter(Visitor("stranger"), "window")
        store.enter(Visitor("second", fresh=True), "window")
        monkeypatch.setattr(sessions, "BEGINNING_SECONDS", 0)
        with pytest.raises(RefusedError):
            store.enter(Visitor("first", fresh=True), "window")

    def test_pages_of_all_visitors(self, monkeypatch):
        monkeypatch.setattr(sessions, "SESSIONS_ALL", 2)
        store = Sessions()
        with (
            store.open(Visitor("one"), "a"),
            store.open(Visitor("two"), "b"),
            pytest.raises(RefusedError, match="a few minutes"),
        ):
            store.enter(Visitor("three"), "c")
        monkeypatch.setattr(sessions, "IDLE_SECONDS", -1)
        store.tidy()
        store.enter(Visitor("three"), "c")

    @pytest.mark.slow
    def test_a_closed_sessions_state_is_let_go(self, studio, come):
        client = come()
        number = next(n for n, f in page_of(studio).fns.items() if f.name == "keep")
        for session in range(SESSIONS_EACH + 2):
            post(client, "run/predict", number, [None], f"state-{session}")
        states = page_of(studio).state_holder
        assert [s in states for s in ("state-0", "state-1", "state-2", "state-5")] == [
            False,
            False,
            True,
            True,
        ]
