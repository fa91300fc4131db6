"""Training of the smallest networks: a whole step is straight-line code, with weights and activations in registers.

There a step takes as long as its loops, calls and waits for memory. So for such a network and minibatch code is
generated in which sizes are constants: a layer's activations are one vector, of sample after sample, its weights and
biases another, and what a sum needs of them is shuffled together. Every sum has the order that it has elsewhere. The
code is compiled for each network anew, in about a second.
"""

import functools
import hashlib
import itertools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid, sigmoid_derivative
from .ahead import are_far
from .blocking import (
    DOT,
    ROWS_AHEAD,
    TINY_BATCH,
    TINY_DOT,
    TINY_PARAMETERS,
    TINY_PASS,
    TINY_PIECE,
    TINY_WIDEST,
    TINY_WORK,
)
from .compiling import jit
from .cuts import gradient_length
from .dot import in_halves
from .elementwise import delta_of_output
from .entry import as_matrix
from .host import HOST
from .loss import squared_error
from .matrix import Vector as Sizes
from .matrix import pointer, scalar
from .optimizer import sgd
from .order import as_order, next_stretch
from .parameters import is_narrow, layer_size, parameters_size
from .simd import INDEX, INT32, Simd, Vector, fma, minimum, shuffled, where
from .tasks import reference
from .wide import slice_length

DOUBLE = ir.DoubleType()


@functools.lru_cache(maxsize=1024)
def is_tiny(sizes, batch_size, itemsize):
    """Whether a network is trained so: it and its minibatches are small enough."""
    network, places = Sizes(sizes, len(sizes)), places_of(sizes, batch_size, itemsize)
    small = parameters_size(network) <= TINY_PARAMETERS and places > 0
    small = small and all(n_in <= TINY_DOT for n_in, n_out in itertools.pairwise(sizes) if n_out == 1)
    if places == batch_size:
        return small and slice_of(sizes, batch_size) == batch_size
    return small and batch_size * parameters_size(network) <= TINY_PASS


@functools.lru_cache(maxsize=1024)
def slice_of(sizes, batch):
    """Samples of a slice of the sums over a minibatch."""
    return min(batch, gradient_length(Sizes(sizes, len(sizes)), batch))


