"""A running studio under thousands of requests that no page sends: never a status 500, no traceback in a reply, alive at the end.

``SIAMESE_FUZZ`` sets how many requests; continuous integration sends 5,000.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from siamese.records.catalogue import find_models
from siamese.studio import server
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.server import Studio
from siamese.study.answers.export import answers_json, read_answers
from siamese.study.rating.session import RaterSessions
from siamese.study.web import attempts, auth
from tests.fuzz import Sent, Target, requests
from tests.study.phantom_study import answer_all, make_study, write_folders

REQUESTS = int(os.environ.get("SIAMESE_FUZZ", "500"))
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[tuple[Studio, Target]]:
    """A studio without a model, with a study that has been rated once, and an administrator who is logged in."""
    folder, patch, pages = tmp_path_factory.mktemp("fuzz"), pytest.MonkeyPatch(), []
    patch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    patch.setattr(attempts, "FREE", 10**9)  # else most log-ins would not be looked at
    patch.setattr(
        auth, "matches", lambda password, stored: password.encode("utf-8", "replace") == PASSWORD.encode()
    )  # slow by design
    build = server.build_page
    patch.setattr(server, "build_page", lambda *arguments: pages.append(build(*arguments)) or pages[0])
    (folder / "studies").mkdir()
    store, study = make_study(folder / "studies", groups=2)
    first, second, third = store.invite("phantoms", ["A", "B", "C"])
    sessions = RaterSessions(store)
    sessions.register(first.token, "owl", "x", True)
    answer_all(sessions, first.token, study.config)
    for one in (second, third):
        sessions.register(one.token, "fox", "x", True)
    export = json.loads(answers_json(store, read_answers(store, "phantoms")))
    export["answers"] = export["answers"][:3]
    store.database.close()
    write_folders(folder / "images", 1)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        for file in (folder / "images").rglob("*.png"):
            made.write(file, str(file.relative_to(folder / "images")))
    studio = Studio(ModelWorker(find_models("nowhere", None)), folder, "127.0.0.1", 0)
    try:
        talk = talker(studio.address)
        reply = talk(
            Sent(
                "POST",
                "/study/admin/login",
                f"password={PASSWORD.replace(' ', '+')}".encode(),
                {"Content-Type": "application/x-www-form-urlencoded"},
            )
        )
        cookie = reply[2]["set-cookie"].partition(";")[0]
        csrf = re.search(
            rb'name="csrf" value="(\w+)"', talk(Sent("GET", "/study/admin", headers={"Cookie": cookie}))[1]
        )[1].decode()
        inputs = {n: len(f.inputs) for n, f in pages[0].fns.items() if f.fn is not None}
        yield (
            studio,
            Target(
                second.path,
                third.path,
                cookie,
                csrf,
                export,
                archive.getvalue(),
                inputs,
                tuple(pages[0].blocks)[:40],
            ),
        )
    finally:
        studio.close()
        patch.undo()


def talker(address: str) -> Callable[[Sent], tuple[int, bytes, dict[str, str]]]:
    """Sends a request over one kept connection; status, body and headers of the reply. Of a stream only the beginning is read."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)

    def talk(sent: Sent) -> tuple[int, bytes, dict[str, str]]:
        headers = {k: v for k, v in sent.headers.items() if v}
        try:
            connection.request(sent.method, sent.path, sent.body, headers)
            reply = connection.getresponse()
        except (
            http.client.RemoteDisconnected,
            BrokenPipeError,
            ConnectionResetError,
        ):  # closed after an early refusal: ask again on a new one
            connection.close()
            connection.request(sent.method, sent.path, sent.body, headers)
            reply = connection.getresponse()
        heads = {k.lower(): v for k, v in reply.headers.items()}
        if heads.get("content-type", "").startswith("text/event-stream"):
            connection.close()
            return reply.status, b"", heads
        return reply.status, reply.read(), heads

    return talk


@pytest.mark.slow
def test_no_request_breaks_the_server(studio, capfd):
    running, target = studio
    talk, statuses, slowest = talker(running.address), Counter(), 0.0

    @settings(
        max_examples=REQUESTS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(target))
    def send(sent: Sent) -> None:
        nonlocal slowest
        began = time.monotonic()
        status, body, headers = talk(sent)
        slowest = max(slowest, time.monotonic() - began)
        statuses[status] += 1
        assert status != 500, (
            sent,
            status,
            body[:500],
        )
        assert b"Traceback" not in body, (
            sent,
            status,
            body[:500],
        )
        assert b'File "/' not in body, (
            sent,
            status,
            body[:500],
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" in headers

    send()
    print(
        f"{sum(statuses.values())} requests: {dict(sorted(statuses.items()))}; the slowest took {slowest:.1f} s"
    )
    assert sum(statuses.values()) >= REQUESTS
    assert min(statuses) < 400
    assert {400, 404, 422} <= set(statuses)
    # Alive: the requests may have closed the study and withdrawn their own rater.
    form, kind = (
        f"csrf={target.csrf}".encode(),
        {"Cookie": target.cookie, "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert talk(Sent("POST", "/study/admin/studies/phantoms/open", form, kind))[0] == 303
    assert talk(Sent("GET", f"{target.other}/api/state"))[0] == 200
    assert talk(Sent("GET", "/study/admin", headers={"Cookie": target.cookie}))[0] == 200
    assert talk(Sent("GET", "/"))[0] == 200
