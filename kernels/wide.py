"""Layers of many inputs and few outputs: the sum over the inputs is of two halves.

Two threads can then share it, though a small minibatch has too few rows and such a layer too few columns. Where it is
cut depends on the layer alone: so the bits do not depend on who computes.
"""

from .blocking import KC, SLICE, SLICED_WEIGHTS
from .compiling import helper


@helper
def slices_of(n_in, n_out):
    """Into how many slices."""
    return 2 if n_in >= 2 * SLICE and n_in * n_out <= SLICED_WEIGHTS else 1


@helper
def slice_length(n_in, n_out):
    """Inputs of a slice; the last has perhaps fewer."""
    return (n_in + 1) // 2 if slices_of(n_in, n_out) == 2 else KC


@helper
def is_wide(n_in, n_out, batch):
    """Whether the sums are fewer than the weights by far."""
    return slices_of(n_in, n_out) == 2 and 4 * batch <= n_in