def places_of(sizes, batch, itemsize):
    """Samples for which there is code side by side: all, or those of a piece; 0 if that is too large."""
    lanes, parameters = HOST.lanes(itemsize), parameters_size(Sizes(sizes, len(sizes)))

    def fits(samples, widest):
        return samples * max(sizes) <= widest * lanes and samples * parameters <= TINY_WORK * lanes

    if batch <= TINY_BATCH and fits(batch, TINY_WIDEST):
        return batch
    if not fits(TINY_PIECE, TINY_WIDEST // 2):
        return 0
    without_rest = [n for n in range(TINY_PIECE, TINY_PIECE // 2, -1) if slice_of(sizes, batch) % n == 0]
    return without_rest[0] if without_rest else TINY_PIECE


@functools.cache
def tiny(sizes, batch):
    """The kernel for a network and minibatches of `batch` samples, of which fewer may be left in the end.

    The elements of a sample are adjacent. The sums over minibatches are in slices of `length` samples, and those over
    what is left in slices of `rest_length`, as `slice_of` says. Else arguments and what is returned are as in
    `train.train_safely`.
    """
    steps = _steps(sizes, batch)

    def train(before, keep, check, parameters, X, Y, order, first, last, loss, learning_rate, length, rest_length):
        x, y, of_samples = as_matrix(X, parameters), as_matrix(Y, parameters), as_order(order)
        if keep:
            for i in range(parameters.size):
                before[i] = parameters[i]
        loss, reached, rate = reference(np.float64(loss)), reference(np.intp(0)), scalar(learning_rate, x)
        ahead, numbers, begun = np.intp(are_far(x, y)), of_samples.numbers.data, first
        while first < last:
            begin, end = next_stretch(of_samples, begun, first, last, batch)
            reached[0] = begin
            steps(loss, reached, pointer(parameters), x, y, numbers, end, rate, length, rest_length, ahead)
            first += reached[0] - begin
            if reached[0] < end:
                break
        if check:
            for i in range(parameters.size):
                if not np.isfinite(parameters[i]):
                    loss[0] = np.nan
        return loss[0], first

    of_network = hashlib.sha256(repr((sizes, batch)).encode()).hexdigest()[:16]
    return jit(train, name=f"train_{of_network}")


def _steps(sizes, batch):
    """An intrinsic: steps on the samples first[0] ... last-1, to loss[0] plus each minibatch's part of the mean."""

    @intrinsic
    def steps(typingctx, loss, first, parameters, x, y, order, last, rate, length, rest_length, ahead):
        def codegen(context, builder, signature, args):
            loss, first, parameters, x, y, order, last, rate, *lengths, ahead = args
            x, y = (cgutils.unpack_tuple(builder, m) for m in (x, y))
            run = Steps(builder, signature.args[2].dtype, sizes, batch, parameters, x, y, order, last, rate, ahead)
            run.emit(loss, first, lengths)
            return context.get_dummy_value()

        index = types.intp
        return types.void(loss, first, parameters, x, y, order, index, rate, index, index, index), codegen

    return steps


class Steps:
    """Code of all steps. A layer is (n_in, n_out), its parameters a Variable, laid out as they are in memory.

    A minibatch is taken in pieces of so many `places` for samples. In the last piece some may be empty: these have
    numbers that are finite, of which nothing comes. What is one in Python is known when the code is generated.
    """

    def __init__(self, builder, dtype, sizes, batch, parameters, x, y, order, last, rate, ahead):
        self.builder, self.dtype, self.sizes, self.batch = builder, dtype, sizes, batch
        self.places = places_of(sizes, batch, dtype.bitwidth // 8)
        self.layers = list(itertools.pairwise(sizes))
        self.x, self.samples, _, self.x_stride, _ = x
        self.y, _, _, self.y_stride, _ = y
        self.order, self.last, self.rate, self.ahead = order, last, rate, ahead
        self.memory, self.parameters, self.gradients, start = [], [], [], 0
        for n_in, n_out in self.layers:
            at = builder.gep(parameters, [INDEX(start)])
            loaded = self.load(at, layer_size(n_in, n_out))
            self.memory.append(at)
            self.parameters.append(loaded.simd.variable())
            self.parameters[-1].set(loaded)
            self.gradients.append(loaded.simd.variable())
            start += layer_size(n_in, n_out)
        self.sums = self.gradients  # of a slice
        if slice_of(sizes, batch) < batch:
            self.sums = [gradient.simd.variable() for gradient in self.gradients]
        # The sum of the squared errors of each of `row_parts`, of which the second of a single sample is empty.
        self.squares = [[cgutils.alloca_once(builder, DOUBLE) for _ in range(sizes[-1])] for _ in range(2)]
        self.finite = cgutils.alloca_once(builder, cgutils.bool_t)

    def emit(self, loss, first, lengths):
        """Step after step, until all samples have been taken or something is not finite."""
        builder = self.builder
        loop, end = builder.append_basic_block("steps"), builder.append_basic_block("end")
        builder.branch(loop)
        builder.position_at_end(loop)
        begin = builder.load(first)
        left = builder.sub(self.last, begin)
        with builder.if_then(builder.icmp_signed("<=", left, INDEX(0))):
            builder.branch(end)
        count = minimum(builder, left, INDEX(self.batch))
        for gradient in self.gradients:  # added to -0.0, the first slice stays as it is
            gradient.set(gradient.simd.constant(0.0 if self.sums is self.gradients else -0.0))
        for square in itertools.chain(*self.squares):
            builder.store(ir.Constant(DOUBLE, 0.0), square)
        builder.store(cgutils.true_bit, self.finite)
        is_whole = builder.icmp_signed("==", count, INDEX(self.batch))
        self.emit_minibatch(begin, count, is_whole, builder.select(is_whole, *lengths))
        of_batch = self.mean_error(count)
        with builder.if_then(builder.not_(builder.and_(builder.load(self.finite), self.is_finite(of_batch)))):
            builder.branch(end)
        for variable, gradient in zip(self.parameters, self.gradients, strict=True):
            variable.set(sgd(variable.get(), gradient.get(), gradient.simd.splat(self.rate)))
        part = builder.fdiv(self.double(count), self.double(self.samples))
        builder.store(builder.fadd(builder.load(loss), builder.fmul(of_batch, part)), loss)
        builder.store(builder.add(begin, count), first)
        builder.branch(loop)
        builder.position_at_end(end)
        for variable, at, layer in zip(self.parameters, self.memory, self.layers, strict=True):
            self.store(variable.get(), at, layer_size(*layer))

    def emit_minibatch(self, begin, count, is_whole, length):
        """The gradients and squared errors of a minibatch of `count` samples."""
        builder = self.builder
        if self.places == self.batch:
            with builder.if_else(is_whole) as (whole, rest):
                with whole:
                    self.emit_piece(begin, 0, self.batch, self.batch)
                with rest:
                    self.emit_piece(begin, 0, count, count)
        else:
            self.emit_runs(begin, count, length)

    def emit_runs(self, begin, count, length):
        """Runs of samples, each within one slice of `length` and one half of a minibatch."""
        builder, half = self.builder, self.half(count)
        loop, end_of_loop = builder.append_basic_block("runs"), builder.append_basic_block("end_of_runs")
        at = cgutils.alloca_once_value(builder, INDEX(0))
        builder.branch(loop)
        builder.position_at_end(loop)
        start = builder.load(at)
        done_of_slice = builder.urem(start, length)
        end = builder.select(builder.icmp_signed("<", start, half), half, count)
        end = minimum(builder, end, builder.add(start, builder.sub(length, done_of_slice)))
        if self.sums is not self.gradients:
            with builder.if_then(builder.icmp_signed("==", done_of_slice, INDEX(0))):
                for sum in self.sums:
                    sum.set(sum.simd.constant(0))
        self.emit_pieces(begin, start, end, count)
        is_last = builder.icmp_signed("==", end, count)
        if self.sums is not self.gradients:
            with builder.if_then(builder.or_(is_last, builder.icmp_signed("==", builder.urem(end, length), INDEX(0)))):
                for gradient, sum in zip(self.gradients, self.sums, strict=True):
                    gradient.set(gradient.get() + sum.get())
        with builder.if_then(builder.icmp_signed("==", end, half)):
            for first, second in zip(*self.squares, strict=True):
                builder.store(builder.load(second), first)
                builder.store(ir.Constant(DOUBLE, 0.0), second)
        builder.store(end, at)
        builder.cbranch(is_last, end_of_loop, loop)
        builder.position_at_end(end_of_loop)

    def emit_pieces(self, begin, start, end, count):
        """The samples `start` to `end` of a minibatch."""
        builder = self.builder
        whole = builder.sub(end, builder.urem(builder.sub(end, start), INDEX(self.places)))
        with cgutils.for_range_slice(builder, start, whole, INDEX(self.places)) as (done, _):
            self.emit_piece(begin, done, self.places, count)
        with builder.if_then(builder.icmp_signed("<", whole, end)):
            self.emit_piece(begin, whole, builder.sub(end, whole), count)

    def emit_piece(self, begin, done, some, count):
        """The next `some` of `count` samples that begin at a position of the order, of which some are `done`."""
        builder = self.builder
        at = builder.add(begin, self.number(done))
        rows = [self.row(builder.add(at, INDEX(s)), isinstance(some, int)) for s in range(self.places)]
        x = self.gather(self.x, self.x_stride, rows, self.sizes[0])
        y = self.gather(self.y, self.y_stride, rows, self.sizes[-1])
        with builder.if_then(builder.icmp_signed("!=", self.ahead, INDEX(0))):
            self.fetch(builder.add(at, INDEX(self.places + ROWS_AHEAD)))
        finite = builder.and_(self.all_finite(x), self.all_finite(y))
        builder.store(builder.and_(builder.load(self.finite), finite), self.finite)
        activations = [x]
        for layer, variable in zip(self.layers, self.parameters, strict=True):
            activations.append(self.forward(layer, variable.get(), activations[-1]))
        self.add_squares(activations[-1], y, some, count)
        self.backward(activations, y, some, count)

    def forward(self, layer, parameters, below):
        """g = σ(Σ + b), the sum over the inputs in the order that it has elsewhere."""
        n_in, n_out = layer
        at_once, length = DOT if n_out == 1 else 1, slice_length(n_in, n_out)

        def of_slice(start):
            inputs = range(start, min(start + length, n_in))
            return self.weighted(below, n_in, inputs, parameters, n_out, lambda i, j: place(layer, i, j), at_once)

        total, *others = map(of_slice, range(0, n_in, length))
        total = sum(others, total)
        return sigmoid(total + self.pick(parameters, [place(layer, n_in, j) for j in range(n_out)] * self.places))

    def weighted(self, values, n, terms, parameters, columns, at, at_once=1):
        """Σ over p in `terms` of values[s, p] parameters[at(p, j)], for all samples s and j < columns; p < n.

        So many sums `at_once`, each of terms in their order, are added in halves.
        """
        lanes, totals = list(itertools.product(range(self.places), range(columns))), [0] * min(at_once, len(terms))
        for p in terms:
            of_samples = self.pick(values, [s * n + p for s, _ in lanes])
            weights = self.pick(parameters, [at(p, j) for _, j in lanes])
            totals[p % at_once] = fma(of_samples, weights, totals[p % at_once])
        return in_halves(totals)

    def backward(self, activations, y, some, count):
        """δ of all layers, and what they add to the gradient."""
        builder, g = self.builder, activations[-1]
        scale = builder.fdiv(ir.Constant(DOUBLE, 2.0), self.errors(count))
        if self.dtype == types.float32:
            scale = builder.fptrunc(scale, ir.FloatType())
        delta = delta_of_output(g, y, g.simd.splat(scale))
        for number in reversed(range(len(self.layers))):
            layer, parameters, below = self.layers[number], self.parameters[number].get(), activations[number]
            (n_in, n_out), of_layer = layer, delta
            if number > 0:
                outputs = range(n_out)
                total = self.weighted(
                    of_layer, n_out, outputs, parameters, n_in, lambda j, i, layer=layer: place(layer, i, j)
                )
                delta = total * sigmoid_derivative(below)
            self.add_gradient(layer, self.sums[number], below, of_layer, some)

    def add_gradient(self, layer, sum, below, delta, some):
        """Σ over the samples, in their order; a bias is the weight of an input that is always 1."""
        n_in, n_out = layer
        parameters = [None] * layer_size(n_in, n_out)
        for i, j in itertools.product(range(n_in + 1), range(n_out)):
            parameters[place(layer, i, j)] = i, j
        one = below.simd.lanes
        for s in range(self.places):
            inputs = [one if i == n_in else s * n_in + i for i, _ in parameters]
            deltas = self.pick(delta, [s * n_out + j for _, j in parameters])
            total = fma(self.pick(below, inputs, below.simd.constant(1)), deltas, sum.get())
            is_there = self.less(s, some)
            sum.set(total if is_there is True else where(is_there, total, sum.get()))

    def add_squares(self, g, y, some, count):
        """To the sums of `loss.mse`, for which no step waits."""
        builder, outputs = self.builder, self.sizes[-1]
        wide = Simd(builder, types.float64, g.simd.lanes)
        squares = squared_error(g.simd.widened(g, wide), g.simd.widened(y, wide)).llvm
        for s, j in itertools.product(range(self.places), range(outputs)):
            square, is_there = builder.extract_element(squares, ir.Constant(INT32, s * outputs + j)), self.less(s, some)
            if self.places < self.batch:  # those of the half that this run is of
                self.add_where(is_there, square, self.squares[1][j])
                continue
            is_first = self.less(s, self.half(count))
            for part, is_in_part in zip(self.squares, (is_first, self.negated(is_first)), strict=True):
                self.add_where(self.both(is_there, is_in_part), square, part[j])

    def half(self, count):
        """The larger."""
        if isinstance(count, int):
            return (count + 1) // 2
        return self.builder.lshr(self.builder.add(count, INDEX(1)), INDEX(1))

    def mean_error(self, count):
        """𝓛 of so many samples, from the sums."""
        builder, zero = self.builder, ir.Constant(DOUBLE, 0.0)
        parts = [functools.reduce(builder.fadd, map(builder.load, part), zero) for part in self.squares]
        return builder.fdiv(functools.reduce(builder.fadd, parts, zero), self.errors(count))

    def gather(self, start, stride, numbers, columns):
        """Rows with these numbers, one behind the other; 0 behind the last."""
        builder, lanes = self.builder, self.lanes(len(numbers) * columns)
        simd = Simd(builder, self.dtype, lanes)
        value = simd.constant(0).llvm
        for s, number in enumerate(numbers):
            row = builder.gep(start, [builder.mul(number, stride)])
            for j in range(columns):
                element = builder.load(builder.gep(row, [INDEX(j)]))
                value = builder.insert_element(value, element, ir.Constant(INT32, s * columns + j))
        return Vector(simd, value)

    def number(self, number):
        """As one of LLVM."""
        return INDEX(number) if isinstance(number, int) else number

    def less(self, a, b):
        """Whether a < b, as a Python Boolean where that is known."""
        if isinstance(a, int) and isinstance(b, int):
            return a < b
        return self.builder.icmp_signed("<", self.number(a), self.number(b))

    def negated(self, truth):
        return not truth if isinstance(truth, bool) else self.builder.not_(truth)

    def both(self, a, b):
        if isinstance(a, bool):
            return b if a else False
        return self.both(b, a) if isinstance(b, bool) else self.builder.and_(a, b)

    def add_where(self, truth, term, to):
        """Add a term, or 0, to a sum that is not negative."""
        builder = self.builder
        if truth is not False:
            term = term if truth is True else builder.select(truth, term, ir.Constant(DOUBLE, 0.0))
            builder.store(builder.fadd(builder.load(to), term), to)

    def double(self, number):
        return self.builder.sitofp(self.number(number), DOUBLE)

    def errors(self, count):
        """How many errors so many samples have."""
        return self.double(self.builder.mul(self.number(count), INDEX(self.sizes[-1])))

    def row(self, position, is_there=False):
        """The number of the sample at a position of the order, or of the last where none may be there."""
        builder = self.builder
        if not is_there:
            position = minimum(builder, position, builder.sub(self.last, INDEX(1)))
        return builder.load(builder.gep(self.order, [position]))

    def fetch(self, first):
        """Begin to fetch the rows of as many samples as are in a piece."""
        builder, simd = self.builder, Simd(self.builder, self.dtype, 1)
        for s in range(self.places):
            number = self.row(builder.add(first, INDEX(s)))
            for start, stride, columns in (
                (self.x, self.x_stride, self.sizes[0]),
                (self.y, self.y_stride, self.sizes[-1]),
            ):
                row = builder.gep(start, [builder.mul(number, stride)])
                for end in sorted({0, columns - 1}):  # which may be in two cache lines
                    simd.prefetch(builder.gep(row, [INDEX(end)]), written=False, far=True)

    def pick(self, vector, numbers, other=None):
        """The lanes with these numbers, of a vector followed by another."""
        padding = numbers[:1] * (self.lanes(len(numbers)) - len(numbers))
        return shuffled(vector, other or vector, numbers + padding)

    def lanes(self, elements):
        """Of a vector for so many elements: a power of two, 16 bytes or more."""
        return max(128 // self.dtype.bitwidth, 1 << (elements - 1).bit_length())

    def load(self, at, count):
        exact = Simd(self.builder, self.dtype, count)
        return self.pick(exact.load(at), list(range(count)))

    def store(self, vector, at, count):
        exact = shuffled(vector, vector, range(count))
        exact.simd.store(exact, at)

    def all_finite(self, vector):
        """0 x is 0, -0 or NaN."""
        return vector.simd.all_zero(self.builder.bitcast((vector * 0).llvm, vector.simd.integers))

    def is_finite(self, number):
        zero = ir.Constant(number.type, 0.0)
        return self.builder.fcmp_ordered("==", self.builder.fmul(number, zero), zero)


def place(layer, i, j):
    """Where in a layer's parameters the weight of an input for an output is, or, for i = N_in, the bias."""
    n_in, n_out = layer
    return j * n_in + i if i < n_in and is_narrow(n_in, n_out) else i * n_out + j
