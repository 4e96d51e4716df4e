"""Latents of which a part is known: sampling synthesises the rest, and the known part stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class KnownLatents:
    """z_0 that is known outside of ``free``.

    Before each step the known part of z_t is set to z_0 with the step's noise, as in RePaint (Lugmayr et al. 2022, arXiv:2201.09865,
    equations 8a to 8c) and, in latent space, in Blended Latent Diffusion (Avrahami et al. 2023, arXiv:2206.02779, algorithm 1).
    They draw new noise at each step, because their samplers do. The solvers here are deterministic, so the noise is z_T at each step:
    the known part takes the path between z_T and z_0 that the solver would take with a network that knows z_0. RePaint's repeated steps
    (its section 4.2) are left out: they multiply the time.
    """

    z_0: Tensor
    """[B, C, h, w], scaled as the denoiser sees them (``siamese.models.autoencoder.encode_moments``)."""
    free: Tensor
    """m [B, 1, h, w]: 1 if the latent is synthesised, 0 if it is held."""

    def held(self, z_t: Tensor, *, scheduler: Any, noise: Tensor, timestep: Tensor) -> Tensor:
        """z_t [B, C, h, w] at the scheduler's ``timestep`` with the known part set to sqrt(a_t) z_0 + sqrt(1 - a_t) ``noise``."""
        known = scheduler.add_noise(self.z_0, noise, timestep.reshape(1).expand(len(z_t)))
        return self.free * z_t + (1 - self.free) * known

    def at_end(self, z: Tensor) -> Tensor:
        """The last step's latents [B, C, h, w] with the known part set to z_0."""
        return self.free * z + (1 - self.free) * self.z_0
