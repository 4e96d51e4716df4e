"""Siamese-Diffusion Studio: ``python app.py`` and open the address that it prints."""

from __future__ import annotations

import os

# Threads that compute would otherwise spin while they wait for each other, and starve a browser on the same few cores: sampling
# beside it took four times as long. It is read when the first library that uses OpenMP is loaded, hence before all other imports.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from siamese.studio.cli import main

if __name__ == "__main__":
    main()
