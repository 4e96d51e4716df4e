"""The segmenters: files, sizes, Dice, and that training teaches them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from siamese.masks.segmenter import CompactUNet, LesionSegmenter, SegmenterError, dice
from tests.stand_ins import phantom, write_perceptual, write_set
from tests.train.stages import draws_of
from train.data.organs import fixed_subset
from train.engine.loop import LoopConfig
from train.networks.lpips import load_perceptual
from train.networks.vgg_unet import VggSegmenter, VggUNet
from train.stages.segmenter import (
    SegmentationLoss,
    SegmentConfig,
    SegmentStage,
    augment,
    main,
    soft_dice_loss,
)

SMALL = (8, 16)


def test_dice():
    a = np.zeros((8, 8), np.uint8)
    b = a.copy()
    a[:4], b[2:6] = 255, 255
    assert dice(a, b) == pytest.approx(0.5)
    assert dice(a, a) == 1
    assert dice(a, 255 - a) == 0
    assert dice(np.zeros_like(a), np.zeros_like(a)) == 1
    assert dice(a, np.zeros_like(a)) == 0
    assert dice(np.stack([a, a]), np.stack([a, b])).tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match="same size"):
        dice(a, a[:4])


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 40, 57), (2, 300, 20)])
def test_predicts_at_the_images_own_size(shape):
    torch.manual_seed(0)
    masks = LesionSegmenter(CompactUNet(SMALL), 32).predict(
        np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    )
    assert masks.shape == shape
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) <= {0, 255}


def test_refuses_other_images():
    segmenter = LesionSegmenter(CompactUNet(SMALL), 32)
    for wrong in (
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((1, 32, 32), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"uint8 \[B, H, W, 3\]"):
            segmenter.predict(wrong)


def test_round_trip(tmp_path):
    torch.manual_seed(0)
    segmenter = LesionSegmenter(CompactUNet(SMALL), 32)
    images = np.stack([phantom(i)[0] for i in range(3)])
    segmenter.save_pretrained(tmp_path)
    again = LesionSegmenter.from_pretrained(tmp_path)
    assert again.size == 32
    assert next(again.network.parameters()).dtype == torch.float32
    np.testing.assert_allclose(
        again.probabilities(images), segmenter.probabilities(images), atol=5e-3
    )  # stored in half precision


def test_shipped_network_fits_in_eight_megabytes(tmp_path):
    LesionSegmenter(CompactUNet()).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 8e6


def test_names_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(SegmenterError, match="no segmenter here"):
        LesionSegmenter.from_pretrained(tmp_path)
    LesionSegmenter(CompactUNet(SMALL)).save_pretrained(tmp_path)
    with pytest.raises(SegmenterError, match="CompactUNet, not a VggUNet"):
        VggSegmenter.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"network": {"widths": [8, 24]}}))
    with pytest.raises(SegmenterError, match="do not fit"):
        LesionSegmenter.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SegmenterError, match="no segmenter here"):
        LesionSegmenter.from_pretrained(tmp_path)


def test_vgg_encoder_is_imagenets_and_round_trips(tmp_path):
    network = load_perceptual("vgg16", write_perceptual(tmp_path / "weights"))
    unet = VggUNet.from_perceptual(network, decoder=(8, 8, 8, 8, 8), trained_convs=3)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    taken = []
    for conv in unet.convs:
        conv.register_forward_hook(lambda module, inputs, output: taken.append(output))
    unet(images)
    torch.testing.assert_close(taken[-1].relu(), network.features(images)[-1], rtol=1e-4, atol=1e-5)
    assert [c.weight.requires_grad for c in unet.convs] == [False] * 10 + [True] * 3
    segmenter = VggSegmenter(unet.eval(), 32)
    segmenter.save_pretrained(tmp_path / "vgg", torch.float32)
    arrays = np.stack([phantom(i)[0] for i in range(2)])
    np.testing.assert_allclose(
        VggSegmenter.from_pretrained(tmp_path / "vgg").probabilities(arrays),
        segmenter.probabilities(arrays),
        atol=1e-5,
    )


def test_pretrained_convolutions_move_by_their_share_of_the_learning_rate(tmp_path):
    network = load_perceptual("vgg16", write_perceptual(tmp_path / "weights"))
    unet = VggUNet.from_perceptual(network, decoder=(8, 8, 8, 8, 8), trained_convs=3)
    full, slow = unet.parameter_groups()
    assert slow.parameters == [p for conv in unet.convs[10:] for p in conv.parameters()]
    assert (full.relative_rate, slow.relative_rate) == (1.0, 0.05)
    assert len(full.parameters) + len(slow.parameters) == sum(p.requires_grad for p in unet.parameters())
    before = unet.convs[12].weight.detach().clone()
    rate = 0.02
    groups = [{"params": g.parameters, "lr": rate * g.relative_rate} for g in (full, slow)]
    optimiser = torch.optim.Adam(groups)
    unet(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    moved = (unet.convs[12].weight - before).abs()
    # Adam's first step is the rate itself, in all weights that have a gradient.
    assert float(moved.max()) == pytest.approx(0.05 * rate, rel=1e-2)
    assert [len(g.parameters) for g in VggUNet([8] * 13, (8,) * 5, trained_convs=0).parameter_groups()] == [
        sum(p.requires_grad for p in VggUNet([8] * 13, (8,) * 5, trained_convs=0).parameters())
    ]


def test_vgg_segmenter_of_an_earlier_version_is_read(tmp_path):
    """It stored the slow convolutions' weights divided by their rate, and called that ``rate`` in its configuration."""
    segmenter = VggSegmenter(VggUNet([8] * 13, (8, 8, 8, 8, 8), trained_convs=3).eval(), 32)
    segmenter.save_pretrained(tmp_path / "new", torch.float32)
    segmenter.save_pretrained(tmp_path / "old", torch.float32)
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    config["network"]["rate"] = config["network"].pop("relative_rate")
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "old" / "model.safetensors")
    for name in weights:
        if name.startswith(("convs.10.", "convs.11.", "convs.12.")):
            weights[name] = weights[name] / 0.05
    save_file(weights, tmp_path / "old" / "model.safetensors")
    arrays = np.stack([phantom(i)[0] for i in range(2)])
    old = VggSegmenter.from_pretrained(tmp_path / "old")
    np.testing.assert_allclose(old.probabilities(arrays), segmenter.probabilities(arrays), atol=1e-5)
    old.save_pretrained(tmp_path / "again", torch.float32)
    again = VggSegmenter.from_pretrained(tmp_path / "again")
    np.testing.assert_allclose(again.probabilities(arrays), segmenter.probabilities(arrays), atol=1e-5)


