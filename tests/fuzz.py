"""Requests to every kind of route of a running studio, with what no page sends. See ``tests.test_fuzz``."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from tests.fuzz_values import BODIES, HUGE, METHODS, RANGES, TEXTS, TYPES, VALUES


@dataclass(frozen=True)
class Sent:
    """One request."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """What the requests are for."""

    rater: str
    """Path of a registered rater's link."""
    other: str
    """Another's, to which nothing is sent."""
    cookie: str
    csrf: str
    export: dict[str, Any]
    """Of a study with answers."""
    archive: bytes
    """A good ZIP file of a method's images."""
    inputs: dict[int, int]
    """Number of inputs of each of the page's functions."""
    parts: tuple[int, ...]
    """Ids of the page's parts."""


def to_json(value: Any) -> bytes:
    """JSON as no careful program writes it."""
    return json.dumps(value).replace(json.dumps(HUGE), "1e999").encode("ascii")


def spoiled(value: Any, rng: random.Random, nasty: Any) -> Any:
    """``value`` with ``nasty`` somewhere in it; ``value`` itself is not changed."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: spoiled(value[key], rng, nasty)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], spoiled(value[at], rng, nasty), *value[at + 1 :]]
    return nasty


def form(values: dict[str, Any]) -> tuple[bytes, str]:
    """A form's body and type; texts that UTF-8 cannot write become bytes that are not UTF-8."""
    return urlencode({k: str(v).encode("utf-8", "surrogatepass") for k, v in values.items()}).encode(
        "ascii"
    ), "application/x-www-form-urlencoded"


def multipart(values: dict[str, Any], name: str, file: bytes, file_name: str) -> tuple[bytes, str]:
    """A form with a file."""
    parts = [
        f'--frontier\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode(
            "utf-8", "surrogatepass"
        )
        for k, v in values.items()
    ]
    safe = re.sub(r'[\r\n"]', "", file_name)[:300]
    head = f'--frontier\r\nContent-Disposition: form-data; name="{name}"; filename="{safe}"\r\nContent-Type: application/zip\r\n\r\n'
    return b"".join(
        [*parts, head.encode("utf-8", "surrogatepass"), file, b"\r\n--frontier--\r\n"]
    ), "multipart/form-data; boundary=frontier"


