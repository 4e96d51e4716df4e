"""The autoencoder's further terms: discriminator on frozen stages, texture statistics, scale equivariance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.models import small_autoencoder
from tests.stand_ins import write_perceptual
from train.evaluation.reconstruction import texture_distance
from train.networks.discriminator import (
    AUGMENTATIONS,
    ProjectedDiscriminator,
    augment_differentiably,
    discriminator_losses,
)
from train.networks.lpips import PerceptualNetwork, load_perceptual
from train.stages.autoencoder import ReconstructionLoss, VaeConfig


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> PerceptualNetwork:
    return load_perceptual("alexnet", write_perceptual(tmp_path_factory.mktemp("weights") / "random"))


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def neutral(batch: int) -> torch.Tensor:
    """Random numbers that change nothing but for the square, which is at the top left."""
    return torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0]).expand(batch, AUGMENTATIONS)


def test_augmentation_in_the_middle_of_its_range_only_cuts() -> None:
    images = seeded(2, 3, 32, 32)
    seen = augment_differentiably(images, neutral(2))
    assert not seen[..., :8, :8].any()
    torch.testing.assert_close(seen[..., 8:, :], images[..., 8:, :], rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[..., :, 8:], images[..., :, 8:], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("which", "value"), [(0, 0.9), (1, 0.1), (2, 0.9), (3, 1.0), (4, 0.0), (5, 1.0), (6, 1.0)]
)
def test_each_augmentation_does_what_its_number_says(which: int, value: float) -> None:
    images, numbers = seeded(1, 3, 32, 32) * 0.5, neutral(1).clone()
    numbers[0, which] = value
    seen, rest = augment_differentiably(images, numbers)[0, :, 8:, 8:], images[0, :, 8:, 8:]
    grey, mean = images[0].mean(0)[8:, 8:], images[0].mean()
    expected = {
        0: rest + 0.6 * 0.4,
        1: grey + (rest - grey) * 0.6,
        2: mean + (rest - mean) * 1.24,
        3: torch.cat([images[0, :, 12:, 8:], images[0, :, -1:, 8:].expand(3, 4, 24)], 1),
        4: images[0, :, 8:, 4:28],
    }
    if which in expected:
        torch.testing.assert_close(seen, expected[which], rtol=0, atol=1e-5)
    else:  # the square has moved to the other end
        cut = augment_differentiably(images, numbers)[0]
        rows, columns = (slice(24, 32), slice(0, 8)) if which == 5 else (slice(0, 8), slice(24, 32))
        assert not cut[:, rows, columns].any()
        assert cut[:, :8, :8].any()


def test_images_of_a_batch_are_augmented_apart_and_reproducibly() -> None:
    images, numbers = (
        seeded(1, 3, 32, 32).expand(2, -1, -1, -1),
        torch.rand(2, AUGMENTATIONS, generator=torch.Generator().manual_seed(3)),
    )
    both = augment_differentiably(images, numbers)
    assert not torch.allclose(both[0], both[1])
    assert torch.equal(both[1:], augment_differentiably(images[1:], numbers[1:]))


def test_losses_reach_what_they_should(alexnet: PerceptualNetwork) -> None:
    discriminator = ProjectedDiscriminator(alexnet.channels)
    drawn, uniform = seeded(2, 3, 64, 64, seed=1).requires_grad_(), torch.rand(2, 2, AUGMENTATIONS)
    losses = discriminator_losses(discriminator, alexnet, seeded(2, 3, 64, 64), drawn, uniform, 0.1)
    heads = list(discriminator.parameters())
    for name in ("discriminator", "penalty"):
        to_heads = torch.autograd.grad(losses[name], heads, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in to_heads), name
        assert torch.autograd.grad(losses[name], drawn, retain_graph=True, allow_unused=True) == (None,), name
    assert torch.autograd.grad(losses["adversarial"], drawn, retain_graph=True)[0].abs().sum() > 0
    assert all(g is None for g in torch.autograd.grad(losses["adversarial"], heads, allow_unused=True))


def test_hinge_losses_of_heads_that_say_always_the_same(alexnet: PerceptualNetwork) -> None:
    """Opinion 0.25 everywhere: hinge 0.75 + 1.25, adversarial -0.25, no gradient to penalise."""
    discriminator = ProjectedDiscriminator(alexnet.channels)
    for head in discriminator.heads:
        torch.nn.init.zeros_(head[-1].weight)
        torch.nn.init.constant_(head[-1].bias, 0.25)
    losses = discriminator_losses(
        discriminator,
        alexnet,
        seeded(2, 3, 64, 64),
        seeded(2, 3, 64, 64, seed=1),
        torch.rand(2, 2, AUGMENTATIONS),
        1.0,
    )
    assert {k: pytest.approx(float(v.detach())) for k, v in losses.items()} == {
        "discriminator": 2.0,
        "adversarial": -0.25,
        "penalty": 0.0,
    }


@pytest.mark.slow
def test_heads_learn_to_tell_sharp_from_blurred_and_their_opinion_sharpens(
    alexnet: PerceptualNetwork,
) -> None:
    torch.manual_seed(0)
    discriminator, generator = ProjectedDiscriminator(alexnet.channels, 16), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(discriminator.parameters(), 3e-3)

    def blurred(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)

    def losses(drawn: torch.Tensor, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return discriminator_losses(
            discriminator,
            alexnet,
            images,
            drawn,
            torch.rand(len(images), 2, AUGMENTATIONS, generator=generator),
            0.01,
        )

    first = None
    for _ in range(40):
        images = torch.randn(8, 3, 64, 64, generator=generator).mul(0.4).clamp(-1, 1)
        found = losses(blurred(images), images)
        (found["discriminator"] + found["penalty"]).backward()
        optimiser.step()
        optimiser.zero_grad()
        first = float(found["discriminator"].detach()) if first is None else first
    assert float(found["discriminator"].detach()) < 0.6 * first
    drawn = blurred(images).requires_grad_()
    [gradient] = torch.autograd.grad(losses(drawn, images)["adversarial"], drawn)
    with torch.no_grad():
        assert (gradient * (images - drawn)).sum() < 0  # going towards the sharp image lowers the loss


def test_tied_heads_follow_the_optimiser(alexnet: PerceptualNetwork) -> None:
    discriminator, features = ProjectedDiscriminator(alexnet.channels), alexnet.features(seeded(1, 3, 64, 64))
    with torch.no_grad():
        for p in discriminator.parameters():
            p.add_(0.1)
    for a, b in zip(discriminator(features), discriminator(features, frozen=True), strict=True):
        assert torch.equal(a, b)
    assert len(list(discriminator.parameters())) == sum(
        len(list(h.parameters())) for h in discriminator.heads
    )


def test_texture_distance() -> None:
    """Where features lie plays no part; means 1 and 3 of equal spread are (3 - 1)^2 / (3^2 + 1) apart, spreads 1 and 2 likewise."""
    x = seeded(1, 4, 6, 6)
    shuffled = x.flatten(2)[..., torch.randperm(36, generator=torch.Generator().manual_seed(1))].view_as(x)
    assert float(texture_distance([x], [shuffled])) == pytest.approx(0, abs=1e-10)
    unit = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).view(1, 1, 2, 2)
    spread = float(unit.std())  # of the sample: sqrt(4 / 3)
    assert float(texture_distance([1 + unit], [3 + unit])) == pytest.approx(4 / 10)
    assert float(texture_distance([unit], [2 * unit])) == pytest.approx(spread**2 / 4, rel=1e-5)
    both = texture_distance([1 + unit, unit], [3 + unit, 2 * unit])
    assert float(both) == pytest.approx((4 / 10 + spread**2 / 4) / 2, rel=1e-5)


def batch(pool: int = 2) -> dict[str, Any]:
    return {
        "images": seeded(2, 3, 64, 64),
        "noise": torch.zeros(2, 16, 4, 4),
        "offset": np.array([1, 2]),
        "uniform": torch.full((2, 2, AUGMENTATIONS), 0.5),
        "pool": pool,
    }


def test_terms_add_up_with_their_weights(alexnet: PerceptualNetwork) -> None:
    config = VaeConfig(
        (Path("none"),),
        lpips_weight=0.7,
        colour_weight=1.5,
        texture_weight=0.4,
        adversarial_weight=0.2,
        equivariance=0.5,
    )
    module = ReconstructionLoss(small_autoencoder(), alexnet, config)
    for step, rise in ((0, 0.0), (5, 0.5), (50, 1.0)):
        found = {k: float(v.detach()) for k, v in module(batch(), step, 100).items()}
        expected = (
            found["l1"]
            + 1.5 * found["colour"]
            + 0.7 * found["lpips"]
            + 0.4 * found["texture"]
            + 0.5 * found["equivariance"]
            + found["discriminator"]
            + found["penalty"]
            + rise * 0.2 * found["adversarial"]
        )
        assert found["total"] == pytest.approx(expected, rel=1e-5)
    plain = ReconstructionLoss(small_autoencoder(), alexnet, VaeConfig((Path("none"),)))(batch(), 0, 100)
    assert plain.keys() == {"l1", "colour", "lpips", "total"}  # what has no weight is not computed


def test_equivariance_compares_smaller_images_with_smaller_latents(alexnet: PerceptualNetwork) -> None:
    """An autoencoder of means is equivariant exactly."""

    class Means(torch.nn.Module):
        config = type("Config", (), {"pack": 1})

        def decode(self, z: torch.Tensor):
            return type("Output", (), {"sample": F.interpolate(z, scale_factor=4.0)})

    config = VaeConfig((Path("none"),), equivariance=1.0)
    images = F.interpolate(
        seeded(2, 3, 4, 4), scale_factor=16.0
    )  # constant over 16 x 16 pixels: smaller images are exact
    module = ReconstructionLoss(Means(), alexnet, config)
    assert float(module.equivariance(F.avg_pool2d(images, 4), images, 4)) == pytest.approx(0, abs=1e-6)
    assert float(module.equivariance(-F.avg_pool2d(images, 4), images, 4)) > 0.1
    asked: list[int] = []
    whole = ReconstructionLoss(small_autoencoder(), alexnet, config)
    whole.equivariance = lambda latents, images, factor: asked.append(factor) or torch.zeros(())
    for pool in (2, 4):
        whole(batch(pool), 0, 1)
    assert asked == [2, 4]


def test_discriminator_without_alexnet_is_refused() -> None:
    with pytest.raises(ValueError, match="judges AlexNet"):
        ReconstructionLoss(small_autoencoder(), None, VaeConfig((Path("none"),), adversarial_weight=0.1))
