"""The saving that docs/algorithm.md states, counted again, and the rates of all stages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from siamese.models.presets import PRESETS
from tests.models import SMALL
from train.stages.autoencoder import AutoencoderConfig
from train.stages.latent_batches import padded_lengths
from train.tools import bench
from train.tools.bench import AFTER, Bench, BenchConfig, _binomial, expected_flops
from train.tools.rates import RatesConfig


@pytest.mark.slow
def test_operations_saved_on_the_golden_configuration() -> None:
    flops = expected_flops(batch=3)
    ratio = {when: flops["reference"][when] / flops["ours"][when] for when in ("before", "after")}
    assert ratio["before"] >= 1.15
    assert ratio["after"] >= 1.4
    assert flops["ours"]["after"] > flops["ours"]["before"], "augmentation is not free"


@pytest.mark.slow
def test_expectation_counts_what_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a made-up step that costs 1 a row, and 1 more for each row that it augments."""

    def flops(self: Bench, which: str, t: torch.Tensor, step: int) -> int:
        rows = int((t <= 200).sum()) if step == AFTER else 0
        return len(t) + (rows if which == "ours" else len(t) * (rows > 0))

    monkeypatch.setattr(Bench, "flops", flops)
    batch, p = 8, 0.201
    expected = batch + sum(
        _binomial(batch, k, p) * min(n for n in padded_lengths(batch) if n >= k) for k in range(batch + 1)
    )
    found = expected_flops(batch)
    assert found["ours"] == {"before": batch, "after": pytest.approx(expected)}
    assert expected > batch + batch * p
    assert found["reference"]["after"] == pytest.approx(batch + batch * (1 - 0.799**batch))


@pytest.mark.slow
def test_a_step_fills_up_its_augmented_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made, lengths = Bench(8), []
    monkeypatch.setattr(
        made.model,
        "forward",
        lambda *inputs: (lengths.append(len(inputs[8][0])), {"total": made.model.unet.conv_out.bias.sum()})[
            1
        ],
    )
    for count in range(9):
        made.step("ours", torch.from_numpy(np.where(np.arange(8) < count, 100, 700)), AFTER)
    assert lengths == [0, 1, 2, 4, 4, 8, 8, 8, 8]


def test_binomial_weights_sum_to_one() -> None:
    assert sum(_binomial(3, k, 0.201) for k in range(4)) == pytest.approx(1)


@pytest.mark.slow
def test_rates_of_all_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    small = AutoencoderConfig(
        (8, 8, 16, 16), (1, 1, 1, 1), (1, 1, 1, 1), 4
    )  # factor 16 and 16 channels, as SMALL takes them
    monkeypatch.setattr("train.tools.rates.AutoencoderConfig", lambda: small)
    bench.main(
        BenchConfig(
            skip_step=True,
            skip_sample=True,
            json=True,
            train=RatesConfig(size=64, batch=4, precision="no", updates=1, weights=tmp_path / "none"),
        )
    )
    said = capsys.readouterr().out
    found = json.loads(said.splitlines()[-1])["train"]
    assert list(found) == ["vae", "base", "siamese", "decoder", "segment"]
    assert all(rate["samples_per_second"] > 0 and rate["batch"] == 4 for rate in found.values())
    assert "training tiny at 64 pixels, no: samples a second" in said
    assert "batch of 4" in said
