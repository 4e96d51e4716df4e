"""The command line, the stand-alone server and the exports."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

import httpx2
import pytest

from siamese.study.__main__ import main
from siamese.study.answers.export import answers_csv, answers_json, read_answers, safe_cell
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.opening import open_store
from tests.study.http_raters import Server
from tests.study.phantom_study import answer_all, judge, make_study, write_folders


@pytest.mark.slow
def test_create_invite_answer_export(tmp_path, capsys):
    write_folders(tmp_path / "images", 4)
    place = ["--data", str(tmp_path / "data")]
    main(
        [
            "create",
            str(tmp_path / "images"),
            "--id",
            "one",
            "--title",
            "One",
            "--training",
            "1",
            "--repeats",
            "2",
            "--display-side",
            "128",
            *place,
        ]
    )
    assert "one: 3 groups of 3 methods, 11 items a rater after 1 for practice" in capsys.readouterr().out
    main(["invite", "one", "Dr A", "Dr B", "--address", "https://studio.example/", *place])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [x for x, _ in lines] == ["Dr A", "Dr B"]
    assert lines[0][1].startswith("https://studio.example/rate/")
    assert lines[0][1] != lines[1][1]
    store = open_store(tmp_path / "data")
    sessions, token = RaterSessions(store), lines[0][1].rpartition("/")[2]
    sessions.register(token, "owl", "x", True)
    answer_all(sessions, token, store.study("one").config)
    main(["export", "one", str(tmp_path / "a.csv"), *place])
    main(["export", "one", str(tmp_path / "a.json"), "--pseudonyms", *place])
    assert len(list(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8-sig", newline="")))) == 12
    assert {a["pseudonym"] for a in json.loads((tmp_path / "a.json").read_text())["answers"]} == {"owl"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "nowhere", "--id", "a", "--title", "A"], "no such folder"),
        (["invite", "none", "A"], "no study 'none'"),
        (["export", "none", "x.csv"], "no study 'none'"),
        (["export", "none", "x.txt"], "ends in .csv or .json"),
        (["serve", "--port", "1", "--host", "240.0.0.1"], "cannot be used"),
        (["serve", "--trusted-proxies", "all"], "--trusted-proxies all: give an address"),
    ],
)
def test_errors_are_messages(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="1"):
        main([*arguments, "--data", str(tmp_path / "data")])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_links_have_the_address_that_is_served(tmp_path, capsys, monkeypatch):
    """A port of its own, and whatever server began last."""
    monkeypatch.delenv("SPACE_HOST", raising=False)
    data = tmp_path / "data"
    data.mkdir()
    make_study(data)[0].database.close()
    main(["invite", "phantoms", "A", "--data", str(data)])
    said = capsys.readouterr()
    assert said.out.split("\t")[1].startswith("http://127.0.0.1:8600/rate/")
    assert "on this machine only" in said.err
    server = Server(data)
    server.start()
    try:
        main(["invite", "phantoms", "B", "--data", str(data)])
        link = capsys.readouterr().out.split("\t")[1].strip()
        assert link.startswith(f"{server.address}/rate/")
        with httpx2.Client() as client:
            assert client.get(f"{link}/api/state").json()["title"]
            assert client.get(link, headers={"Host": "evil.example"}).status_code == 421
            took = []
            for _ in range(50):  # over one connection
                began = time.perf_counter()
                assert client.get(link).status_code == 200
                took.append(time.perf_counter() - began)
    finally:
        server.kill()
    assert statistics.median(took) < 0.03  # with Nagle's algorithm each takes 40 ms and more
    monkeypatch.setenv("SPACE_HOST", "a-b.example")
    main(["invite", "phantoms", "C", "--data", str(data)])
    assert capsys.readouterr().out.split("\t")[1].startswith("https://a-b.example/rate/")


def test_data_in_the_working_directory_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        main(["invite", "x", "A", "--data", "data"])
    assert "might serve" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_server_and_command_line_do_not_import_torch(tmp_path):
    code = (
        "import sys, siamese.study.__main__, siamese.study.answers.export\n"
        "from siamese.study.web.app import study_app\n"
        f"study_app({str(tmp_path)!r})\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'gradio'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.getcwd()})


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        (" =1", "' =1"),
        ("a=1", "a=1"),
        ("", ""),
        ("\r=1", "'\r'=1"),
        ("ok;=1", "ok;'=1"),
        ('ok; "=1', "ok; \"'=1"),
        ("a, b; c - d: 3-4", "a, b; c - d: 3-4"),
        ('"=1', "'\"=1"),
    ],
)
def test_spreadsheet_formulas_are_disarmed(text, safe):
    assert safe_cell(text) == safe


HOSTILE = [
    'ok;=HYPERLINK("http://evil";"x");',
    "a;b;=1;+1;@x",
    "a\t=1+1",
    "a\n=1",
    "a\r\n+1",
    "a\r@x",
    "a; \t=1",
    'a;"=1"',
    'a;""=1',
    ';"";=1',
    '"";=1"',
    "\t=1",
    "\r=1",
    "\n;=1",
    '"=1',
    "a|=1",
    ";\0=1",
    ";＝1",
    ";＋1;－1;＠x",
    ";\u00a0=1",
    ";\u3000=1",
    "\ufeff=1",
    "x\u2028=1",
    "x\v=1",
    "x\f=1",
    "x\x85=1",
    ",=1",
    ", =1",
    '\n"=1',
    '";=1',
    '"\n=1',
    '";"=1',
    ";'=1",
    ";-2+3+cmd|' /C calc'!A0",
    '=1";=2',
    ";;=1",
    ";\u200b=1",
    "; ; =1",
]


@pytest.mark.slow
def test_cells_are_harmless_whatever_separates_them(tmp_path):
    """What a spreadsheet of another locale makes of the file: no cell of it begins like a formula, also after what is passed over there."""
    store, study = make_study(tmp_path, groups=14)
    made = store.invite("phantoms", [""])[0]
    sessions = RaterSessions(store)
    step = sessions.register(made.token, "owl", "=role", True)
    for i, text in enumerate(t for t in HOSTILE if "\0" not in t):
        step = sessions.answer(
            made.token, step.task.id, str(i), judge(study.config, step.task, f"x{text}")
        ).step
    given = read_answers(store, "phantoms")
    stored = [a.comment for a in given.answers]
    # As an import may bring them: comments that begin with what is stripped from a rater's.
    rows = [
        dataclasses.replace(given.answers[0], comment=text, excluded=text, group=text) for text in HOSTILE
    ]
    for text in (answers_csv(given), answers_csv(dataclasses.replace(given, answers=tuple(rows)))):
        for separator in ",;\t|":
            by_line = list(io.StringIO(text, newline="")), text.splitlines(True)
            for quoting, lines in itertools.product((csv.QUOTE_MINIMAL, csv.QUOTE_NONE), by_line):
                cells = [
                    cell for row in csv.reader(lines, delimiter=separator, quoting=quoting) for cell in row
                ]
                bad = [
                    cell
                    for cell in cells
                    if cell.strip(' "\t\r\n\v\f\0\x85\u00a0\u3000\ufeff\u2028\u200b').startswith(
                        tuple("=+-@＝＋－＠")
                    )
                ]
                assert len(cells) >= len(rows), (separator, bad[:3])
                assert not bad, (separator, bad[:3])
    back = [row["comment"] for row in csv.DictReader(io.StringIO(answers_csv(given), newline=""))]
    assert [b.replace("'", "") for b in back] == [
        c.replace("'", "") for c in stored
    ]  # nothing but apostrophes is added
    assert [a["comment"] for a in json.loads(answers_json(store, given))["answers"]] == stored  # exact


def test_exports_hold_hostile_text_and_no_names(tmp_path):
    store, study = make_study(tmp_path)
    made = store.invite("phantoms", ["Dr Secret"])[0]
    sessions, hostile = RaterSessions(store), '=HYPERLINK("http://x","y")\n"quoted",<b>'
    sessions.register(made.token, "owl", "@role", True)
    task = sessions.overview(made.token).step.task
    sessions.answer(made.token, task.id, "k", judge(study.config, task, hostile))
    given = read_answers(store, "phantoms")
    text, whole = answers_csv(given), answers_json(store, given)
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["comment"] == "'" + hostile
    assert row["role"] == "'@role"
    assert row["current"] == "1"
    assert row["config_sha256"] == study.config_hash
    assert json.loads(whole)["answers"][0]["comment"] == hostile
    for secret in ("Dr Secret", "owl", made.token):
        assert secret not in text + whole
    assert "owl" in answers_csv(given, pseudonyms=True)
