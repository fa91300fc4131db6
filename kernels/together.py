"""Training by threads each of which takes some samples of a minibatch forward and back, and then updates some weights.

For products that are too small to be shared one by one: so threads meet twice in a minibatch, and hand each other half
of the activations and half of the weights. Every sum has the order that it has for one thread.
"""

import math
from collections import namedtuple

import numpy as np

from .ahead import BYTES_OF_LINES, expect_rows, worth_fetching
from .blocking import LITTLE, RUN, SHARE, TOGETHER
from .compiling import helper, internal
from .epilogue import SGD
from .loss import row_parts, rows_of_part, squared_errors
from .matrix import Vector, advance, as_float64, itemsize, padded, rows, scalar, spaced
from .network import (
    DELTAS,
    GRADIENTS,
    Workspace,
    backward,
    delta_of,
    divide,
    extents,
    forward_layers,
    own_rows,
    parameters_size,
    products_size,
    work,
)
from .panel import gather
from .parallel import JOB, THREADS, Crew, read, share
from .tasks import ONE, ZERO, address, outlined, reference, task_address

Minibatch = namedtuple("Minibatch", "first parts fetched")
"""Its first sample, into how many parts it is cut, and whether rows of the next are fetched."""


def is_together(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches.

    They do if there is enough to do, in products and shards that they do not share, and about the memory promised.
    """
    parameters = parameters_size(Vector(sizes, len(sizes)))
    return (
        3 * batch_size * parameters >= TOGETHER
        and samples >= RUN * batch_size
        and work(Vector(sizes, len(sizes)), batch_size, batch_size, SHARE) == 0
        and parts_of(batch_size, sizes[-1], threads) > 1
        and _size(sizes, batch_size, 4, threads) <= 2 * parameters + 2 * batch_size * sum(sizes) + LITTLE
    )


@helper
def parts_of(batch, outputs, threads):
    """Into how many parts a minibatch is cut."""
    return min(threads, row_parts(batch, outputs))


def together_size(sizes, batch_size, itemsize, threads):
    """Elements of workspace; 0 if threads do not train so."""
    return _size(sizes, batch_size, itemsize, threads) if is_together(sizes, batch_size, math.inf, threads) else 0


def _size(sizes, batch_size, itemsize, threads):
    activations, x, y = extents(Vector(sizes, len(sizes)), batch_size, itemsize)
    of_part = BYTES_OF_LINES // itemsize + padded(products_size(sizes, batch_size, itemsize, 1))
    outputs = int(sizes[-1])
    parts = parts_of(batch_size, outputs, threads) * of_part
    return 2 * activations + x + y + losses_size(batch_size, outputs, itemsize) + parts


@helper
def losses_size(batch, outputs, itemsize):
    """Elements for as many float64 as there are outputs, up to a whole cache line, for each of the `row_parts`."""
    return row_parts(batch, outputs) * padded(outputs) * 8 // itemsize


@internal
def train_together(arguments, end, memory):
    """A program as `train.train_in_turn` is one, for a crew and samples of an `order` only."""
    result, _, X, Y, _, batch_size, _, sizes, workspace, _ = arguments[0]
    finite, (loss, first) = reference(ONE), result[0]
    threads, fetched = read(memory, JOB, THREADS), np.intp(worth_fetching(X, Y, batch_size))
    while first < end:
        batch = min(batch_size, end - first)
        space, parts = divide(workspace.data, sizes, batch), parts_of(batch, Y.columns, threads)
        minibatch = reference((arguments, finite, space, Minibatch(first, parts, fetched)))
        share(task_address(_forward_and_back, minibatch), address(minibatch), parts, memory)
        of_batch = mean_of_squares(losses_of(space), batch, Y.columns)
        if finite[0] == 0 or not np.isfinite(of_batch):
            break
        share(task_address(_update, minibatch), address(minibatch), parts, memory)
        loss += of_batch * (batch / X.rows)
        first += batch
    result[0] = (loss, first)


@outlined
def mean_of_squares(losses, batch, outputs):
    """𝓛, in the bits of `mse_output_delta`."""
    total = 0.0
    for j in range(outputs):
        output = 0.0
        for part in range(row_parts(batch, outputs)):
            output += losses[part * padded(outputs) + j]
        total += output
    return total / (batch * outputs)


@helper
def losses_of(space):
    """Pointer to the sums of squared errors, of each part of the rows and each output."""
    return as_float64(space.panels)


@helper
def part_of(space, workspace, outputs, minibatch, part, first):
    """The Crew of a part, which is its thread alone, and its Workspace, for rows from `first` on."""
    memory = advance(space.panels, losses_size(space.batch, outputs, itemsize(space.panels)))
    left = workspace.size - (address(memory) - address(workspace.data)) // itemsize(memory)
    memory = advance(memory, part * (left // minibatch.parts // 16 * 16))
    panels = advance(memory, BYTES_OF_LINES // itemsize(memory))
    crew = Crew(1, SHARE, 0, address(memory) if minibatch.fetched != 0 else 0)
    return crew, Workspace(space.batch, first, space.activations, space.size, space.x, space.y, panels)


@internal
def _forward_and_back(arguments, part, _):
    """Some samples, through all layers."""
    given, finite, whole, minibatch = arguments[0]
    _, parameters, X, Y, order, _, rate, sizes, workspace, _ = given[0]
    batch, number = whole.batch, row_parts(whole.batch, Y.columns)
    begin, end = part * number // minibatch.parts, (part + 1) * number // minibatch.parts
    start, last = rows_of_part(begin, number, batch)[0], rows_of_part(end, number, batch)[0]
    team, space = part_of(whole, workspace, Y.columns, minibatch, part, start)
    count = last - start
    x, y = own_rows(space.x, space, count, X.columns), own_rows(space.y, space, count, Y.columns)
    numbers = advance(order.data, minibatch.first + start)
    x_finite, y_finite = gather(x, X, numbers), gather(y, Y, numbers)
    if not (x_finite and y_finite):
        finite[0] = 0
    if minibatch.fetched != 0:
        following = minibatch.first + batch
        expect_rows(team.ahead, X, Y, order, following + start, following + last)
    g = forward_layers(parameters, x, sizes, space, team, 1)
    delta, scale = delta_of(g, space), scalar(2.0 / (batch * Y.columns), X)
    for i in range(begin, end):
        row, past = rows_of_part(i, number, batch)
        some, row = past - row, row - start
        sums = advance(losses_of(whole), i * padded(Y.columns))
        squared_errors(sums, rows(delta, row, some), rows(g, row, some), rows(y, row, some), scale, 1)
    backward(SGD, parameters, rate, x, False, parameters, x, sizes, space, team, 1, DELTAS, ZERO, ONE)


@internal
def _update(arguments, part, _):
    """Some weights."""
    given, _, whole, minibatch = arguments[0]
    _, parameters, X, Y, _, _, rate, sizes, workspace, _ = given[0]
    team, space = part_of(whole, workspace, Y.columns, minibatch, part, 0)
    x = spaced(space.x, space.batch, X.columns)
    backward(SGD, parameters, rate, x, False, parameters, x, sizes, space, team, 1, GRADIENTS, part, minibatch.parts)
