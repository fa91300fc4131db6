"""Where all that is laid out in rows lies in the workspace: worked out once, in Python, and read by the kernels.

A plan holds what follows from sizes alone, in lines of eight numbers: two for the network, then two for each layer.
When the kernels worked that out, and single samples were in one program with many, the first fit on a machine took 1.35
times as long.

Where two threads train together it is three such tables: that of one thread, which trains what is left, and those of
both halves of a minibatch, each with weights of its own; but those of a first layer that they divide are in one place,
unless their sums are dot products.
A page lies between the memory of one and of the other: processors fetch what lies behind what they read, up to the end
of its page. Without, a step takes 1.03 times as long on 64-64-10 by 32, 1.1 times on 784-30-10 by 10. A quarter of one
where each has half of the units, 1.01 times: with whole ones 64-64-10 by 32 would take more memory than is promised.
"""

import functools
import itertools

import numpy as np

from .ahead import BYTES_OF_LINES
from .blocking import APART_PARAMETERS, APART_SAMPLES, CACHE_LINE, CLASHING, INPUTS_FETCHING, KC, PAGE, SAMPLES_FETCHING
from .compiling import helper
from .cuts import gradient_length, is_halved, larger_half, range_of_part
from .host import HOST
from .matrix import Vector, padded
from .pair import BYTES_TOLD
from .parameters import is_dotted, parameters_size
from .wide import inputs_of_half, is_wide, sum_length

# Of the network: how many layers; a minibatch's inputs and targets, and from row to row of them; the turns in which the
# next minibatch is fetched. Then into slices of how many samples the sums over a minibatch are cut, and those of the
# first layer's weights, the same of the last and smaller minibatch, and whether that `is_halved` as the others are;
# where is what two threads tell each other, and what is fetched ahead; how many elements behind a thread's weights and
# letters the other's lie, or behind the first of two letters the second.
LAYERS, INPUTS, X, X_STRIDE, Y, Y_STRIDE, TURNS = range(7)
LENGTH, FIRST_LENGTH, LAST_LENGTH, LAST_FIRST_LENGTH, LAST_HALVED, TOLD, AHEAD, OTHER = range(8)

# Of a layer: how many outputs; into how many slices of how many inputs its sums are cut; Wᵀ, b, W, g and δ. Then
# whether W is of fewer vectors than Wᵀ, or there is no Wᵀ; where gradients are handed over, of weights and of biases.
# With the first layer, where that is divided or units are, besides: where sums are handed over, and δ; the sums of all
# samples of a minibatch; a row of zeros; and δ of all samples, of a first layer that is divided. In the end, how many
# elements from one row of W to the next.
OUTPUTS, SLICES, SLICE_LENGTH, WT, B, W, G, DELTA = range(8)
BY_OUTPUTS, LETTER, BIAS_LETTER, HANDED, SUMS, ZEROS, DELTAS, WIDTH = range(8)


VECTOR_BYTES = HOST.vector_bytes


@helper
def whole(n, lanes):
    """n rounded up to whole vectors."""
    return (n + lanes - 1) // lanes * lanes


@helper
def weights_stride(n, lanes):
    """From one row of n weights to the next: whole vectors, and two more where caches have few places for all rows,
    since too many bits of their addresses would be the same.
    """
    stride, bytes_of_lane = whole(n, lanes), VECTOR_BYTES // lanes
    return stride + 2 * lanes if stride * bytes_of_lane % CLASHING == 0 else stride


def is_apart(sizes, samples):
    """Whether rows of activations lie apart, and each sample goes through a layer by itself."""
    few = parameters_size(Vector(sizes, len(sizes))) <= APART_PARAMETERS
    return samples == 1 or (samples <= APART_SAMPLES and few)


def row_length(apart, columns, lanes):
    """From one row to the next."""
    return whole(columns, lanes) if apart else columns


def rows_size(apart, rows, columns, lanes):
    """Elements of so many rows, of which the last ends with a whole vector."""
    return whole((rows - 1) * row_length(apart, columns, lanes) + whole(columns, lanes), lanes)


def is_in_place(columns, lanes):
    """Whether rows of δ may be written over those of g: where none reaches into the next, whose g is read later."""
    return columns % lanes == 0


def weight_extents(layer, n_in, n_out, lanes):
    """Elements of Wᵀ, b and W of a layer."""
    stride, dotted = weights_stride(n_out, lanes), is_dotted(layer, n_in, n_out)
    of_W = n_out * weights_stride(n_in, lanes) if layer > 1 or dotted else 0
    return 0 if dotted else n_in * stride, stride, of_W


