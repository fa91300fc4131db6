"""Training: one minibatch step, and a run of consecutive minibatches as one call.

Arguments as in `network`.
"""

import numpy as np

from .compiling import jit
from .loss import mse
from .matrix import copy, matrix, row_major, rows
from .microkernel import SGD
from .network import backward, divide, forward

NO = np.bool_(False)  # Numba would compile `backward` once more for a Python False


@jit(inline=True)
def train_step(parameters, x, y, learning_rate, sizes, workspace, team):
    """One step of gradient descent on the minibatch x, y; returns its loss before the step.

    Where that loss is not finite, the parameters are left as they were.
    """
    x = matrix(x)
    loss = mse(forward(parameters, x, sizes, workspace, team), y)
    if np.isfinite(loss):
        backward(SGD, parameters, learning_rate, x, NO, parameters, x, y, sizes, workspace, team)
    return loss


@jit(inline=True)
def train_minibatches(parameters, X, Y, order, first, last, loss, batch_size, learning_rate, sizes, workspace, team):
    """Steps on consecutive minibatches: samples first, first+1, ... last-1, the last batch perhaps smaller.

    Sample i is row order[i] of X and Y, gathered into the workspace; or row i, where `order` is empty. Returns `loss`
    plus each minibatch's loss times its part of all samples, so that an epoch from `loss` = 0 gives their mean; and
    the sample at which it stopped: before `last` where a minibatch's loss was not finite.
    """
    X, Y = matrix(X), matrix(Y)
    while first < last:
        batch = min(batch_size, last - first)
        x, y = rows(X, first, batch), rows(Y, first, batch)
        if order.size > 0:
            _, _, batch_x, batch_y, _ = divide(workspace, sizes, batch)
            x, y = row_major(batch_x, batch, X.columns), row_major(batch_y, batch, Y.columns)
            for i in range(batch):
                copy(rows(x, i, 1), rows(X, order[first + i], 1))
                copy(rows(y, i, 1), rows(Y, order[first + i], 1))
        of_batch = train_step(parameters, x, y, learning_rate, sizes, workspace, team)
        if not np.isfinite(of_batch):
            break
        loss += of_batch * (batch / X.rows)
        first += batch
    return loss, first
