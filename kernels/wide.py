"""Layers of many inputs and few outputs: sums over the inputs are taken in two halves, as follows from sizes alone.

Two threads can then share them, though a small minibatch has too few rows and such a layer too few columns.
"""

from .blocking import DOT, KC, SLICE, SLICED_OUTPUTS, SLICED_UNITS, SLICED_WEIGHTS
from .compiling import helper
from .parameters import is_dotted


@helper
def slice_length(n_in, n_out):
    """Inputs of a slice; the last has perhaps fewer."""
    return (n_in + 1) // 2 if is_sliced(n_in, n_out) else KC


@helper
def sum_length(layer, n_in, n_out):
    """`slice_length` of any layer's sums; of dot products whole vectors of any width, or all inputs."""
    if not is_dotted(layer, n_in, n_out):
        return slice_length(n_in, n_out)
    return (slice_length(n_in, n_out) + DOT - 1) // DOT * DOT if is_sliced(n_in, n_out) else n_in


@helper
def inputs_of_half(half, n_in, n_out):
    """Where a slice of a first layer's inputs begins and ends, if it `is_wide`."""
    length = sum_length(1, n_in, n_out)
    return half * length, min((half + 1) * length, n_in)


@helper
def is_sliced(n_in, n_out):
    """Whether into two halves: of a first layer's inputs (`is_wide`), or of hidden units (`units`)."""
    of_inputs = n_in >= 2 * SLICE and n_in * n_out <= SLICED_WEIGHTS
    return n_out > 1 and (of_inputs or (n_in >= SLICED_UNITS and n_out <= SLICED_OUTPUTS))


@helper
def is_wide(n_in, n_out, batch):
    """Whether they are sums of two halves, and fewer than the weights by far."""
    sliced = n_in >= 2 * SLICE and is_sliced(n_in, n_out)
    return sliced and 4 * batch <= n_in
