"""pyproject.toml beside the code and the pins: what is imported is declared, what is declared is pinned, what is shipped is complete."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import Distribution

from siamese import VERSION

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_IMPORT = re.compile(r"^\s*(?:import (\w+)|from (\w+)[\w.]* import )", re.M)  # ruff keeps one module a line
EXTRAS = PROJECT["optional-dependencies"]


def names(extra: str) -> set[str]:
    """Distributions that ``extra`` installs, those of the extras in it and of the base among them."""
    found = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    for line in EXTRAS[extra]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            found |= set().union(*(names(inner) for inner in requirement.extras))
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def pins() -> set[str]:
    """Distributions of requirements.txt; each line is one exact version."""
    lines = [x for x in (ROOT / "requirements.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    return {canonicalize_name(Requirement(line).name) for line in lines}


@cache
def distributions() -> Mapping[str, list[str]]:
    """Names of the installed distributions by module; reading them takes a second."""
    return packages_distributions()


def modules(file: Path) -> set[str]:
    """First names of the modules from elsewhere that a file imports, inside functions as well."""
    found = _IMPORT.findall(file.read_text(encoding="utf-8"))
    return {one or other for one, other in found} - set(sys.stdlib_module_names)


def imported(*places: str) -> dict[str, set[str]]:
    """Distributions that the Python files at ``places`` import, with the files."""
    found: dict[str, set[str]] = {}
    files = [f for p in places for f in ((ROOT / p).rglob("*.py") if (ROOT / p).is_dir() else [ROOT / p])]
    for file in files:
        for distribution in {d for module in modules(file) for d in distributions().get(module, [])}:
            found.setdefault(canonicalize_name(distribution), set()).add(str(file.relative_to(ROOT)))
    found.pop(PROJECT["name"], None)  # when this project itself is installed
    return found


def test_requirements_are_the_pins_of_the_extras() -> None:
    """``dev`` has every extra in it."""
    assert names("dev") == pins()
    assert set().union(*(names(extra) for extra in EXTRAS)) == names("dev")


TORCH_FREE_MASKS = [
    str(f.relative_to(ROOT)) for f in (ROOT / "siamese/masks").glob("*.py") if f.name != "segmenter.py"
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "places"),
    [
        (
            "model",
            [
                "siamese/models",
                "siamese/masks/segmenter.py",
                "siamese/sampling.py",
                "siamese/objective.py",
                "siamese/released.py",
            ],
        ),
        ("study", ["siamese/study", "siamese/web", *TORCH_FREE_MASKS, "siamese/records", "siamese/files"]),
        ("studio", ["siamese", "app.py"]),
        ("train", ["train"]),
        ("dev", ["siamese", "train", "tests", "app.py", ".ci"]),
    ],
)
def test_what_is_imported_is_declared(extra: str, places: list[str]) -> None:
    found = imported(*places)
    assert len(found) > 3
    assert {name: files for name, files in found.items() if name not in names(extra)} == {}


def test_the_studies_alone_need_no_torch() -> None:
    assert not names("study") & {"torch", "diffusers", "transformers", "gradio"}


@pytest.fixture(scope="module")
def distribution() -> Distribution:
    """What setuptools reads from pyproject.toml; nothing is written."""
    read = Distribution({"src_root": str(ROOT)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # packages and the version are looked up there
        read.parse_config_files([str(ROOT / "pyproject.toml")])
    return read


def test_metadata_can_be_built(distribution: Distribution) -> None:
    assert distribution.metadata.version == VERSION
    assert {f.parent for p in ("siamese", "train") for f in (ROOT / p).rglob("*.py")} == {
        ROOT / package.replace(".", "/") for package in distribution.packages
    }


def test_every_file_of_the_packages_is_shipped(distribution: Distribution) -> None:
    [patterns] = distribution.package_data.values()
    shipped = {file for pattern in patterns for file in (ROOT / "siamese").glob(pattern)}
    files = {
        f
        for p in ("siamese", "train")
        for f in (ROOT / p).rglob("*")
        if f.is_file() and "__pycache__" not in f.parts
    }
    assert {f for f in files if f.suffix != ".py"} == {f for f in shipped if f.is_file()}


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_entry_points_exist(script: str) -> None:
    module, _, function = PROJECT["scripts"][script].partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert f"\ndef {function}(" in Path(spec.origin).read_text()


def test_a_files_tests_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """The processes' plugin writes a test's group behind its name, in an attribute that pytest 9.2 no longer reads."""
    node = request.node
    assert node._nodeid == node.nodeid
    assert node.nodeid.endswith("@test_packaging.py") == hasattr(request.config, "workerinput")
