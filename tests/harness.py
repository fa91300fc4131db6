"""The kernels for tests: matrices go in by their place, so that one compilation serves every layout."""

import numpy as np
from numba import njit

from fastmlp import kernels
from fastmlp.kernels.entry import as_matrix, place
from fastmlp.kernels.parallel import SERIAL, Team

EAGER = Team(3, 1)
"""The team that shares even the smallest product."""


@njit
def _product(c, a, b, panels, team):
    kernels.product(as_matrix(c, panels), as_matrix(a, panels), as_matrix(b, panels), panels, team)


@njit
def _layer_forward(g, x, W, b, panels, team):
    kernels.layer_forward(
        as_matrix(g, panels), as_matrix(x, panels), as_matrix(W, panels), as_matrix(b, panels), panels, team
    )


@njit
def _layer_delta(delta_below, delta, g_below, W, panels, team):
    kernels.layer_delta(
        as_matrix(delta_below, panels),
        as_matrix(delta, panels),
        as_matrix(g_below, panels),
        as_matrix(W, panels),
        panels,
        team,
    )


@njit
def _layer_update(W, b, delta, x, learning_rate, panels, team):
    kernels.layer_update(
        as_matrix(W, panels),
        as_matrix(b, panels),
        as_matrix(delta, panels),
        as_matrix(x, panels),
        learning_rate,
        panels,
        team,
    )


def panels_for(team, *arrays):
    """Panels of exactly the documented size for products of these arrays, full of NaN."""
    longest = max((extent for array in arrays for extent in array.shape), default=0)
    dtype = arrays[0].dtype
    return np.full(kernels.panels_size(longest, longest, longest, dtype.itemsize, team.threads), np.nan, dtype)


def product(c, a, b, team=SERIAL, panels=None):
    _product(*map(place, (c, a, b)), panels_for(team, c, a, b) if panels is None else panels, team)
    return c


def layer_forward(g, x, W, b, team=SERIAL, panels=None):
    b = b[np.newaxis]
    _layer_forward(*map(place, (g, x, W, b)), panels_for(team, g, x, W) if panels is None else panels, team)
    return g


def layer_delta(delta_below, delta, g_below, W, team=SERIAL, panels=None):
    arrays = delta_below, delta, g_below, W
    _layer_delta(*map(place, arrays), panels_for(team, *arrays) if panels is None else panels, team)
    return delta_below


def layer_update(W, b, delta, x, learning_rate, team=SERIAL, panels=None):
    arrays = W, b[np.newaxis], delta, x
    _layer_update(*map(place, arrays), learning_rate, panels_for(team, *arrays) if panels is None else panels, team)


def sigmoid(x):
    """σ of a vector, by a layer of no inputs: the epilogue on sums of nothing."""
    g = np.empty((1, x.size), x.dtype)
    return layer_forward(g, np.empty((1, 0), x.dtype), np.empty((x.size, 0), x.dtype), x)[0]