def damaged(archive: bytes, rng: random.Random) -> bytes:
    """A ZIP file of some compression with damage in its data, or with a name of some length, or cut off."""
    choice = rng.randrange(4)
    if choice == 0:
        return archive[: rng.randrange(len(archive))]
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(
            made, "w", rng.choice([zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
        ) as new,
    ):
        for entry in old.infolist():
            new.writestr(
                entry.filename if choice != 1 else f"real/{'💩' * rng.randrange(1, 150)}.png", old.read(entry)
            )
    whole = bytearray(made.getvalue())
    for _ in range(rng.randrange(1, 30) if choice > 1 else 0):
        whole[rng.randrange(len(whole))] = rng.randrange(256)
    return bytes(whole)


def requests(target: Target) -> st.SearchStrategy[Sent]:
    """Requests to raters', administrators' and Gradio's routes in equal parts."""
    nasty, text, seeds = st.sampled_from(VALUES), st.sampled_from(TEXTS), st.integers(0, 2**32)
    segment = text.map(lambda t: quote(t.encode("utf-8", "surrogatepass")[:2000], safe=""))
    return st.one_of(
        rater(target, nasty, segment, seeds),
        administrator(target, nasty, text, segment, seeds),
        gradio(target, nasty, text, segment, seeds),
    )


def rater(
    target: Target, nasty: st.SearchStrategy, segment: st.SearchStrategy, seeds: st.SearchStrategy
) -> st.SearchStrategy[Sent]:
    """A rater's routes."""
    good = {
        "register": {"pseudonym": "owl", "role": "x", "consent": True},
        "withdraw": {"confirm": False},
        "answer": {
            "task": "0" * 32,
            "key": "k",
            "response": {"real": True},
            "confidence": 5,
            "comment": "",
            "client_ms": 5,
            "correction": False,
        },
    }

    @st.composite
    def made(draw: st.DrawFn) -> Sent:
        link = draw(st.one_of(st.just(target.rater), segment.map(lambda s: f"/rate/{s}")))
        kind = draw(st.sampled_from(["json", "body", "get"]))
        if kind == "get":
            tail = draw(st.sampled_from(["", "/api/state", "/api/previous", "/image/"]))
            return Sent(
                draw(st.sampled_from(METHODS)),
                link + tail + (draw(segment) if tail == "/image/" else ""),
                headers={"Range": draw(st.sampled_from(RANGES))},
            )
        name = draw(st.sampled_from(sorted(good)))
        body = (
            to_json(spoiled(good[name], random.Random(draw(seeds)), draw(nasty)))
            if kind == "json"
            else draw(st.sampled_from(BODIES))
        )
        return Sent(
            "POST",
            f"{link}/api/{name}",
            body,
            {"Content-Type": "application/json" if kind == "json" else draw(st.sampled_from(TYPES))},
        )

    return made()


def administrator(
    target: Target,
    nasty: st.SearchStrategy,
    text: st.SearchStrategy,
    segment: st.SearchStrategy,
    seeds: st.SearchStrategy,
) -> st.SearchStrategy[Sent]:
    """The administrator's routes, logged in."""
    session = {"Cookie": target.cookie}
    good = {
        "id": "new",
        "title": "x",
        "protocol": "ranking",
        "organ": "polyp",
        "groups": "1",
        "real": "real",
        "training": "0",
        "repeats": "0",
        "seed": "0",
        "instructions": "",
        "consent": "yes",
        "folder": "",
        "masks": "",
        "sample": "",
    }

    @st.composite
    def made(draw: st.DrawFn) -> Sent:
        kind, rng = (
            draw(st.sampled_from(["get", "post", "create", "import", "body", "login"])),
            random.Random(draw(seeds)),
        )
        study = draw(st.one_of(st.just("phantoms"), segment))
        if kind == "get":
            tail = draw(
                st.sampled_from(
                    ["", "/results", "/report.html", "/answers.csv", "/answers.json", "/open", "/none"]
                )
            )
            return Sent(
                draw(st.sampled_from(METHODS[:5])), f"/study/admin/studies/{study}{tail}", headers=session
            )
        if kind == "post":
            path = draw(
                st.sampled_from(
                    [
                        f"studies/{study}/invite",
                        f"studies/{study}/open",
                        f"studies/{study}/close",
                        f"raters/{study}/exclude",
                        f"raters/{study}/withdraw",
                        f"raters/x/{study}",
                    ]
                )
            )
            body, content = form(
                {
                    "csrf": target.csrf,
                    "labels": draw(text),
                    "study": draw(text),
                    "reason": draw(text),
                    "sure": "yes",
                    "accept_loss": "x",
                }
            )
            return Sent("POST", f"/study/admin/{path}", body, session | {"Content-Type": content})
        if kind == "create":
            field_, value = draw(st.sampled_from(sorted(good))), draw(text)
            values = good | {"csrf": target.csrf} | ({field_: value} if rng.random() < 0.6 else {})
            file = (
                damaged(target.archive, rng) if rng.random() < 0.7 else value.encode("utf-8", "surrogatepass")
            )
            body, content = multipart(values, "archive", file, draw(text))
            return Sent("POST", "/study/admin/create", body, session | {"Content-Type": content})
        if kind == "import":
            file = (
                to_json(spoiled(target.export, rng, draw(nasty)))
                if rng.random() < 0.8
                else draw(st.sampled_from(BODIES))
            )
            body, content = multipart({"csrf": target.csrf}, "export", file, draw(text))
            return Sent("POST", "/study/admin/import", body, session | {"Content-Type": content})
        path = draw(
            st.sampled_from(
                [
                    "create",
                    "import",
                    "login",
                    f"studies/{study}/close",
                    "login/huggingface/callback?code=%00&state=%ff",
                ]
            )
        )
        if kind == "login":
            body, content = form({"password": draw(text)})
            return Sent("POST", "/study/admin/login", body, {"Content-Type": content})
        return Sent(
            "POST",
            f"/study/admin/{path}",
            draw(st.sampled_from(BODIES)),
            session | {"Content-Type": draw(st.sampled_from(TYPES))},
        )

    return made()


def gradio(
    target: Target,
    nasty: st.SearchStrategy,
    text: st.SearchStrategy,
    segment: st.SearchStrategy,
    seeds: st.SearchStrategy,
) -> st.SearchStrategy[Sent]:
    """Gradio's routes."""
    paths = [
        "config",
        "info",
        "app_id",
        "theme.css",
        "static/",
        "assets/",
        "svelte/",
        "file=",
        "file/",
        "proxy=",
        "custom_component/0/client/component/",
        "stream/x/0/",
        "deep_link?session_hash=",
        "upload_progress?upload_id=",
        "monitoring/",
        "pwa_icon/",
        "runs",
        "run-history/buckets",
        "openapi.json",
        "manifest.json",
    ]

    @st.composite
    def made(draw: st.DrawFn) -> Sent:
        kind, rng = (
            draw(st.sampled_from(["get", "call", "call", "join", "part", "blob", "upload", "body"])),
            random.Random(draw(seeds)),
        )
        prefix = draw(st.sampled_from(["/", "/gradio_api/"]))
        if kind == "get":
            return Sent(
                draw(st.sampled_from(["GET", "GET", "HEAD", "POST", "OPTIONS"])),
                prefix + draw(st.sampled_from(paths)) + draw(segment),
                headers={"Range": draw(st.sampled_from(RANGES))} if rng.random() < 0.5 else {},
            )
        if kind in ("call", "join"):
            number = rng.choice(sorted(target.inputs))
            data = (
                [None if rng.random() < 0.4 else draw(nasty) for _ in range(target.inputs[number])]
                if rng.random() < 0.9
                else draw(nasty)
            )
            asked = {
                "data": data,
                "fn_index": number,
                "session_hash": f"s{rng.randrange(4)}",
                "trigger_id": None,
                "event_data": None,
            }
            if rng.random() < 0.3:
                asked = spoiled(asked, rng, draw(nasty))
            path = (
                "queue/join"
                if kind == "join"
                else rng.choice(["run/predict", "api/predict", "call/predict", "run/none"])
            )
            return Sent("POST", f"/gradio_api/{path}", to_json(asked), {"Content-Type": "application/json"})
        if kind == "part":
            asked = {
                "data": draw(nasty),
                "component_id": rng.choice([*target.parts, 10**6]),
                "fn_name": draw(text),
                "session_hash": draw(text),
            }
            return Sent(
                "POST",
                "/gradio_api/component_server",
                to_json(spoiled(asked, rng, draw(nasty))),
                {"Content-Type": "application/json"},
            )
        if kind == "blob":
            values = {
                "component_id": rng.choice([*target.parts, 10**6, "x"]),
                "fn_name": rng.choice(["accept_blobs", "none"]),
                "session_hash": "s",
                "type": draw(text),
                "index": draw(st.sampled_from(["0", "-1", "x", "9" * 30, ""])),
                "id": draw(text),
            }
            body, content = multipart(values, "file", draw(st.sampled_from(BODIES)), draw(text))
            return Sent("POST", "/gradio_api/component_server", body, {"Content-Type": content})
        if kind == "upload":
            body, content = multipart({}, "files", draw(st.sampled_from(BODIES)), draw(text))
            return Sent(
                "POST", f"/gradio_api/upload?upload_id={draw(segment)}", body, {"Content-Type": content}
            )
        path = draw(
            st.sampled_from(
                [
                    "queue/join",
                    "run/predict",
                    "component_server",
                    "cancel",
                    "reset",
                    "upload",
                    "call/predict",
                    "stream/x",
                    "process_recording",
                    "call/v2/predict",
                    "login",
                ]
            )
        )
        return Sent(
            "POST",
            f"/gradio_api/{path}",
            draw(st.sampled_from(BODIES)),
            {"Content-Type": draw(st.sampled_from(TYPES))},
        )

    return made()
