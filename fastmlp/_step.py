"""Single steps, each on a minibatch that is handed in: what one needs is worked out once for its size.

A step takes some us, so nothing here is done twice that need not be.
"""

import functools
import math
import time

import numpy as np

from . import _training
from ._checks import all_finite
from ._memory import count_parameters
from .kernels import entry
from .kernels.network import minibatch_size
from .kernels.order import order_of
from .kernels.pace import PACE
from .kernels.programs import given_sizes
from .kernels.tiny import is_tiny, slice_of


def step_size(sizes, batch_size, itemsize, threads=1):
    """Elements of memory for a Step."""
    return minibatch_size(sizes, batch_size, itemsize, threads) + count_parameters(sizes)


class Step:
    """Steps of a network on minibatches of so many samples, by a team of so many threads.

    There is code for a tiny network alone, for up to 1, 2, 4, ... samples, if the elements of theirs are `adjacent`.
    """

    def __init__(self, sizes, dtype, batch, adjacent, threads):
        self.sizes, self.dtype, self.batch, self.threads = sizes, dtype, batch, threads
        network = sizes, 1 << (batch - 1).bit_length(), dtype.itemsize
        self.network = network if adjacent and is_tiny(*network) else None
        if self.network:
            self.order, self.length = order_of(np.arange(batch, dtype=np.intp)), slice_of(sizes, batch)
        self.pace = np.array(PACE)

    @functools.cached_property
    def given_sizes(self):
        return given_sizes(self.sizes, self.dtype.itemsize, self.batch, 0, self.threads > 1)

    def __call__(self, parameters, x, y, learning_rate, refuse, memory, threads, grain):
        """Take one step and return its loss.

        `memory` is a workspace, and behind it room for the parameters, where they are kept as they were. `refuse`
        raises what is to be raised if x or y is not finite.
        """
        workspace, before = memory[: -parameters.size], memory[-parameters.size :]
        network, own_code = self.network, None
        if network:
            own_code, start = _training.OWN_CODE.of(network), time.perf_counter()
        arrays, span = (parameters, entry.operand(x), entry.operand(y)), (0, self.batch, 0.0)
        try:
            if own_code:
                lengths = self.length, self.length
                loss, done = own_code(before, True, True, *arrays, self.order, *span, learning_rate, *lengths)
            else:
                given = self.batch, learning_rate, *self.given_sizes, workspace, threads, grain
                loss, done = entry.train_in_turn(
                    before, True, True, self.pace, *arrays, _training.AS_THEY_COME, *span, *given
                )
                if network:
                    _training.OWN_CODE.trained_without(network, time.perf_counter() - start)
            if done == self.batch and not math.isnan(loss):
                return loss
            parameters[:] = before
            refuse()
        except BaseException:
            if not all_finite(parameters):
                parameters[:] = before
            raise
        raise _training.not_finite("parameters" if done == self.batch else "loss", 0, self.batch)
