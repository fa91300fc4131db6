"""Losses, each a value beside its gradient with respect to the network's output.

g and y are arrays (batch, N) with any strides. The 1/batch of the mean over the minibatch is part of the
gradient, so every sum over the batch further down is a mean.
"""

import numpy as np

from .compiling import jit
from .matrix import get, matrix, put, scalar


@jit(inline=True)
def mse(g, y):
    """𝓛 = 1/(batch N) Σ (g - y)², summed in float64 over the outputs of each sample, then over the samples."""
    g, y = matrix(g), matrix(y)
    total = 0.0
    for i in range(g.rows):
        sample = 0.0
        for j in range(g.columns):
            difference = np.float64(get(g, i, j)) - np.float64(get(y, i, j))
            sample += difference * difference
        total += sample
    return total / (g.rows * g.columns)


@jit(inline=True)
def mse_gradient(grad_g, g, y):
    """∇g = 2/(batch N) (g - y)."""
    grad_g, g, y = matrix(grad_g), matrix(g), matrix(y)
    scale = scalar(2.0 / (g.rows * g.columns), g)
    for i in range(g.rows):
        for j in range(g.columns):
            put(grad_g, i, j, scale * (get(g, i, j) - get(y, i, j)))
