"""How a network's parameters lie in their flat vector: layer after layer W, or its transpose, and b."""

from .blocking import NARROW, SLICE
from .compiling import helper
from .matrix import advance, row_major, transposed


@helper
def is_narrow(n_in, n_out):
    """Whether W is stored, not Wᵀ: its rows fill vectors, and are few enough for a tile."""
    return 1 < n_out <= NARROW and n_out < n_in


@helper
def stored_shape(n_in, n_out):
    """Rows and columns of the one of W and Wᵀ that is stored."""
    return (n_out, n_in) if is_narrow(n_in, n_out) else (n_in, n_out)


@helper
def is_dotted(layer, n_in, n_out):
    """Whether a layer's sums are dot products (`dot`): of a single output, or of the first layer's few, of many inputs.

    Other layers of many inputs are of units, which two threads may have a half of each (`units`).
    """
    return n_out == 1 or (layer == 1 and n_out <= NARROW and n_in >= 2 * SLICE)


@helper
def layer_parameters(parameters, n_in, n_out):
    """(W, b) of the layer that begins at the pointer `parameters`."""
    W = row_major(parameters, n_out, n_in) if is_narrow(n_in, n_out) else transposed(row_major(parameters, n_in, n_out))
    return W, row_major(advance(parameters, n_in * n_out), 1, n_out)


@helper
def layer_size(n_in, n_out):
    return (n_in + 1) * n_out


@helper
def parameters_size(sizes):
    total = 0
    for layer in range(1, sizes.size):
        total += layer_size(sizes.data[layer - 1], sizes.data[layer])
    return total
