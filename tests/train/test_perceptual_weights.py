"""The converter of perceptual weights, on random weights in the layout of torchvision and of LPIPS."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from train.networks.lpips import load_perceptual
from train.tools.perceptual_weights import PerceptualWeightsConfig, WeightsError, converted, main


def torchvision_alexnet() -> nn.Sequential:
    """``alexnet().features`` of torchvision: its convolutions are members 0, 3, 6, 8 and 10."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def state(features: nn.Sequential) -> dict[str, Tensor]:
    """The whole network's state dict; the classifier is not taken."""
    return {f"features.{k}": v for k, v in features.state_dict().items()} | {
        "classifier.1.weight": torch.zeros(4, 4)
    }


def heads(*widths: int) -> dict[str, Tensor]:
    """Of LPIPS v0.1."""
    generator = torch.Generator().manual_seed(1)
    return {
        f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=generator) for i, w in enumerate(widths)
    }


ALEXNET = (64, 192, 384, 256, 256)


def test_the_file_computes_what_torchvisions_network_computes(tmp_path: Path) -> None:
    features, linear = torchvision_alexnet(), heads(*ALEXNET)
    torch.save(state(features), tmp_path / "alexnet.pth")
    torch.save(linear, tmp_path / "alex.pth")
    file = main(
        PerceptualWeightsConfig(tmp_path / "alexnet.pth", tmp_path / "alex.pth", tmp_path / "weights")
    )
    assert file == tmp_path / "weights" / "alexnet_lpips.safetensors"
    network = load_perceptual("alexnet", tmp_path / "weights")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    x, taps = (images - network.shift) / network.scale, []
    with torch.no_grad():
        for member in features:
            x = member(x)
            if isinstance(member, nn.ReLU):
                taps.append(x)
        found = network.features(images)
        # float16 has three decimal digits.
        assert all(torch.allclose(a, b, rtol=0.02, atol=2e-3) for a, b in zip(found, taps, strict=True))
        first, second = ([t[i : i + 1] for t in taps] for i in (0, 1))
        units = [
            [t / (t.square().sum(1, keepdim=True).sqrt() + 1e-10) for t in tapped]
            for tapped in (first, second)
        ]
        lpips = sum(
            ((a - b).square() * head).sum(1).mean()
            for a, b, head in zip(*units, linear.values(), strict=True)
        )
        assert network(images[:1], images[1:]).item() == pytest.approx(lpips.item(), rel=0.02)


def test_thirteen_convolutions_are_vgg16() -> None:
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    weights = {}
    for place, (inside, outside) in zip(places, pairwise(widths), strict=True):
        weights[f"features.{place}.weight"] = torch.full((outside, inside, 3, 3), float(place))
        weights[f"features.{place}.bias"] = torch.zeros(outside)
    backbone, found = converted(weights, heads(64, 128, 256, 512, 512))
    assert backbone == "vgg16"
    assert [int(found[f"conv.{n}.weight"].flatten()[0]) for n in range(13)] == places
    assert {t.dtype for name, t in found.items() if name.startswith("conv.") and "weight" in name} == {
        torch.float16
    }
    with pytest.raises(WeightsError, match="heads of vgg16"):
        converted(weights, heads(*ALEXNET))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="2 convolutions"):
        converted({"features.0.weight": torch.zeros(1), "features.1.weight": torch.zeros(1)}, heads(*ALEXNET))
    with pytest.raises(WeightsError, match="lin0 to lin4"):
        converted(state(torchvision_alexnet()), heads(64, 192))
    (tmp_path / "page.html").write_text("<html>not found</html>")
    with pytest.raises(WeightsError, match="cannot be read"):
        main(PerceptualWeightsConfig(tmp_path / "page.html", tmp_path / "page.html", tmp_path))
    with pytest.raises(WeightsError, match=r"docs/data\.md"):
        main(PerceptualWeightsConfig(tmp_path / "none.pth", tmp_path / "none.pth", tmp_path))
