"""The examples in the docstrings of the entry points run and give what they say."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from siamese import objective, sampling
from siamese.models import controlnet
from siamese.records import sampling_settings


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", [sampling, objective, controlnet, sampling_settings], ids=lambda m: m.__name__
)
def test_examples_run(module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    results = doctest.testmod(module)
    assert results.attempted >= 1
    assert results.failed == 0
