"""The autoencoder's adversarial loss: who learns from which term."""
from __future__ import annotations

import pytest
import torch

from siamese.models.autoencoder import SmallAutoencoder
from train.adversarial import AdversarialLoss
from train.vae import AutoencoderConfig, ReconstructionLoss, VaeConfig


@pytest.fixture
def loss() -> AdversarialLoss:
    torch.manual_seed(0)
    return AdversarialLoss()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)


def test_each_side_learns_from_its_own_term(loss, images):
    real, fake = images[0], images[1].clone().requires_grad_(True)
    losses = loss(real, fake)
    losses["discriminator"].backward(retain_graph=True)
    assert fake.grad is None and all(p.grad.abs().sum() > 0 for p in loss.discriminator.parameters() if p.ndim > 1)
    loss.zero_grad()
    losses["adversarial"].backward()
    assert fake.grad.abs().sum() > 0 and all(p.grad is None for p in loss.parameters())


def test_the_autoencoders_term_follows_the_discriminator(loss, images):
    before = loss(*images)["adversarial"]
    with torch.no_grad():
        for p in loss.discriminator.parameters():
            p.add_(0.1)  # in place, as an optimiser does
    after = loss(*images)["adversarial"]
    assert after != before
    torch.testing.assert_close(after, -loss.discriminator(images[1]).mean())
    assert set(loss.state_dict()) == {f"discriminator.{name}" for name in loss.discriminator.state_dict()}


def test_hinge_is_the_formula(loss, images):
    real, fake = (loss.discriminator(x) for x in images)
    expected = 0.5 * ((1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean())
    torch.testing.assert_close(loss(*images)["discriminator"], expected)


def test_discriminator_learns_to_tell_them_apart(loss):
    noise = torch.Generator().manual_seed(1)
    sharp = torch.randn(4, 3, 32, 32, generator=noise).clamp(-1, 1)
    smooth = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2)
    optimiser = torch.optim.Adam(loss.parameters(), lr=2e-3)
    first = loss(sharp, smooth)["discriminator"].item()
    for _ in range(20):
        optimiser.zero_grad()
        loss(sharp, smooth)["discriminator"].backward()
        optimiser.step()
    assert loss(sharp, smooth)["discriminator"].item() < 0.5 * first


def test_autoencoder_is_judged_only_after_the_discriminators_start(tmp_path):
    torch.manual_seed(0)
    config = VaeConfig(data=(tmp_path,), lpips_weight=0, adversarial_weight=0.5, adversarial_after=10,
                       model=AutoencoderConfig((8, 8, 8, 16), (1, 1, 1, 1), (1, 1, 1, 1)))
    module = ReconstructionLoss(SmallAutoencoder((8, 8, 8, 16), (1, 1, 1, 1), (1, 1, 1, 1), 4, 2), None, config)
    batch = {"images": torch.rand(2, 3, 32, 32).mul(2).sub(1), "noise": torch.zeros(2, 16, 2, 2)}
    early, late = module(batch, 9, 100), module(batch, 10, 100)
    torch.testing.assert_close(early["total"], early["l1"] + early["discriminator"])
    torch.testing.assert_close(late["total"], late["l1"] + late["discriminator"] + 0.5 * late["adversarial"])
