"""Shape statistics and random lesions: fitting gives back what is drawn, files are checked, drawing is deterministic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from siamese.masks.core import resize_mask
from siamese.masks.shapes import (
    LEVELS,
    MIN_SHAPES,
    ShapeError,
    ShapeStatistics,
    largest_component,
    load_statistics,
    random_lesion,
    read_statistics,
    save_statistics,
)
from siamese.records.prompts import LESION, POLYP
from siamese.studio.components.default_mask import example_mask
from tests.phantoms import write_folder
from train import __main__ as command
from train.stages.lesion_shapes import ShapesConfig, distances, main, measure_shapes


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float, side: int = 64
) -> np.ndarray:
    """Mask uint8 [side, side]; centre (x, y) and radii as fractions of the side, the first radius along ``degrees``."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    dx, dy, a = x - centre[0], y - centre[1], np.radians(degrees)
    u, v = dx * np.cos(a) + dy * np.sin(a), dy * np.cos(a) - dx * np.sin(a)
    return np.where((u / radii[0]) ** 2 + (v / radii[1]) ** 2 <= 1, 255, 0).astype(np.uint8)


def ellipses(count: int = 200, seed: int = 0) -> list[np.ndarray]:
    """Ellipses right of the middle, tilted by 20 to 40 degrees, of axis ratio 1.5 to 2.5."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        radius, ratio = rng.uniform(0.1, 0.2), rng.uniform(1.5, 2.5)
        masks.append(
            ellipse(
                tuple(rng.uniform((0.55, 0.4), (0.65, 0.6))),
                (radius * ratio**0.5, radius * ratio**-0.5),
                rng.uniform(20, 40),
            )
        )
    return masks


@pytest.fixture(scope="module")
def fitted() -> ShapeStatistics:
    return ShapeStatistics.fit(ellipses())


@pytest.mark.slow
def test_random_lesions_follow_the_fitted_masks(fitted: ShapeStatistics) -> None:
    drawn = np.stack([random_lesion(fitted, i, 64) for i in range(200)])
    area, elongation, _solidity = distances(measure_shapes(drawn), measure_shapes(np.stack(ellipses())))
    # 1 % point for 200 and 200: 0.16. Solidity of such smooth shapes is one of pixels.
    assert area < 0.16
    assert elongation < 0.16
    centres = np.array([ndimage.center_of_mass(m) for m in drawn]) / 64
    np.testing.assert_allclose(centres.mean(0), (0.5, 0.6), atol=0.02)
    rows, columns = np.nonzero(drawn.mean(0) > 127)
    tilt = np.cov(columns, rows)
    assert tilt[0, 1] > 0.2 * np.sqrt(tilt[0, 0] * tilt[1, 1]), "the long axis points right and down"


@pytest.mark.slow
def test_nothing_is_drawn_outside_the_observed_range(fitted: ShapeStatistics) -> None:
    areas = np.array([(random_lesion(fitted, i, 64) > 0).mean() for i in range(200)])
    low, high = np.quantile([(m > 0).mean() for m in ellipses()], [LEVELS[0], LEVELS[-1]])
    assert low - 1e-3 <= areas.min()
    assert areas.max() <= high + 1e-3
    assert areas.std() > 0.2 * areas.mean()


@pytest.mark.parametrize("prompt", [POLYP, LESION])
@pytest.mark.parametrize("side", [16, 64])
def test_packaged_lesions_are_masks_of_one_piece(prompt: str, side: int) -> None:
    statistics = load_statistics()[prompt]
    for seed in range(60):
        mask = random_lesion(statistics, seed, side)
        assert mask.shape == (side, side)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1


def test_same_seed_same_lesion(fitted: ShapeStatistics) -> None:
    first = random_lesion(fitted, 5, 64)
    np.testing.assert_array_equal(random_lesion(fitted, 5, 64), first)
    assert (random_lesion(fitted, 6, 64) != first).any()
    coarse = resize_mask(random_lesion(fitted, 5, 256), 64)
    assert (coarse != first).mean() < 0.01, "the same shape at another side"


def test_the_frame_cuts_off_and_the_area_stays(fitted: ShapeStatistics) -> None:
    quantiles = fitted.quantiles.copy()
    quantiles[0], quantiles[2] = (
        0.5,
        np.log(0.2),
    )  # the centre on the right margin beside a disc of radius 0.2
    mask = random_lesion(replace(fitted, quantiles=quantiles), 0, 128)
    assert mask[:, -1].any()
    assert (mask > 0).mean() == pytest.approx(np.pi * 0.2**2, abs=1e-4)


def test_draws_again_what_falls_apart(fitted: ShapeStatistics) -> None:
    quantiles = fitted.quantiles.copy()
    quantiles[5] = np.log(1.2)  # spikes at least
    spiky = replace(fitted, quantiles=quantiles)
    with pytest.raises(ShapeError, match="too ragged for 48 pixels"):
        random_lesion(spiky, 0, 48)
    quantiles[5] = np.log(0.25)
    mask = random_lesion(replace(fitted, quantiles=quantiles), 0, 48)
    assert ndimage.label(mask, np.ones((3, 3)))[1] == 1


@pytest.mark.parametrize(
    ("seed", "side", "message"),
    [(-1, 64, "seed"), (0.5, 64, "seed"), (True, 64, "seed"), (0, 7, "side"), (0, 64.0, "side")],
)
def test_arguments_are_checked(fitted: ShapeStatistics, seed: object, side: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"the {message} must be a whole number"):
        random_lesion(fitted, seed, side)  # type: ignore[arg-type]


def test_largest_component() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:4, 2:4] = 255
    mask[10:15, 10:15] = 255
    mask[15, 15] = 255  # joined by a corner
    lesion = largest_component(mask)
    assert lesion.dtype == bool
    assert lesion.sum() == 26
    assert not lesion[2, 2]
    with pytest.raises(ShapeError, match="empty"):
        largest_component(np.zeros((4, 4), np.uint8))


@pytest.mark.slow
def test_small_parts_and_other_sizes_do_not_matter() -> None:
    masks = ellipses(MIN_SHAPES)
    plain = ShapeStatistics.fit(masks)
    dotted = [m.copy() for m in masks]
    for mask in dotted:
        mask[-1, 0] = 255
    np.testing.assert_array_equal(ShapeStatistics.fit(dotted).quantiles, plain.quantiles)
    wide = ShapeStatistics.fit([np.repeat(np.repeat(m, 2, 0), 3, 1) for m in masks])
    np.testing.assert_allclose(wide.quantiles[:4], plain.quantiles[:4], atol=0.1)


def test_crescents_and_rings_are_described() -> None:
    crescents = []
    for mask in ellipses(MIN_SHAPES):
        rows, columns = np.nonzero(mask)
        hollow = mask.copy()
        hollow[
            int(rows.mean()) - 3 : int(rows.mean()) + 4, int(columns.mean()) - 3 : int(columns.mean()) + 4
        ] = 0
        crescents.append(hollow)
    statistics = ShapeStatistics.fit(crescents)
    assert np.isfinite(statistics.covariance).all()
    assert random_lesion(statistics, 0, 64).any()


def test_few_masks_are_refused() -> None:
    with pytest.raises(ShapeError, match=f"at least {MIN_SHAPES} masks, not {MIN_SHAPES - 1}"):
        ShapeStatistics.fit(ellipses(MIN_SHAPES - 1))


def test_identical_masks_can_be_fitted() -> None:
    mask = example_mask(3, 64)
    statistics = ShapeStatistics.fit([mask] * MIN_SHAPES)
    drawn = random_lesion(ShapeStatistics.from_dict(statistics.to_dict()), 0, 64)
    assert (drawn > 0).sum() == pytest.approx((mask > 0).sum(), rel=0.02)


def test_round_trip(fitted: ShapeStatistics, tmp_path: Path) -> None:
    save_statistics({"ward": fitted}, tmp_path / "shapes.json")
    again = read_statistics((tmp_path / "shapes.json").read_text())["ward"]
    assert again.count == fitted.count == 200
    for name in ("quantiles", "mean", "covariance", "spectrum"):
        np.testing.assert_allclose(getattr(again, name), getattr(fitted, name), atol=1e-4)
    assert (random_lesion(again, 1, 64) != random_lesion(fitted, 1, 64)).mean() < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 3}, "count"),
        ({"count": "200"}, "count"),
        ({"mean": [0.0] * 3}, "mean must be"),
        ({"mean": ["a"] * 22}, "incomplete"),
        ({"spectrum": [-1.0] + [2 / 39] * 39}, "add up to 1"),
        ({"spectrum": [1.0] * 40}, "add up to 1"),
        ({"quantiles": [list(range(15, 0, -1))] * 6}, "do not rise"),
        ({"quantiles": [[float("nan")] * 15] * 6}, "finite"),
        ({"covariance": (-np.eye(22)).tolist()}, "positive definite"),
        ({"covariance": (np.eye(22) + np.eye(22, k=1)).tolist()}, "symmetric"),
    ],
)
def test_damaged_statistics_are_refused(fitted: ShapeStatistics, change: dict, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        ShapeStatistics.from_dict(fitted.to_dict() | change)


def test_damaged_files_are_refused(fitted: ShapeStatistics, tmp_path: Path) -> None:
    values = fitted.to_dict()
    del values["mean"]
    with pytest.raises(ShapeError, match="incomplete"):
        ShapeStatistics.from_dict(values)
    for text, message in (
        ("{", "not JSON"),
        ("[]", "not of the format"),
        ('{"format": "other"}', "not of the format"),
    ):
        with pytest.raises(ShapeError, match=message):
            read_statistics(text)


def test_packaged_statistics_hold_numbers_of_many_lesions_only() -> None:
    from importlib import resources

    text = resources.files("siamese.masks").joinpath("lesion_shapes.json").read_text()
    assert len(text) < 60_000
    statistics = load_statistics()
    assert set(statistics) == {POLYP, LESION}
    assert all(s.count > 1000 for s in statistics.values())
    for values in json.loads(text)["organs"].values():
        assert set(values) == {"count", "quantiles", "mean", "covariance", "spectrum"}
    load_statistics().clear()
    assert load_statistics(), "a caller's copy"


def test_measures_of_known_shapes() -> None:
    figures = measure_shapes(
        np.stack([ellipse((0.5, 0.5), (0.3, 0.15), 30, 256), ellipse((0.5, 0.5), (0.2, 0.2), 0, 256)])
    )
    np.testing.assert_allclose(figures[:, 0], [np.pi * 0.045, np.pi * 0.04], rtol=0.01)
    np.testing.assert_allclose(figures[:, 1], [4, 1], rtol=0.02)
    assert (figures[:, 2] > 0.97).all()
    assert distances(figures, figures) == [0, 0, 0]


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    return write_folder(
        tmp_path / "ward",
        MIN_SHAPES + 8,
        {
            "train": range(MIN_SHAPES),
            "val": range(MIN_SHAPES, MIN_SHAPES + 5),
            "test": range(MIN_SHAPES + 5, MIN_SHAPES + 8),
        },
    )


@pytest.mark.slow
def test_stage_fits_train_compares_val_and_ignores_test(
    ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (ward / "test.txt").read_text().split("\n")[:-1]:
        (ward / "masks" / f"{name}.png").write_bytes(b"never opened")
    out = tmp_path / "shapes.json"
    command.run_command(
        ["shapes", "--data", str(ward), "--prompt", POLYP, "--out", str(out), "--size", "32", "--many", "10"]
    )
    assert read_statistics(out.read_text())[POLYP].count == MIN_SHAPES
    printed = capsys.readouterr().out
    assert "compared with 5 validation masks" in printed
    for row in ("5 random lesions", "10 random lesions", f"{MIN_SHAPES} training masks"):
        [line] = [x for x in printed.splitlines() if x.strip().startswith(row)]
        assert all(0 <= float(x) <= 1 for x in line.split()[-3:])


@pytest.mark.slow
def test_stage_without_validation_masks_and_with_a_wrong_file(
    ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ward / "val.txt").unlink()
    config = ShapesConfig((ward,), POLYP, tmp_path / "shapes.json", size=32)
    main(config)
    assert "0 validation masks" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--out must be"):
        main(replace(config, out=tmp_path / "shapes.txt"))


@pytest.mark.slow
def test_stage_writes_below_runs_if_no_folder_is_given(
    ward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the tracked statistics that the app reads."""
    monkeypatch.chdir(tmp_path)
    (ward / "val.txt").unlink()
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    main(ShapesConfig((ward,), POLYP, size=32))
    assert {p for p in tmp_path.rglob("*") if p.is_file()} - before == {
        tmp_path / "runs" / "lesion_shapes.json"
    }
