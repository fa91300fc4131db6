"""Training by threads each of which takes some samples of a minibatch forward and back, and then updates some weights.

For products that are too small to be shared one by one: so threads meet twice in a minibatch, and hand each other half
of the activations and half of the weights. Every sum has the order that it has for one thread.
"""

import math
from collections import namedtuple

import numpy as np

from .ahead import NOTHING, expect_rows, worth_fetching
from .blocking import RUN, SHARE, TOGETHER
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
    shards_of,
)
from .pace import run_by_the_quicker
from .panel import gather
from .parallel import JOB, THREADS, Crew, read, share
from .tasks import ONE, ZERO, address, reference, task_address
from .train import train_in_turn

AHEAD = len(NOTHING) * 8  # bytes for what is expected

Parts = namedtuple("Parts", "number memory size fetched")
"""How many threads take a part each; the memory of the parts, of what size each; whether the next rows are fetched."""


def is_together(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches: if there is enough to do, and memory as promised for it."""
    parameters = parameters_size(Vector(sizes, len(sizes)))
    enough = 3 * batch_size * parameters >= TOGETHER and samples >= RUN * batch_size
    return (
        enough
        and parts_of(Vector(sizes, len(sizes)), batch_size, threads) > 1
        and _size(sizes, batch_size, 4, threads) <= 2 * parameters + 2 * batch_size * sum(sizes)
    )


@helper
def parts_of(sizes, batch, threads):
    """Into how many parts a minibatch is cut: 1 where its products, or shards, are shared."""
    largest = 0
    for layer in range(1, sizes.size):
        largest = max(largest, sizes.data[layer - 1] * sizes.data[layer])
    if batch * largest >= 2 * SHARE or shards_of(sizes, batch) > 1:
        return 1
    return min(threads, row_parts(batch, sizes.data[sizes.size - 1]))


def together_size(sizes, batch_size, itemsize, threads):
    """Elements of workspace; 0 if threads do not train so."""
    return _size(sizes, batch_size, itemsize, threads) if is_together(sizes, batch_size, math.inf, threads) else 0


def _size(sizes, batch_size, itemsize, threads):
    parts = parts_of(Vector(sizes, len(sizes)), batch_size, threads)
    activations, x, y = extents(Vector(sizes, len(sizes)), batch_size, itemsize)
    of_part = AHEAD // itemsize + padded(products_size(sizes, batch_size, itemsize, 1))
    return 2 * activations + x + y + losses_size(batch_size, int(sizes[-1]), itemsize) + parts * of_part


@helper
def losses_size(batch, outputs, itemsize):
    """Elements for as many float64 as there are outputs, up to a whole cache line, for each of the `row_parts`."""
    return row_parts(batch, outputs) * padded(outputs) * 8 // itemsize


@internal
def train_together(arguments, end, memory):
    """A program as `train.train_in_turn` is one, for samples of an `order` only."""
    result, pace, _, _, _, _, batch_size, _, _, _, _ = arguments[0]
    alone, together = task_address(train_in_turn, arguments), task_address(_train_together, arguments)
    run_by_the_quicker(alone, together, address(arguments), pace, result, end, batch_size, memory)


@internal
def _train_together(arguments, end, memory):
    """Minibatch after minibatch, by a crew."""
    result, _, parameters, X, Y, order, batch_size, rate, sizes, workspace, _ = arguments[0]
    finite, (loss, first) = reference(ONE), result[0]
    while first < end:
        batch = min(batch_size, end - first)
        space = divide(workspace.data, sizes, batch)
        own = advance(space.panels, losses_size(batch, Y.columns, itemsize(X.data)))
        left = workspace.size - (address(own) - address(workspace.data)) // itemsize(X.data)
        number = parts_of(sizes, batch, read(memory, JOB, THREADS))
        parts = Parts(number, own, left // number // 16 * 16, np.intp(worth_fetching(X, Y, batch_size)))
        arguments = reference((finite, (X, Y, order, first), space, parts, parameters, rate, sizes))
        share(task_address(_forward_and_back, arguments), address(arguments), number, memory)
        of_batch = mean_of_squares(as_float64(space.panels), batch, Y.columns)
        if finite[0] == 0 or not np.isfinite(of_batch):
            break
        share(task_address(_update, arguments), address(arguments), number, memory)
        loss += of_batch * (batch / X.rows)
        first += batch
    result[0] = (loss, first)


@helper
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
def part_of(space, parts, part, first):
    """The Crew of a part, which is its thread alone, and the Workspace, for rows from `first` on."""
    memory = advance(parts.memory, part * parts.size)
    panels = advance(memory, AHEAD // itemsize(memory))
    crew = Crew(1, SHARE, 0, address(memory) if parts.fetched != 0 else 0)
    return crew, Workspace(space.batch, first, space.activations, space.size, space.x, space.y, panels)


@internal
def _forward_and_back(arguments, part, _):
    """Some samples, through all layers."""
    finite, (X, Y, order, first), space, parts, parameters, rate, sizes = arguments[0]
    batch, losses = space.batch, as_float64(space.panels)
    pieces = row_parts(batch, Y.columns)
    begin, end = part * pieces // parts.number, (part + 1) * pieces // parts.number
    start, last = rows_of_part(begin, pieces, batch)[0], rows_of_part(end, pieces, batch)[0]
    team, space = part_of(space, parts, part, start)
    count = last - start
    x, y = own_rows(space.x, space, count, X.columns), own_rows(space.y, space, count, Y.columns)
    numbers = advance(order.data, first + start)
    x_finite, y_finite = gather(x, X, numbers), gather(y, Y, numbers)
    if not (x_finite and y_finite):
        finite[0] = 0
    if parts.fetched != 0:
        expect_rows(team.ahead, X, Y, order, first + batch + start, first + batch + last)
    g = forward_layers(parameters, x, sizes, space, team, 1)
    delta, scale = delta_of(g, space), scalar(2.0 / (batch * Y.columns), X)
    for piece in range(begin, end):
        i, past = rows_of_part(piece, pieces, batch)
        some, i = past - i, i - start
        sums = advance(losses, piece * padded(Y.columns))
        squared_errors(sums, rows(delta, i, some), rows(g, i, some), rows(y, i, some), scale, 1)
    backward(SGD, parameters, rate, x, False, parameters, x, sizes, space, team, 1, DELTAS, ZERO, ONE)


@internal
def _update(arguments, part, _):
    """Some weights."""
    _, (X, _, _, _), space, parts, parameters, rate, sizes = arguments[0]
    team, space = part_of(space, parts, part, 0)
    x = spaced(space.x, space.batch, X.columns)
    backward(SGD, parameters, rate, x, False, parameters, x, sizes, space, team, 1, GRADIENTS, part, parts.number)