def weights_size(sizes, itemsize):
    """Elements of memory for the weights, from the beginning of a cache line on."""
    lanes, layers = HOST.lanes(itemsize), enumerate(itertools.pairwise(sizes), 1)
    return padded(sum(sum(weight_extents(layer, *extents, lanes)) for layer, extents in layers))


def letter_extents(layer, n_in, n_out, lanes):
    """Elements of a letter: a layer's gradient, of Wᵀ or W, whichever is stepped, and of b."""
    of_WT, of_b, of_W = weight_extents(layer, n_in, n_out, lanes)
    return min(extent for extent in (of_WT, of_W) if extent > 0), of_b


def letters_size(sizes, itemsize, divided):
    """Elements of memory for the letters of a thread; nobody hands over what the weights of a `divided` layer take."""
    lanes, layers = HOST.lanes(itemsize), enumerate(itertools.pairwise(sizes), 1)
    extents = [letter_extents(layer, *extents, lanes) for layer, extents in layers]
    return padded(sum(map(sum, extents)) - (extents[0][0] if divided else 0))


def samples_size(sizes, samples, itemsize):
    """Elements of memory for so many samples."""
    return padded(_Samples(sizes, samples, itemsize, 0).end)


def small_size(sizes, samples, itemsize, threads=1):
    """Elements of memory for a network laid out for so many samples by one thread, or by each of several."""
    return CACHE_LINE // itemsize + threads * (weights_size(sizes, itemsize) + samples_size(sizes, samples, itemsize))


def by_units_size(sizes, batch_size, itemsize):
    """Elements of memory for a network each of whose hidden units one of two threads has."""
    return CACHE_LINE // itemsize + _ByUnits(sizes, batch_size, itemsize).end


def by_two_size(sizes, batch_size, itemsize, divided):
    """Elements of memory for a network that two threads train together, or whose first layer they divide."""
    return CACHE_LINE // itemsize + _ByTwo(sizes, batch_size, itemsize, divided).end


def plan_size(sizes, itemsize, together=False):
    """Elements that the memory of a plan would hold, for training by one thread or by two together."""
    return (3 if together else 1) * 2 * len(sizes) * CACHE_LINE // itemsize


class _Samples:
    """Where a minibatch of so many samples, and its activations, lie, in elements, and where they end.

    Rows of inputs and activations follow each other at once, unless they lie apart. Targets lie where the last δ will
    take their place. Where two threads divide the first layer, `of_x` are the extents of what one has of a minibatch,
    which are all of its samples, and there is memory for the first layer's sums and δ of these too. If `in_place`, δ of
    hidden layers is where g is, if it can be.
    """

    def __init__(self, sizes, samples, itemsize, start, of_x=None, in_place=False):
        lanes, n_out = HOST.lanes(itemsize), sizes[1]
        self.of_x = of_x or (samples, sizes[0])
        self.apart = of_x is None and is_apart(sizes, samples)
        self.x, self.end = start, start + rows_size(self.apart, *self.of_x, lanes)
        if self.apart:
            self.y, self.end = self.end, self.end + rows_size(self.apart, samples, sizes[-1], lanes)
        self.layers = []
        for columns in sizes[1:]:
            rows = rows_size(self.apart, samples, columns, lanes)
            g = delta = self.end
            if not (in_place and is_in_place(columns, lanes) and len(self.layers) < len(sizes) - 2):
                delta += rows
            self.end = delta + rows
            self.layers.append((g, delta))
        if not self.apart:
            self.y = self.layers[-1][1]
        if of_x:
            rows = rows_size(False, of_x[0], n_out, lanes)
            self.of_all = self.end, self.end + 2 * rows, self.end + rows  # sums, zeros, δ
            self.end += 2 * rows + whole(n_out, lanes)


