"""Training a network whose first layer is wide, divided among threads each of which keeps its part of it.

The weights of such a layer are many, and to move them from core to core takes longer than to compute with them. So
each thread keeps those of some of the inputs, and gathers these columns of x alone. Once in a minibatch the threads
meet: each updates its weights with the minibatch before, gathers, and goes forward through its slices. The rest of the
network is left to the first thread.
"""

import math
from collections import namedtuple

import numpy as np

from .ahead import BYTES_OF_LINES, expect_rows, worth_fetching
from .blocking import CACHE_LINE, COPY, KC, SHARE
from .compiling import helper, internal
from .epilogue import BIAS_SIGMOID, SGD, STORE, finish_block
from .gemm import fused_product
from .matrix import Matrix, Vector, advance, block, itemsize, padded, row_major, row_stride, rows, spaced, transposed
from .microkernel import add_rows, columns_at_once, tile_shape
from .network import (
    backward,
    delta_of,
    divide_above,
    extents,
    forward_layers,
    layer_parameters,
    output_loss,
    products_size,
)
from .panel import gather
from .parallel import JOB, THREADS, Crew, read, share, tasks_for
from .simd import prefetch
from .tasks import ONE, address, reference, task_address
from .wide import is_divided, part_size, parts_of, parts_size, slice_length, slices_of

Parts = namedtuple("Parts", "number slices length partials memory size largest fetched")
"""The parts of a layer: how many, of how many slices of what length in all; pointers to the products of the slices, and
to the memory of the parts, of what size each; for how many samples at most; and whether the next are fetched."""


def divided_size(sizes, batch_size, itemsize, threads):
    """For a first layer that is divided, and the layers above it; 0 if it is not."""
    sizes = [int(size) for size in sizes]
    if not is_divided(sizes, batch_size, math.inf, threads):
        return 0
    activations, _, y = extents(Vector(sizes, len(sizes)), batch_size, itemsize)
    above = [1, *sizes[1:]]  # and the sums for the biases below it
    panels = products_size(above, batch_size, itemsize, threads)
    return padded(parts_size(*sizes[:2], batch_size, itemsize, threads) + 2 * activations + y + panels)


@internal
def train_divided(arguments, end, memory):
    """A program as `train.train_in_turn` is one, for a crew and samples of an `order` only."""
    result, parameters, X, Y, order, batch_size, rate, sizes, workspace, team = arguments[0]
    team = Crew(team.threads, team.grain, memory, 0)
    finite, (loss, first) = reference(ONE), result[0]
    largest = min(batch_size, end - first)
    parts = parts_for(X, Y, sizes, largest, workspace.data, memory)
    space_start = advance(parts.memory, parts.number * parts.size)
    n_out, pending = sizes.data[1], 0
    while first < end or pending > 0:
        batch = min(batch_size, end - first)
        before, space = divide_above(space_start, sizes, pending), divide_above(space_start, sizes, batch)
        delta = delta_of(spaced(before.activations, pending, n_out), before)
        samples, update = (X, Y, order, first, batch), (parameters, delta, rate)
        arguments = reference((finite, parts, samples, update))
        share(task_address(_update_and_forward, arguments), address(arguments), parts.number, memory)
        pending = 0
        y = spaced(space.y, batch, Y.columns)
        if batch == 0 or finite[0] == 0 or not gather(y, Y, advance(order.data, first)):
            break
        g = spaced(space.activations, batch, n_out)
        add_slices(g, parts, parameters, X.columns, team)
        of_batch = output_loss(forward_layers(parameters, g, sizes, space, team, 2), y, batch, sizes, space, team)
        if not np.isfinite(of_batch):
            break
        backward(SGD, parameters, rate, g, False, parameters, g, sizes, space, team, 2, KC)
        loss += of_batch * (batch / X.rows)
        first += batch
        pending = batch
    result[0] = (loss, first)


