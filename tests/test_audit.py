"""The audit of packages in continuous integration: a known vulnerability fails, data that cannot be had is reported and does not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN, UNKNOWN = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    ("status", "found", "exits", "says"),
    [
        (0, [CLEAN, CLEAN], 0, "no known vulnerability in 2 packages."),
        (0, [CLEAN, UNKNOWN], 0, "in 1 packages, 1 could not be looked up"),
        (0, [UNKNOWN], 0, "SKIPPED"),
        (1, [CLEAN, BAD, UNKNOWN], 1, "c 2: PYSEC-1 (CVE-1), mended in 3"),
    ],
)
def test_what_is_said(audit, status, found, exits, says):
    assert audit.judge(status, json.dumps({"dependencies": found}), "")[0] == exits
    assert says in audit.judge(status, json.dumps({"dependencies": found}), "")[1]


@pytest.mark.parametrize("out", ["", "{}", "null", "<html>"])
def test_data_that_cannot_be_had_is_reported(audit, out):
    status, said = audit.judge(1, out, "Traceback\nConnectionError: no route")
    assert status == 0
    assert "SKIPPED" in said
    assert "no route" in said
