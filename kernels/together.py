"""Training by two threads, each of which takes one half of every minibatch forward and back, with weights of its own.

For products that are too small to be shared one by one. Both threads take the same steps, against the sum of the two
halves' gradients, so that they meet once in a minibatch and hand each other nothing but a copy of a gradient. Every sum
has the order that it has for one thread.

What it costs is that cache lines go from core to core. One that another core has read is not here any more, and takes
four times as long to be written as one that another core has written. So a thread reads its own gradient where nobody
else does, and writes the next copy over the one that it has just been handed.
"""

import math

import numpy as np

from .ahead import BYTES_OF_LINES, expect_rows, worth_fetching
from .blocking import APART, CACHE_LINE, LITTLE, PATIENCE, RUN, SHARE
from .compiling import helper, internal
from .epilogue import STORE
from .loss import rows_of_part, squared_errors, sum_of
from .matrix import Vector, advance, as_float64, itemsize, padded, scalar, spaced
from .network import backward, delta_of, divide, forward_layers, gradient_length, parameters_size, whole_size
from .optimizer import step_against_sum
from .panel import copy_rows, gather
from .parallel import Crew, atomic_add, atomic_load, atomic_store, share, wait, write
from .tasks import address, outlined, reference, task_address
from .train import train_in_turn

# What the two threads tell each other, as in `parallel`: how many have come, and of each, in a line of its own, for how
# many minibatches it has its gradient, and the squared errors of its half of an even and an odd one.
COME, HALF = 0, 1
STEPS, ERRORS = 0, 1
BYTES_TOLD = 16 * CACHE_LINE
GONE = 4  # added to those that have come by one that waits no longer


def is_together(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches, with about the memory that is promised."""
    widths, parameters = Vector(sizes, len(sizes)), parameters_size(Vector(sizes, len(sizes)))
    return (
        threads > 1
        and samples >= RUN * batch_size
        and gradient_length(widths, batch_size) < batch_size
        and _size(sizes, batch_size, 4) <= 2 * parameters + 2 * batch_size * sum(sizes) + LITTLE
    )


def together_size(sizes, batch_size, itemsize, threads):
    """Elements of workspace; 0 if threads do not train so."""
    return _size(sizes, batch_size, itemsize) if is_together(sizes, batch_size, math.inf, threads) else 0


def _size(sizes, batch_size, itemsize):
    rows, parameters = rows_of_part(0, 2, batch_size)[1], parameters_size(Vector(sizes, len(sizes)))
    of_half = BYTES_OF_LINES // itemsize + padded(parameters) + whole_size(sizes, rows, itemsize, 1, gathered=True)
    return BYTES_TOLD // itemsize + 2 * of_half + 3 * stride_of(parameters, itemsize)


@helper
def stride_of(parameters, itemsize):
    """Elements from one to the next of three vectors between the halves: the gradients that are handed, and weights."""
    return padded(parameters) + APART // itemsize


@internal
def train_together(arguments, end, memory):
    """A program as `train.train_in_turn` is one, which goes on where halves are too small, or nobody comes for one."""
    result, _, _, _, _, _, _, _, workspace, _ = arguments[0]
    told, halves = address(workspace.data), reference((arguments, end))
    write(told, COME, 0, 0)
    for half in range(2):
        write(told, HALF + half, STEPS, 0)
    share(task_address(_train_half, halves), address(halves), 2, memory)
    if result[0][1] < end:
        train_in_turn(arguments, end, 0)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, parameters, X, Y, order, batch_size, rate, sizes, workspace, _ = given[0]
    told = workspace.data
    if not both_come(address(told)):
        return
    count, item = parameters_size(sizes), itemsize(told)
    stride = stride_of(count, item)
    of_half = (workspace.size - BYTES_TOLD // item - 3 * stride) // 2 // 16 * 16
    memory, weights = advance(told, BYTES_TOLD // item), parameters
    handed = advance(memory, of_half + APART // item)
    if half == 1:
        weights, memory = advance(handed, 2 * stride), advance(memory, of_half + 3 * stride)
        copy_rows(weights, 0, parameters, 0, 1, count)
    fetched = address(memory) if worth_fetching(X, Y, batch_size) else 0
    gradient, samples = advance(memory, BYTES_OF_LINES // item), (X, Y, order)
    space = advance(gradient, padded(count))
    (loss, first), steps = result[0], 0
    while first < end:
        batch = min(batch_size, end - first)
        if gradient_length(sizes, batch) >= batch:
            break
        steps += 1
        squares = half_gradient(gradient, weights, samples, first, batch, half, sizes, space, fetched)
        copy_rows(advance(handed, (half + steps) % 2 * stride), 0, gradient, 0, 1, count)
        tell(told, half, steps, squares)
        of_batch = (errors(told, 0, steps) + errors(told, 1, steps)) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break
        other = advance(handed, (half + steps + 1) % 2 * stride)
        step_against_sum(weights, gradient, other, scalar(rate, X), count)
        loss += of_batch * (batch / X.rows)
        first += batch
    if half == 0:
        result[0] = (loss, first)


@helper
def both_come(told):
    """Whether both halves have been taken; the thread that takes one waits some 10 us for another."""
    if atomic_add(told, COME, 0, 1) >= GONE:
        return False
    turns = 0
    while atomic_load(told, COME, 0) < 2:
        turns += 1
        if turns == PATIENCE:
            return atomic_add(told, COME, 0, GONE) >= 2
        wait(turns)
    return True


@helper
def tell(told, half, steps, squares):
    """Tell the other thread that one's gradient is there, and wait for its."""
    as_float64(told)[(HALF + half) * (CACHE_LINE // 8) + ERRORS + steps % 2] = squares
    atomic_store(address(told), HALF + half, STEPS, steps)
    turns = 0
    while atomic_load(address(told), HALF + 1 - half, STEPS) < steps:
        turns += 1
        wait(turns)


@helper
def errors(told, half, steps):
    """The sum of the squared errors of a half."""
    return as_float64(told)[(HALF + half) * (CACHE_LINE // 8) + ERRORS + steps % 2]


@outlined
def half_gradient(gradient, weights, samples, first, batch, half, sizes, memory, fetched):
    """The sum of the squared errors of one half of a minibatch, whose gradient is left; NaN if not all is finite."""
    X, Y, order = samples
    start, end = rows_of_part(half, 2, batch)
    count = end - start
    space, alone = divide(memory, sizes, count), Crew(1, SHARE, 0, fetched)
    x, y = spaced(space.x, count, X.columns), spaced(space.y, count, Y.columns)
    numbers = advance(order.data, first + start)
    x_finite, y_finite = gather(x, X, numbers), gather(y, Y, numbers)
    if not (x_finite and y_finite):
        return np.nan
    if fetched != 0:
        expect_rows(fetched, X, Y, order, first + batch + start, first + batch + end)
    g = forward_layers(weights, x, sizes, space, alone, 1)
    sums = as_float64(space.panels)
    squared_errors(sums, delta_of(g, space), g, y, scalar(2.0 / (batch * Y.columns), X))
    total = sum_of(sums, Y.columns)
    backward(STORE, gradient, 0.0, x, False, weights, x, sizes, space, alone, 1, count)
    return total
