"""What `Network.gradients` returns."""

import functools
from dataclasses import dataclass, field

import numpy as np

from ._memory import layer_views


@dataclass(frozen=True)
class Gradients:
    """The loss of a batch and its derivatives, as `Network.gradients` returns them.

    Attributes
    ----------
    loss : float
        𝓛 of the batch.
    parameters : ndarray, (n_parameters,)
        ∂𝓛/∂parameters, laid out as `Network.parameters`.
    weights, biases : tuple of ndarray
        Views of `parameters`: ∇W of shape (N_l, N_{l-1}) and ∇b of shape (N_l,) of each layer.
    inputs : ndarray, (batch, N_0), or None
        ∂𝓛/∂X, where it was asked for.
    """

    loss: float
    parameters: np.ndarray
    inputs: np.ndarray | None
    _sizes: tuple[int, ...] = field(repr=False)

    @functools.cached_property
    def _views(self):
        return layer_views(self.parameters, self._sizes)

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        return self._views[0]

    @property
    def biases(self) -> tuple[np.ndarray, ...]:
        return self._views[1]