class _ByTwo:
    """Where all lies that two threads train with, and where it ends.

    The first thread has the weights that one has who trains alone, and behind them its letters, and if the first layer
    is `divided` what it hands over of that; the second, `other` elements behind, the same but for the weights of such a
    layer. Of W of dot products, whose rows both would have a part of, it has its columns in the end.
    """

    def __init__(self, sizes, batch_size, itemsize, divided):
        lanes, lines = HOST.lanes(itemsize), BYTES_OF_LINES // itemsize
        gap = PAGE // (1 if divided else 4) // itemsize  # with a quarter, divided, 1.04 on 784-30-10 by 10
        own = larger_half(batch_size)
        self.handed = behind = weights_size(sizes, itemsize) + letters_size(sizes, itemsize, divided)
        if divided:
            behind += padded(rows_size(False, own, sizes[1], lanes))
        self.told = behind + gap
        self.ahead, self.samples, end = [], [], self.told + BYTES_TOLD // itemsize
        for half in range(2):
            begin, past = inputs_of_half(half, *sizes[:2])
            of_x = (batch_size, past - begin) if divided else None
            samples = _Samples(sizes, own, itemsize, end + lines, of_x, in_place=not divided)
            self.ahead.append(end)
            self.samples.append(samples)
            end = padded(samples.end) + gap
        self.other = end - (letter_extents(1, *sizes[:2], lanes)[0] if divided else 0)
        self.own_W = padded(self.other + behind)
        self.end = self.own_W
        if divided and is_dotted(1, *sizes[:2]):
            begin, past = inputs_of_half(1, *sizes[:2])
            self.end += padded(sizes[1] * weights_stride(past - begin, lanes))


class _ByUnits:
    """Where all lies that two threads train with who have one half of the hidden units each, and where it ends.

    Behind the weights that one has who trains alone, and what both tell each other, lie two letters; then of each
    thread what is fetched ahead, weights, a minibatch, what its units add to the outputs' sums, and a row of zeros.
    """

    def __init__(self, sizes, batch_size, itemsize):
        lanes, gap, lines = HOST.lanes(itemsize), PAGE // 4 // itemsize, BYTES_OF_LINES // itemsize
        n_in, units, n_out = sizes
        of_outputs = padded(rows_size(False, batch_size, n_out, lanes))
        self.told = weights_size(sizes, itemsize)
        self.handed = self.told + BYTES_TOLD // itemsize
        self.between = of_outputs + gap
        end = self.handed + 2 * self.between
        self.halves = []
        for half in range(2):
            first, past = range_of_part(half, 2, units)
            own = n_in, past - first, n_out
            weights = end + lines
            samples = _Samples(own, batch_size, itemsize, weights + weights_size(own, itemsize))
            sums = padded(samples.end)
            zeros = sums + of_outputs
            self.halves.append((own, samples, weights, end, (self.handed, sums, zeros)))
            self.end = padded(zeros + whole(n_out, lanes))
            end = self.end + gap


def plan_for(program, sizes, batch_size, samples, workspace):
    """The plan of a program that trains minibatches of `batch_size`, and one of what is left of all samples.

    Its memory is that of the vector `workspace`.
    """
    last = samples % batch_size
    return _plan_at(workspace.ctypes.data, _plan, tuple(sizes), batch_size, last, workspace.itemsize, program)


def with_plan(cuts, plan):
    """The numbers of `cuts`, and a plan behind them."""
    return np.concatenate((cuts, plan.ravel()))


def predict_plan(sizes, batch_size, threads, workspace):
    """A plan, with a table for each of so many threads, whose memory is that of a vector of `small_size` elements."""
    return _plan_at(workspace.ctypes.data, _predict_plan, sizes, batch_size, workspace.itemsize, threads)


