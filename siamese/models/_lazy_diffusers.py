"""Importing diffusers without what this project never uses: more than half of the seconds before the first image.

What is left out: the architectures that ``diffusers.models``' packages import together as soon as one is asked for;
transformers, which diffusers reads for quantisers and single-file loading; torch._dynamo, which it imports to mark
functions for torch.compile. diffusers has fallbacks if the latter two are missing. Only modules that are imported
inside ``lean_imports`` are affected; transformers itself, and all of diffusers' pipelines, work as usual afterwards.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

import torch

PACKAGES = ("autoencoders", "controlnets", "transformers", "unets")


class _LeanPackage(ModuleType):
    """A package whose __init__ runs at the first use of a name that no imported submodule has given it."""

    def __getattr__(self, name: str) -> Any:
        # Python itself asks for dunder names.
        if name.startswith("__") or "_filled" in self.__dict__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self._filled = True
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _unmarked(function: Any = None, *args: Any, **kwargs: Any) -> Any:
    """In the place of torch.compiler.disable: the function as it is."""
    return function if function is not None else lambda f: f


@contextmanager
def lean_imports() -> Iterator[None]:
    """Imports of diffusers' model and scheduler modules inside are lean. What is imported already stays as it is."""
    marking, torch.compiler.disable = torch.compiler.disable, _unmarked
    try:
        with _absent("torch._dynamo"):
            # These two look transformers up to list their names, so it is hidden only after them.
            import diffusers.loaders  # noqa: F401  imported for what it does, not for its name
            import diffusers.utils.import_utils as flags

            available, flags._transformers_available = flags._transformers_available, False
            try:
                with _absent("transformers"):
                    for name in PACKAGES:
                        _install(f"diffusers.models.{name}")
                    yield
            finally:
                flags._transformers_available = available
    finally:
        torch.compiler.disable = marking


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """An import of ``name`` fails inside, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    cast(dict[str, Any], sys.modules)[name] = None  # Python's own way to say that a module cannot be imported
    try:
        yield
    finally:
        del sys.modules[name]


def _install(full: str) -> None:
    if full in sys.modules:
        return
    spec = importlib.util.find_spec(full)
    if spec is None or spec.loader is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"diffusers has no package {full}.", name=full)
    package = _LeanPackage(full)
    package.__spec__, package.__path__, package.__file__ = spec, spec.submodule_search_locations, spec.origin
    package.__package__, package.__loader__ = full, spec.loader
    sys.modules[full] = package