@helper
def parts_for(X, Y, sizes, largest, memory, crew_memory):
    """The Parts of the first layer, and the elements they take, from the pointer `memory` on."""
    n_in, n_out = sizes.data[0], sizes.data[1]
    slices, length = slices_of(n_in, n_out), slice_length(n_in, n_out)
    number = parts_of(slices, read(crew_memory, JOB, THREADS))
    _, nr, two = tile_shape(X)
    size = part_size(n_in, n_out, largest, number, itemsize(X.data), nr, two)
    of_parts = advance(memory, slices * largest * padded(n_out))
    fetched = np.intp(worth_fetching(X, Y, largest))
    return Parts(number, slices, length, memory, of_parts, size, largest, fetched)


@helper
def slice_product(parts, s, batch, n_out):
    """Where the product of a slice is put."""
    stride = padded(n_out)
    return Matrix(advance(parts.partials, s * parts.largest * stride), batch, n_out, stride, 1)


@internal
def _update_and_forward(arguments, part, _):
    """One part's weights, updated with the minibatch before; and with these, its slices' products of the next."""
    finite, parts, samples, (parameters, delta, rate) = arguments[0]
    X, Y, order, first, batch = samples
    n_out = delta.columns
    each = parts.slices // parts.number
    begin = part * each * parts.length
    columns = min(each * parts.length, X.columns - begin)
    expected = advance(parts.memory, part * parts.size)
    x = advance(expected, BYTES_OF_LINES // itemsize(X.data))
    panels = advance(x, padded(parts.largest * row_stride(columns, itemsize(X.data))))
    W, _ = layer_parameters(parameters, X.columns, n_out)
    W = rows(transposed(W), begin, columns)
    alone = Crew(1, SHARE, 0, address(expected) if parts.fetched != 0 else 0)
    if delta.rows > 0:
        fetch(delta)
        x_before = spaced(x, delta.rows, columns)
        fused_product(SGD, W, W, transposed(x_before), delta, rate, KC, panels, alone)
    if batch == 0:
        return
    x, of_X = spaced(x, batch, columns), block(X, 0, begin, X.rows, columns)
    if not gather(x, of_X, advance(order.data, first)):
        finite[0] = 0
    if parts.fetched != 0:
        expect_rows(alone.ahead, of_X, Y, order, first + batch, first + 2 * batch)
    for s in range(each):
        p = s * parts.length
        c, k = slice_product(parts, part * each + s, batch, n_out), min(parts.length, columns - p)
        fused_product(STORE, c, c, block(x, 0, p, batch, k), rows(W, p, k), 0.0, KC, panels, alone)


@helper
def add_slices(g, parts, parameters, n_in, team):
    """g = σ(Σ over the slices + b), by as many threads as gain from it."""
    tasks = tasks_for(COPY * parts.slices * g.rows * g.columns, team)
    b = row_major(advance(parameters, n_in * g.columns), 1, g.columns)
    arguments = reference((g, parts, b, tasks))
    share(task_address(_add_slices, arguments), address(arguments), tasks, team.memory)


@internal
def _add_slices(arguments, task, _):
    """Some rows of g; the sums are put where the first slice's product was."""
    g, parts, b, tasks = arguments[0]
    _, nr, two = tile_shape(g)
    start, end = task * g.rows // tasks, (task + 1) * g.rows // tasks
    for s in range(parts.slices):
        fetch(rows(slice_product(parts, s, g.rows, g.columns), start, end - start))
    first = slice_product(parts, 0, g.rows, g.columns)
    for i in range(start, end):
        j = 0
        while j < g.columns:
            n = columns_at_once(g.columns - j, nr, two)
            sums = advance(first.data, i * first.row_stride + j)
            add_rows(sums, sums, parts.largest * first.row_stride, n, parts.slices, KC)
            finish_block(BIAS_SIGMOID, block(g, i, j, 1, n), block(b, 0, j, 1, n), sums, 0.0, sums)
            j += n


@helper
def fetch(m):
    """Begin to fetch all of a Matrix that another core may have written, whose columns are adjacent."""
    size = itemsize(m.data)
    for i in range(m.rows):
        row = address(m.data) + i * m.row_stride * size
        for byte in range(0, m.columns * size, CACHE_LINE):
            prefetch(row + byte)