def test_soft_dice_loss():
    masks = torch.tensor(phantom(0)[1][None, None]).float() / 255
    sure = (masks - 0.5) * 200
    assert soft_dice_loss(sure, masks) < 1e-5
    assert soft_dice_loss(-sure, masks) > 0.99
    assert soft_dice_loss(-sure.abs(), torch.zeros_like(masks)) < 1e-5  # nothing there, nothing found


def _phantoms(count, size=48):
    images, masks = (np.stack(x) for x in zip(*(phantom(3, size) for _ in range(count)), strict=True))
    return torch.from_numpy(images), torch.from_numpy(masks)


def test_augmentation_keeps_image_and_mask_together():
    images, masks = _phantoms(8)
    turned, moved = augment(images, masks, draws_of(8))
    assert turned.shape == (8, 3, 48, 48)
    assert moved.shape == (8, 1, 48, 48)
    assert set(moved.unique().tolist()) == {0, 1}
    assert turned.min() >= -1
    assert turned.max() <= 1
    assert turned.is_contiguous(memory_format=torch.channels_last)
    for image, mask in zip(turned, moved[:, 0].bool(), strict=True):
        assert (
            image[:, ~mask].mean() - image[:, mask].mean() > 30 / 127.5
        )  # the ellipse is dark, wherever it went
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(turned, augment(images, masks, draws_of(8))[0])
    assert not torch.equal(turned, augment(images, masks, draws_of(8, 1))[0])


class Fixed:
    """Draws with given values, by name."""

    def __init__(self, **values):
        self.values = {"scale": 0.0, "shift": 0.0, "contrast": 1.0, "brightness": 0.0, "tint": 1.0} | values

    def uniform(self, name, low, high, *shape):
        assert np.all(low <= np.array(self.values[name])), name
        assert np.all(np.array(self.values[name]) <= high), name
        return np.broadcast_to(np.float64(self.values[name]), (1, *shape))


def _by_opencv(image, mask, scale, shift):
    """Scale about the centre, then shift by a share of the side, with mirrored borders."""
    side = image.shape[0]
    move = np.array(shift) * side + (1 - scale) * (side - 1) / 2
    affine = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
    return [
        cv2.warpAffine(x, affine, (side, side), flags=how, borderMode=cv2.BORDER_REFLECT_101)
        for x, how in ((image.astype(np.float32), cv2.INTER_LINEAR), (mask, cv2.INTER_NEAREST))
    ]


