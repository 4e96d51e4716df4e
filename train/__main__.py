"""Command line: ``python -m train STAGE --help``."""
from __future__ import annotations

import tyro

from train import base, siamese, vae

if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"vae": vae.main, "base": base.main, "siamese": siamese.main}, prog="python -m train")