@functools.lru_cache
def _plan_at(start, plan, *network):
    tables, addresses = map(np.stack, zip(*plan(*network), strict=True))
    return tables + addresses * (-(-start // CACHE_LINE) * CACHE_LINE)


@functools.lru_cache
def _plan(sizes, batch_size, last, itemsize, program):
    """Tables whose addresses are of memory that begins at 0; each with 1 wherever it has an address, elsewhere 0."""
    network, divided = (sizes, batch_size, last, itemsize), program == "train_divided_rows"
    plans = [_table(*network, _Samples(sizes, batch_size, itemsize, weights_size(sizes, itemsize)))]
    if divided or program == "train_together":
        memory = _ByTwo(sizes, batch_size, itemsize, divided)
        for half, weights, other in ((0, 0, memory.other), (1, memory.other, -memory.other)):
            shared = weights, other, memory.told, memory.ahead[half]
            of_first = (half, memory.handed, memory.own_W) if divided else None
            plans.append(_table(*network, memory.samples[half], shared, of_first))
    elif program == "train_by_units":
        memory = _ByUnits(sizes, batch_size, itemsize)
        for own, samples, weights, ahead, places in memory.halves:
            shared = weights, memory.between, memory.told, ahead
            plans.append(_table(*network, samples, shared, units=(own, places)))
    return plans


@functools.lru_cache
def _predict_plan(sizes, batch_size, itemsize, threads):
    """As `_plan`."""
    of_weights = weights_size(sizes, itemsize)
    starts = [t * (of_weights + samples_size(sizes, batch_size, itemsize)) for t in range(threads)]
    samples = [_Samples(sizes, batch_size, itemsize, start + of_weights) for start in starts]
    network = sizes, batch_size, 0, itemsize
    return [_table(*network, *memory) for memory in zip(samples, ((start, 0, 0, 0) for start in starts), strict=True)]


def _table(sizes, batch_size, last, itemsize, samples, shared=(0, 0, 0, 0), divided=None, units=None):
    """One table of a plan, for minibatches, or halves of them, that lie as `samples` says.

    `shared` says where the weights are, how far from there the other thread's, where is what two tell each other, and
    what is fetched ahead; `divided`, which half of a first layer that is divided, where the first of both threads hands
    something over, and where the second has its columns of W; `units`, the widths of a half's own network, and its
    places in the first layer's line.
    """
    lanes = HOST.lanes(itemsize)
    table = np.zeros((2 * len(sizes), CACHE_LINE // 8), np.int64)
    addresses = np.zeros_like(table)

    def put(line, first, *values):
        table[line, first : first + len(values)] = values

    def put_places(line, first, *elements):
        put(line, first, *(itemsize * place for place in elements))
        addresses[line, first : first + len(elements)] = 1

    (weights, other, told, ahead), (x_rows, inputs) = shared, samples.of_x
    put(0, LAYERS, len(sizes) - 1, inputs)
    put_places(0, X, samples.x)
    put(0, X_STRIDE, row_length(samples.apart, inputs, lanes))
    put_places(0, Y, samples.y)
    turns = turns_of_fetching((inputs, *(units[0] if units else sizes)[1:]), x_rows)
    put(0, Y_STRIDE, row_length(samples.apart, sizes[-1], lanes), turns)
    vector = Vector(sizes, len(sizes))
    for first, batch in ((LENGTH, batch_size), (LAST_LENGTH, max(last, 1))):
        length = gradient_length(vector, batch)
        put(1, first, length, KC if is_wide(*sizes[:2], batch) else length)
    wide, last_wide = (is_wide(*sizes[:2], batch) for batch in (batch_size, last))
    put(1, LAST_HALVED, last > 0 and is_halved(vector, last) and last_wide == wide)
    put_places(1, TOLD, told, ahead)
    put(1, OTHER, other)
    letter = weights + weights_size(sizes, itemsize)
    lengths = [sum_length(layer, *extents) for layer, extents in enumerate(itertools.pairwise(sizes), 1)]
    if units:
        sizes, places = units
        put_places(3, HANDED, *places)
        lengths[1] = sizes[1]
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
        of_WT, of_b, of_W = weight_extents(layer, n_in, n_out, lanes)
        length = lengths[layer - 1]
        before_b, before_W = (of_WT, of_WT + of_b) if of_WT else (of_W, 0)  # W without a Wᵀ comes first
        put(2 * layer, OUTPUTS, n_out, -(-n_in // length), length)
        places = samples.layers[layer - 1]
        put_places(2 * layer, WT, weights, weights + before_b, weights + before_W, *places)
        of_letter, of_biases = letter_extents(layer, n_in, n_out, lanes)
        put(2 * layer + 1, WIDTH, weights_stride(n_in, lanes))
        if layer == 1 and divided:
            half, handed, own_W = divided
            begin, past = inputs_of_half(half, n_in, n_out)
            if of_WT:
                put_places(2, WT, begin * weights_stride(n_out, lanes))
            elif half == 1:
                put_places(2, WT, begin)  # of the columns among those of one who trains alone
                put_places(2, W, own_W)
                put(3, WIDTH, weights_stride(past - begin, lanes))
            put_places(3, HANDED, handed, *samples.of_all)
            of_letter = 0
        put(2 * layer + 1, BY_OUTPUTS, 0 < of_W < of_WT or of_WT == 0)
        put_places(2 * layer + 1, LETTER, letter, letter + of_letter)
        weights += of_WT + of_b + of_W
        letter += of_letter + of_biases
    return table, addresses


def turns_of_fetching(sizes, samples):
    """How often the next minibatch is fetched a little in a step of many samples."""
    of_samples, turns = -(-samples // SAMPLES_FETCHING), 0
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
        of_sums = (layer > 1) + (not is_dotted(layer, n_in, n_out))
        turns += of_sums * of_samples - (n_out > 1) * (-n_in // INPUTS_FETCHING)
    return max(turns, 1)