@pytest.mark.parametrize(
    ("power", "shift"),
    [(0, (0, 0)), (1, (0, 0)), (-1, (0, 0)), (0, (0.08, -0.05)), (0.6, (-0.08, 0.08)), (-0.7, (0.03, 0.06))],
)
def test_scale_and_shift_are_opencvs(power, shift):
    image, mask = phantom(5)
    found, moved = augment(
        torch.from_numpy(image[None]),
        torch.from_numpy(mask[None]),
        Fixed(scale=power, shift=[[2 * s for s in shift]]),
    )
    expected, expected_mask = _by_opencv(image, mask, 1.25**power, shift)
    away = (found[0].permute(1, 2, 0).numpy() + 1) * 127.5 - expected
    assert abs(away).mean() < 0.6, "opencv rounds places to a 32nd of a pixel"
    assert (moved[0, 0].numpy() * 255 != expected_mask).mean() < 0.02
    if not power and not any(shift):
        np.testing.assert_allclose(away, 0, atol=1e-3)


def test_contrast_brightness_and_tint():
    image, mask = phantom(5)
    found, _ = augment(
        torch.from_numpy(image[None]),
        torch.from_numpy(mask[None]),
        Fixed(contrast=1.2, brightness=-20, tint=[[0.94, 1, 1.06]]),
    )
    expected = np.clip(((image - 127.5) * 1.2 + 107.5) * [0.94, 1, 1.06], 0, 255)
    np.testing.assert_allclose((found[0].permute(1, 2, 0).numpy() + 1) * 127.5, expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["small", "vgg16"])
def test_loss_falls_within_a_few_steps(architecture, tmp_path):
    torch.manual_seed(0)
    if architecture == "small":
        network = CompactUNet((16, 32))
    else:
        network = VggUNet.from_perceptual(
            load_perceptual("vgg16", write_perceptual(tmp_path / "weights")), decoder=(16, 16, 16, 16, 16)
        )
    module = SegmentationLoss(network)
    images, masks = (np.stack(x) for x in zip(*(phantom(i) for i in range(8)), strict=True))
    batch = {
        "images": torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1),
        "masks": torch.from_numpy(masks)[:, None].float() / 255,
    }
    optimiser = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for step in range(25):
        loss = module(batch, step, 25)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_stage_trains_evaluates_each_organ_and_exports(tmp_path):
    data = (
        write_set(tmp_path / "kvasir-seg", {"train": 6, "val": 3}),
        write_set(tmp_path / "isic2018", {"train": 4, "val": 2}, 50),
    )
    settings = LoopConfig(
        out=tmp_path / "run", max_steps=2, batch_size=4, learning_rate=1e-3, ema_decay=0.9, evaluate_every=1
    )
    config = SegmentConfig(data, size=32, loop=settings)
    main(config)
    images = np.stack([phantom(i)[0] for i in range(2)])
    assert LesionSegmenter.from_pretrained(tmp_path / "run" / "small" / "model").predict(images).shape == (
        2,
        48,
        48,
    )
    stage = SegmentStage(config)
    assert stage.size == 10
    assert stage.val_organs.count("polyp") == 3
    assert stage.val_organs.count("lesion") == 2

    class Writer:
        def add_images(self, name, images, step, dataformats):
            assert images.shape == (5, 32, 32, 3)

    scores = stage.evaluate(0, Writer())
    assert set(scores) == {"dice_polyp", "dice_lesion"}
    assert all(0 <= s <= 1 for s in scores.values())


def test_synthetic_pairs_join_the_training_split(tmp_path):
    data = (write_set(tmp_path / "kvasir-seg", {"train": 6, "val": 3}),)
    extra = (write_set(tmp_path / "made", {"train": 5}, 90),)
    assert SegmentStage(SegmentConfig(data, synthetic=extra, size=32)).size == 11


def test_fixed_subset_is_of_each_organ(tmp_path):
    from train.data.pairs import read_pairs

    data = [write_set(tmp_path / "kvasir-seg", {"val": 7}), write_set(tmp_path / "isic2018", {"val": 3}, 50)]
    pairs = read_pairs(data, "val")
    names = [p.name for p in fixed_subset(pairs, 4)]
    assert names == [p.name for p in fixed_subset(pairs, 4)]
    assert sum(n.startswith("kvasir") for n in names) == 4
    assert sum(n.startswith("isic") for n in names) == 3
