"""Memory of a network: its flat vectors, and the views of each layer in them."""

import itertools

import numpy as np

from .kernels.parameters import is_narrow

CACHE_LINE = 64  # bytes; a vector load that crosses two lines takes twice as long


def aligned_empty(length, dtype):
    """Vector whose first element begins a cache line."""
    dtype = np.dtype(dtype)
    memory = np.empty(length * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + length * dtype.itemsize].view(dtype)


def count_parameters(sizes):
    return sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(sizes))


def layer_views(parameters, sizes):
    """Views (W of each layer), (b of each layer) of a flat vector, which holds layer after layer as the kernels do."""
    weights, biases = [], []
    offset = 0
    for n_in, n_out in itertools.pairwise(sizes):
        end = offset + n_in * n_out
        W = parameters[offset:end]
        weights.append(W.reshape(n_out, n_in) if is_narrow(n_in, n_out) else W.reshape(n_in, n_out).T)
        biases.append(parameters[end : end + n_out])
        offset = end + n_out
    return tuple(weights), tuple(biases)
