"""Layers of many inputs and few outputs: sums over the inputs are taken in two halves, as follows from sizes alone.

Two threads can then share them, though a small minibatch has too few rows and such a layer too few columns.
"""

from .blocking import KC, SLICE, SLICED_WEIGHTS
from .compiling import helper


@helper
def slice_length(n_in, n_out):
    """Inputs of a slice; the last has perhaps fewer."""
    return (n_in + 1) // 2 if is_sliced(n_in, n_out) else KC


@helper
def is_sliced(n_in, n_out):
    """Whether into two halves."""
    return n_out > 1 and n_in >= 2 * SLICE and n_in * n_out <= SLICED_WEIGHTS


@helper
def is_wide(n_in, n_out, batch):
    """Whether they are sums of two halves, and fewer than the weights by far."""
    return is_sliced(n_in, n_out) and 4 * batch <= n_in
