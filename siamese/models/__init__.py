"""Networks. A model folder names this package in its ``model_index.json``: diffusers looks up our classes, and the base
class that says how to load them, among the names of a module that is imported already."""

from siamese.models._lazy_diffusers import lean_imports

with lean_imports():
    from diffusers.models.modeling_utils import ModelMixin

    from siamese.models.autoencoder import SmallAutoencoder
    from siamese.models.controlnet import SiameseControlNet

__all__ = ["ModelMixin", "SiameseControlNet", "SmallAutoencoder"]
