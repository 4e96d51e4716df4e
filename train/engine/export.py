"""Exporting a model so that the one before stays whole until the new one is."""

from siamese.files.atomic import replacing_files as written

__all__ = ["written"]
