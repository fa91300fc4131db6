"""Layers of many inputs and few outputs: sums over the inputs are taken in two halves, as follows from sizes alone.

Two threads can then share them, though a small minibatch has too few rows and such a layer too few columns.
"""

from .blocking import KC, SLICE, SLICED_OUTPUTS, SLICED_UNITS, SLICED_WEIGHTS
from .compiling import helper
from .parameters import is_dotted


@helper
def slice_length(n_in, n_out):
    """Inputs of a slice; the last has perhaps fewer."""
    return (n_in + 1) // 2 if is_sliced(n_in, n_out) else KC


@helper
def is_sliced(n_in, n_out):
    """Whether into two halves: of a first layer's inputs (`is_wide`), or of hidden units (`units`)."""
    of_inputs = n_in >= 2 * SLICE and n_in * n_out <= SLICED_WEIGHTS
    return n_out > 1 and (of_inputs or (n_in >= SLICED_UNITS and n_out <= SLICED_OUTPUTS))


@helper
def is_wide(n_in, n_out, batch):
    """Whether they are sums of two halves, and fewer than the weights by far."""
    sliced = n_in >= 2 * SLICE and is_sliced(n_in, n_out) and not is_dotted(1, n_in, n_out)
    return sliced and 4 * batch <= n_in
