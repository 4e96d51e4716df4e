"""A study's configuration: canonical form, hash, and that every problem is named."""

from __future__ import annotations

import dataclasses
import json

import pytest

from siamese.study.config import ConfigError, Method, StudyConfig
from tests.study.protocols import PAIRWISE, PROTOCOLS, RANKING

PAPER = (
    Method("real", "real"),
    Method("SinGAN-Seg", "synthetic"),
    Method("ControlNet", "synthetic"),
    Method("Ours", "synthetic"),
)


def config(**changes) -> StudyConfig:
    values = {
        "id": "polyps",
        "title": "Polyps",
        "protocol": "real_synthetic",
        "organ": "polyp",
        "methods": PAPER,
        "groups": 50,
    }
    return StudyConfig(**(values | changes))


def test_the_papers_polyp_study_has_200_items():
    assert config().rated == 200
    assert config(repeats=10).rated == 210
    assert config(training=5).training_groups == 2
    assert config(protocol=RANKING, methods=PAPER[:3]).rated == 50
    assert config(protocol=PAIRWISE).rated == 150


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_round_trip_keeps_the_hash(protocol):
    first = config(protocol=protocol, title="Pölyps", seed=2**60)
    again = StudyConfig.from_json(first.canonical())
    assert again == first
    assert again.hash() == first.hash()
    assert len(first.hash()) == 64
    assert StudyConfig.from_json(json.dumps(json.loads(first.canonical()), indent=3)).hash() == first.hash()
    assert first.canonical().isascii()
    assert first.instructions


def test_every_field_changes_the_hash():
    first = config(training=1)
    changed = {
        "id": "other",
        "title": "other",
        "protocol": PAIRWISE,
        "organ": "lesion",
        "methods": PAPER[:3],
        "groups": 49,
        "training": 2,
        "repeats": 1,
        "share_known": True,
        "comments": False,
        "instructions": "other",
        "consent": "other",
        "display_side": 256,
        "seed": 1,
    }
    assert set(changed) == {f.name for f in dataclasses.fields(StudyConfig)}
    hashes = {dataclasses.replace(first, **{name: value}).hash() for name, value in changed.items()} | {
        first.hash()
    }
    assert len(hashes) == len(changed) + 1


def test_lists_everything_that_is_wrong():
    with pytest.raises(ConfigError) as caught:
        config(
            id="Bad Id",
            title=" ",
            groups=0,
            training=True,
            comments="yes",
            protocol="guess",
            methods=(Method("../x", "real"), Method("A", "fake"), Method("a", "synthetic")),
        )
    text = str(caught.value)
    for part in (
        "id 'Bad Id'",
        "title must",
        "groups must",
        "training must",
        "comments must",
        "protocol 'guess'",
        "'../x'",
        "kind 'fake'",
        "named 'a'",
    ):
        assert part in text
    assert len(caught.value.problems) == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": PAPER[1:]}, "exactly one real"),
        ({"methods": PAPER[:1]}, "exactly one real and at least one synthetic"),
        ({"protocol": PAIRWISE, "methods": (*PAPER, Method("real 2", "real"))}, "exactly one real"),
        ({"protocol": RANKING, "methods": PAPER[:1]}, "2 to 9 methods"),
        ({"repeats": 201}, "200 items"),
        ({"methods": ("real",)}, "Method values"),
        ({"methods": (Method("real", "real", 3), PAPER[1])}, "source must be text"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"id": "a", "colour": 1}', "unknown field 'colour'"),
        ('{"id": "a"}', "'methods' is missing"),
        ("[" * 100_000, "not JSON"),
        ('{"methods": [{"name": "a"}]}', "methods must be a list"),
    ],
)
def test_refuses_json(text, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig.from_json(text)
