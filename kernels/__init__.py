"""The arithmetic of fastmlp, for everyone's own compiled code.

Arrays in, arrays out: every function below is called from an ``@njit`` function or from Python, allocates nothing
and checks nothing. Outputs come first, then inputs, then sizes; a workspace is handed in; `team` says how many
threads may share a product, and `SERIAL` is the team of one.
"""

from .gemm import product
from .layer import (
    layer_delta,
    layer_forward,
    layer_gradient,
    layer_input_gradient,
    layer_update,
    output_delta,
)
from .loss import mse, mse_gradient
from .minibatch import gradients
from .network import forward, mean_loss, predict, workspace_size
from .packing import panels_size
from .parallel import SERIAL, Team
from .train import train_minibatches, train_step

__all__ = [
    "SERIAL",
    "Team",
    "forward",
    "gradients",
    "layer_delta",
    "layer_forward",
    "layer_gradient",
    "layer_input_gradient",
    "layer_update",
    "mean_loss",
    "mse",
    "mse_gradient",
    "output_delta",
    "panels_size",
    "predict",
    "product",
    "train_minibatches",
    "train_step",
    "workspace_size",
]
