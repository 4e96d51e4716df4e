"""Siamese-Diffusion: models, sampling, masks, rating studies and the studio's interface."""

VERSION = "0.2.0"
"""Version of the studio, written into every image file."""
