"""Reading of data sets: ``read_pairs`` finds image and mask files, ``check_pairs`` opens them, ``load_arrays`` brings them to one size."""

from train.data.pairs import check_pairs, load_arrays, read_pairs
from train.data.types import DataError, Pair

__all__ = ["DataError", "Pair", "check_pairs", "load_arrays", "read_pairs"]
