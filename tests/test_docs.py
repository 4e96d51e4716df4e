"""What the documents name exists: files, modules that are run, commands' options, links; and the README stays short."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from siamese import VERSION
from train.__main__ import STAGES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
FOLDERS = ("siamese/", "train/", "tests/", "assets/", "docs/", ".ci/", ".github/")
FILES = (
    "app.py",
    "pyproject.toml",
    "requirements.txt",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "CITATION.cff",
)
IDS = [str(d.relative_to(ROOT)) for d in DOCUMENTS]
documents = pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)


def quoted(text: str) -> list[str]:
    """Words of code: between backticks, and in blocks of code."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.S | re.M)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return [
        w.strip("'\"(),:;=") for part in [*re.findall(r"`([^`]+)`", prose), *blocks] for w in part.split()
    ]


def anchor(heading: str) -> str:
    """The name that a heading has in links."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@documents
def test_files_exist(document: Path) -> None:
    words = [w.split(":")[0].split("=")[-1] for w in quoted(document.read_text())]
    named = {w for w in words if w.startswith(FOLDERS) or w in FILES}
    assert named or document.name in ("studies.md",)
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["architecture.md", "algorithm.md"])
def test_names_are_the_codes(name: str) -> None:
    """Identifiers between backticks, such as ``predict_x0``; a renamed function has to be renamed here as well."""
    text = re.sub(r"^```.*?^```", "", (ROOT / "docs" / name).read_text(), flags=re.S | re.M)
    words = set(re.findall(r"`([A-Za-z_]\w*)(?:\([^`]*\))?`", text)) | set(re.findall(r"`\w+\.(\w+)`", text))
    words -= {"py", "js"}
    code = "\n".join(
        f.read_text(encoding="utf-8")
        for folder in ("siamese", "train", "tests")
        for f in (ROOT / folder).rglob("*.py")
    )
    known = set(re.findall(r"\w+", code))
    assert len(words) > 15
    assert sorted(words - known) == []


@documents
def test_modules_that_are_run_exist(document: Path) -> None:
    found = re.findall(r"python -m ([\w.]+)(?: (\w+))?", document.read_text())
    for module, word in found:
        if module in ("pytest", "venv"):
            continue
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        if spec.submodule_search_locations:
            assert importlib.util.find_spec(f"{module}.__main__") is not None, module
        if module == "train" and word not in ("", "STAGE"):
            assert word in STAGES, word


@documents
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        place, _, part = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        assert target.exists(), link
        if part:
            assert part in {anchor(h) for h in re.findall(r"^#+ (.*)$", target.read_text(), re.M)}, link


@documents
def test_nothing_of_one_machine(document: Path) -> None:
    text = document.read_text()
    assert not re.search(r"\.\./shared|/work/|/root/|/home/", text)


def test_every_variable_of_the_environment_is_documented() -> None:
    code = "\n".join(f.read_text(encoding="utf-8") for f in (ROOT / "siamese").rglob("*.py"))
    variables = set(re.findall(r"\"(SIAMESE_[A-Z_]+)\"", code))
    assert len(variables) >= 6
    text = (ROOT / "docs" / "deployment.md").read_text()
    assert variables == set(re.findall(r"`(SIAMESE_[A-Z_]+)`", text))


def test_the_readme_is_for_its_first_reader() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 100
    first = "\n".join(lines[:25])
    assert "![" in first
    assert "pip install -r requirements.txt && python app.py" in first
    assert "pip install -r requirements.txt && python -m pytest" in first
    linked = set(re.findall(r"docs/(\w+\.md)", "\n".join(lines)))
    assert linked == {d.name for d in (ROOT / "docs").glob("*.md")}


def test_versions_agree() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION
    assert re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == VERSION


def test_the_workflow_runs_the_one_script() -> None:
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["all"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
