"""torch.compile of networks, block by block."""

from __future__ import annotations

from torch import nn


def compile_blocks(module: nn.Module) -> None:
    """Compile the members of ``module``'s outermost lists in place: the blocks of U-Nets and autoencoders.

    The whole is not compiled: a loss takes ``step``, which changes with each update, and equal blocks are compiled once.
    """
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            for block in child:
                block.compile()
        else:
            compile_blocks(child)
