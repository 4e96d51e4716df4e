"""Requests that no page sends, to the studies on both databases: a sentence and never a status 500."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from fastapi.testclient import TestClient

from siamese.study.answers.export import answers_json, read_answers
from siamese.study.answers.import_answers import ImportRefusedError, import_study
from siamese.study.config import ConfigError, StudyConfig
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.database import Database
from siamese.study.storage.store import NoSuchStudyError, StudyError, StudyStore
from siamese.study.web.app import study_app
from siamese.study.web.archive import unpack
from tests.study.admin_pages import PASSWORD, administration, log_in
from tests.study.phantom_study import answer_all, make_study, write_folders

ROUTES = {
    "register": {"pseudonym": "owl", "role": "x", "consent": True},
    "answer": {"task": "t", "key": "k", "response": {"real": True}, "confidence": 5},
    "withdraw": {"confirm": False},
}
FIELDS = [
    (route, field)
    for route, good in ROUTES.items()
    for field in [*good, *(["comment", "client_ms", "correction"] if route == "answer" else [])]
]


@pytest.fixture
def admin(tmp_path, monkeypatch):
    with administration(tmp_path, monkeypatch) as serving:
        yield serving


@pytest.fixture
def served(tmp_path, any_database, monkeypatch):
    """Store, client, path of a link; the client lets no exception through, as a server."""
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    store, _ = make_study(tmp_path, url=any_database, groups=1)
    monkeypatch.setattr("siamese.study.storage.opening.database_url", lambda folder, url: any_database)
    with TestClient(study_app(tmp_path), follow_redirects=False, raise_server_exceptions=False) as client:
        yield store, client, store.invite("phantoms", ["A"])[0].path
    store.database.close()


@pytest.mark.slow
def test_raters_requests_with_what_cannot_be_stored_or_written(served):
    _store, client, path = served
    for link in (path, "/rate/unknown", "/rate/%00", f"/rate/{'x' * 300}"):
        for route, field in FIELDS:
            for text in (
                "NaN",
                "Infinity",
                "-1e999",
                '"\\ud800"',
                '"\\u0000"',
                '{"\\udfff": 1}',
                "[[[[]]]]",
                "1" + "0" * 400,
            ):
                good = {k: v for k, v in ROUTES[route].items() if k != field}
                body = f'{json.dumps(good)[:-1]}{", " if good else ""}"{field}": {text}}}'
                reply = client.post(
                    f"{link}/api/{route}", content=body, headers={"Content-Type": "application/json"}
                )
                assert 400 <= reply.status_code < 500, (
                    link,
                    body,
                    reply.status_code,
                )
                assert reply.json()["error"], (
                    link,
                    body,
                    reply.status_code,
                )
        for body in (b"\xff", b"", b"{", b"[" * 9000, b"null"):
            assert (
                400
                <= client.post(
                    f"{link}/api/answer", content=body, headers={"Content-Type": "application/json"}
                ).status_code
                < 500
            )
        assert client.get(f"{link}/image/%00").status_code == 400


@pytest.mark.slow
def test_administrators_forms_with_what_cannot_be_stored(served):
    store, client, _ = served
    csrf = log_in(client)
    rater = store.progress("phantoms")[0].rater
    for path, values, status in (
        ("studies/phantoms/invite", {"labels": "a\0b"}, 422),
        ("studies/%00/invite", {"labels": "a"}, 400),
        (f"raters/{rater}/exclude", {"study": "phantoms", "reason": "\0"}, 422),
        (f"raters/{rater}/revoke", {"study": "\0"}, 422),
        ("raters/%00/revoke", {"study": "phantoms"}, 400),
        ("studies/phantoms/invite", {"labels": "é" * 201}, 422),
    ):
        reply = client.post(f"/study/admin/{path}", data={"csrf": csrf} | values)
        assert reply.status_code == status, path
        assert reply.headers["content-type"].startswith("text/html"), path
        assert "Request refused" in reply.text or 'role="alert"' in reply.text, path
        assert "\0" not in reply.text, path
    for path in ("studies/%00", "studies/%00/results", f"studies/{'é' * 100}", "studies/x/answers.csv"):
        assert client.get(f"/study/admin/{path}").status_code in (400, 404)
    assert client.get("/study/admin/studies/phantoms").status_code == 200


@pytest.mark.slow
def test_the_store_itself_takes_no_null_characters(served):
    store = served[0]
    with pytest.raises(NoSuchStudyError):
        store.study("\0")
    with pytest.raises(StudyError, match="null characters"):
        store.invite("phantoms", ["\0"])
    with pytest.raises(StudyError, match="null characters"):
        store.exclude(store.progress("phantoms")[0].rater, "\0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("groups", "x"),
        ("groups", "9" * 5000),
        ("training", ""),
        ("seed", "1.5"),
        ("groups", "-1"),
        ("seed", str(2**70)),
        ("title", "\0"),
        ("folder", "x" * 5000),
        ("folder", "a\0b"),
        ("protocol", "x"),
        ("id", "é"),
        ("real", "\0"),
    ],
)
def test_a_form_with_what_it_cannot_use_gets_a_page(admin, field, value):
    client = admin[2]
    values = {
        "csrf": log_in(client),
        "id": "new",
        "title": "x",
        "protocol": "ranking",
        "organ": "x",
        "groups": "1",
        "folder": "/nowhere",
    }
    reply = client.post("/study/admin/create", data=values | {field: value})
    assert reply.status_code == 422, reply.text[:300]
    assert reply.headers["content-type"].startswith("text/html"), reply.text[:300]
    assert 'role="alert"' in reply.text or "Request refused" in reply.text


def zipped(kind: int, folder, damage: int | None = None, name: str | None = None) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.writestr(name or str(file.relative_to(folder)), file.read_bytes())
            if name:
                break
    data = bytearray(buffer.getvalue())
    if damage is not None:
        data[damage : damage + 40] = b"\xff" * 40
    return io.BytesIO(bytes(data))


@pytest.mark.parametrize(
    "kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@pytest.mark.parametrize("damage", [45, 60, 400])
def test_damaged_archives_are_reported(tmp_path, kind, damage):
    write_folders(tmp_path / "images", 1)
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match=r"the ZIP file cannot be read|by another method than deflate"):
        unpack(zipped(kind, tmp_path / "images", damage), tmp_path / "out")


@pytest.mark.parametrize("name", ["💩" * 100, "é" * 126, "x" * 251])
def test_names_that_no_file_can_have_are_reported(tmp_path, name):
    write_folders(tmp_path / "images", 1)
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="names have up to 250 bytes"):
        unpack(zipped(zipfile.ZIP_STORED, tmp_path / "images", name=f"real/{name}.png"), tmp_path / "out")


def exported(folder) -> dict:
    store, study = make_study(folder, groups=1)
    made = store.invite("phantoms", ["A"])[0]
    sessions = RaterSessions(store)
    sessions.register(made.token, "owl", "x", True)
    answer_all(sessions, made.token, study.config)
    values = json.loads(answers_json(store, read_answers(store, "phantoms")))
    store.database.close()
    return values


WRONG = [["x"], {"a": 1}, None, 5, 1.5, True, "", "\0", [[]]]


@pytest.mark.slow
def test_imports_of_other_types_are_reported(tmp_path):
    """Every field of a whole export, of every wrong type."""
    values = exported(tmp_path)
    store = StudyStore(Database(f"sqlite:///{tmp_path / 'other.sqlite3'}"))
    tried = 0

    def refused(changed: dict) -> None:
        nonlocal tried
        tried += 1
        try:
            import_study(store, json.dumps(changed))
        except (ConfigError, ImportRefusedError) as error:
            assert str(error)
        else:  # a few fit, such as a pseudonym of ""
            with store.database.write() as connection:
                for table in ("answers", "presentations", "withdrawals", "raters", "items", "studies"):
                    connection.exec_driver_sql(f"DELETE FROM {table}")

    for wrong in WRONG:
        for field in values:
            refused(values | {field: wrong})
        for field in values["config"]:
            refused(values | {"config": values["config"] | {field: wrong}})
        for field in values["config"]["methods"][0]:
            first, *others = values["config"]["methods"]
            refused(values | {"config": values["config"] | {"methods": [first | {field: wrong}, *others]}})
        for field in values["answers"][0]:
            first, *others = values["answers"]
            refused(values | {"answers": [first | {field: wrong}, *others]})
    assert tried > 300
    store.database.close()


@pytest.mark.parametrize("protocol", [["x"], {}, None, 5])
def test_a_protocol_of_another_type_is_reported(protocol):
    with pytest.raises(ConfigError, match="use one of real_synthetic"):
        StudyConfig.from_json(
            json.dumps(
                {"id": "a", "title": "x", "protocol": protocol, "organ": "x", "methods": [], "groups": 1}
            )
        )
