"""Training of the smallest networks: a whole step is straight-line code, with weights and activations in registers.

There a step takes as long as its loops, calls and waits for memory. So for such a network and minibatch code is
generated in which sizes are constants: a layer's activations are one vector, of sample after sample, its weights and
biases another, and what a sum needs of them is shuffled together. Every sum has the order that it has elsewhere. The
code is compiled for each network anew, in about a second.
"""

import functools
import itertools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid, sigmoid_derivative
from .ahead import worth_fetching
from .blocking import HOST, ROWS_AHEAD, TINY_BATCH, TINY_PARAMETERS, TINY_WIDEST, TINY_WORK
from .compiling import jit
from .cuts import gradient_length
from .entry import as_matrix
from .loss import squared_error
from .matrix import Vector as Sizes
from .matrix import pointer, scalar
from .optimizer import sgd
from .parameters import is_narrow, layer_size, parameters_size
from .rowwise import delta_of_output
from .simd import INDEX, INT32, Simd, Vector, fma, minimum, where
from .tasks import reference
from .wide import slice_length


@functools.lru_cache(maxsize=1024)
def is_tiny(sizes, batch_size, itemsize):
    """Whether a network is trained so: it is small enough, and every sum is in one slice."""
    parameters, lanes = parameters_size(Sizes(sizes, len(sizes))), HOST.lanes(itemsize)
    small = parameters <= TINY_PARAMETERS and batch_size * parameters <= TINY_WORK * lanes
    small = small and batch_size <= TINY_BATCH * lanes and batch_size * max(sizes) <= TINY_WIDEST * lanes
    whole = all(slice_length(n_in, n_out) >= n_in for n_in, n_out in itertools.pairwise(sizes))
    return small and whole and gradient_length(Sizes(sizes, len(sizes)), batch_size) >= batch_size


@functools.cache
def tiny(sizes, batch):
    """The kernel for a network and minibatches of `batch` samples, of which fewer may be left in the end.

    The elements of a sample are adjacent. Arguments and what is returned are as in `train.train_safely`.
    """
    steps = _steps(sizes, batch)

    def train(before, keep, check, parameters, X, Y, order, first, last, loss, learning_rate):
        x, y = as_matrix(X, parameters), as_matrix(Y, parameters)
        if keep:
            for i in range(parameters.size):
                before[i] = parameters[i]
        loss, first, rate = reference(np.float64(loss)), reference(np.intp(first)), scalar(learning_rate, x)
        ahead = np.intp(worth_fetching(x, y, batch))
        steps(loss, first, pointer(parameters), x, y, pointer(order), last, rate, ahead)
        if check:
            for i in range(parameters.size):
                if not np.isfinite(parameters[i]):
                    loss[0] = np.nan
        return loss[0], first[0]

    return jit(train, name=f"train_{'_'.join(map(str, sizes))}_by_{batch}")


def _steps(sizes, batch):
    """An intrinsic: steps on the samples first[0] ... last-1, to loss[0] plus each minibatch's part of the mean."""

    @intrinsic
    def steps(typingctx, loss, first, parameters, x, y, order, last, rate, ahead):
        def codegen(context, builder, signature, args):
            loss, first, parameters, x, y, order, last, rate, ahead = args
            x, y = (cgutils.unpack_tuple(builder, m) for m in (x, y))
            run = Steps(builder, signature.args[2].dtype, sizes, batch, parameters, x, y, order, last, rate, ahead)
            run.emit(loss, first)
            return context.get_dummy_value()

        return types.void(loss, first, parameters, x, y, order, types.intp, rate, ahead), codegen

    return steps


class Steps:
    """Code of all steps. A layer is (n_in, n_out), its parameters a Variable, laid out as they are in memory.

    A minibatch has `batch` places for samples; in the last one, some may be empty: these have numbers that are finite,
    of which nothing comes.
    """

    def __init__(self, builder, dtype, sizes, batch, parameters, x, y, order, last, rate, ahead):
        self.builder, self.dtype, self.sizes, self.batch = builder, dtype, sizes, batch
        self.layers = list(itertools.pairwise(sizes))
        self.x, self.samples, _, self.x_stride, _ = x
        self.y, _, _, self.y_stride, _ = y
        self.order, self.last, self.rate, self.ahead = order, last, rate, ahead
        self.memory, self.parameters, start = [], [], 0
        for n_in, n_out in self.layers:
            at = builder.gep(parameters, [INDEX(start)])
            loaded = self.load(at, layer_size(n_in, n_out))
            variable = loaded.simd.variable()
            variable.set(loaded)
            self.memory.append(at)
            self.parameters.append(variable)
            start += layer_size(n_in, n_out)

    def emit(self, loss, first):
        """Steps of whole minibatches as long as there are any, then one of what is left."""
        builder = self.builder
        loop, after, end = (builder.append_basic_block(name) for name in ("steps", "rest", "end"))
        builder.branch(loop)
        builder.position_at_end(loop)
        left = builder.sub(self.last, builder.load(first))
        with builder.if_then(builder.icmp_signed("<", left, INDEX(self.batch))):
            builder.branch(after)
        self.emit_step(loss, first, INDEX(self.batch), end)
        builder.branch(loop)
        builder.position_at_end(after)
        with builder.if_then(builder.icmp_signed(">", left, INDEX(0))):
            self.emit_step(loss, first, left, end)
        builder.branch(end)
        builder.position_at_end(end)
        for variable, at, layer in zip(self.parameters, self.memory, self.layers, strict=True):
            self.store(variable.get(), at, layer_size(*layer))

    def emit_step(self, loss, first, count, end):
        """A step on the next `count` samples; or to `end`, and nothing is changed, where something is not finite."""
        builder = self.builder
        begin = builder.load(first)
        is_whole = isinstance(count, ir.Constant)
        numbers = [self.number(builder.add(begin, INDEX(s)), is_whole) for s in range(self.batch)]
        x = self.gather(self.x, self.x_stride, numbers, self.sizes[0])
        y = self.gather(self.y, self.y_stride, numbers, self.sizes[-1])
        with builder.if_then(builder.icmp_signed("!=", self.ahead, INDEX(0))):
            self.fetch(builder.add(begin, INDEX(self.batch + ROWS_AHEAD)))
        activations = [x]
        for layer, variable in zip(self.layers, self.parameters, strict=True):
            activations.append(self.forward(layer, variable.get(), activations[-1]))
        of_batch = self.mean_error(activations[-1], y, count)
        finite = builder.and_(builder.and_(self.all_finite(x), self.all_finite(y)), self.is_finite(of_batch))
        with builder.if_then(builder.not_(finite)):
            builder.branch(end)
        self.backward(activations, y, count)
        part = builder.fdiv(self.double(count), self.double(self.samples))
        builder.store(builder.fadd(builder.load(loss), builder.fmul(of_batch, part)), loss)
        builder.store(builder.add(begin, count), first)

    def forward(self, layer, parameters, below):
        """g = σ(Σ + b), the sum over the inputs in their order."""
        n_in, n_out = layer
        rows = list(itertools.product(range(self.batch), range(n_out)))
        total = None
        for i in range(n_in):
            inputs = self.pick(below, [s * n_in + i for s, _ in rows])
            weights = self.pick(parameters, [place(layer, i, j) for _, j in rows])
            total = fma(inputs, weights, 0 if total is None else total)
        return sigmoid(total + self.pick(parameters, [place(layer, n_in, j) for _, j in rows]))

    def backward(self, activations, y, count):
        """δ of all layers and the step against the gradient."""
        builder, g = self.builder, activations[-1]
        scale = builder.fdiv(ir.Constant(ir.DoubleType(), 2.0), self.errors(count))
        if self.dtype == types.float32:
            scale = builder.fptrunc(scale, ir.FloatType())
        delta = delta_of_output(g, y, g.simd.splat(scale))
        for number in reversed(range(len(self.layers))):
            layer, variable, below = self.layers[number], self.parameters[number], activations[number]
            (n_in, n_out), parameters, of_layer = layer, variable.get(), delta
            if number > 0:
                columns = list(itertools.product(range(self.batch), range(n_in)))
                total = None
                for j in range(n_out):
                    deltas = self.pick(of_layer, [s * n_out + j for s, _ in columns])
                    weights = self.pick(parameters, [place(layer, i, j) for _, i in columns])
                    total = fma(deltas, weights, 0 if total is None else total)
                delta = total * sigmoid_derivative(below)
            variable.set(self.stepped(layer, parameters, below, of_layer, count))

    def stepped(self, layer, parameters, below, delta, count):
        """The parameters after the step; a bias is the weight of an input that is always 1."""
        n_in, n_out = layer
        places = [None] * layer_size(n_in, n_out)
        for i, j in itertools.product(range(n_in + 1), range(n_out)):
            places[place(layer, i, j)] = i, j
        one, gradient = below.simd.lanes, None
        for s in range(self.batch):
            inputs = self.pick(below, [one if i == n_in else s * n_in + i for i, _ in places], below.simd.constant(1))
            deltas = self.pick(delta, [s * n_out + j for _, j in places])
            added = fma(inputs, deltas, 0 if gradient is None else gradient)
            gradient = added if gradient is None else where(self.is_within(s, INDEX(0), count), added, gradient)
        return sgd(parameters, gradient, gradient.simd.splat(self.rate))

    def mean_error(self, g, y, count):
        """`loss.mse`, for which no step waits: of both `row_parts`, of which the second of a single sample is empty."""
        builder, outputs, zero = self.builder, self.sizes[-1], ir.Constant(ir.DoubleType(), 0.0)
        wide = Simd(builder, types.float64, g.simd.lanes)
        squares = squared_error(g.simd.widened(g, wide), g.simd.widened(y, wide)).llvm

        total, half = zero, builder.lshr(builder.add(count, INDEX(1)), INDEX(1))
        for begin, end in (INDEX(0), half), (half, count):
            of_part = zero
            for j in range(outputs):
                output = zero
                for s in range(self.batch):
                    square = builder.extract_element(squares, ir.Constant(INT32, s * outputs + j))
                    output = builder.select(self.is_within(s, begin, end), builder.fadd(output, square), output)
                of_part = builder.fadd(of_part, output)
            total = builder.fadd(total, of_part)
        return builder.fdiv(total, self.errors(count))

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

    def is_within(self, s, begin, end):
        """Whether begin <= s < end."""
        compare = self.builder.icmp_signed
        return self.builder.and_(compare("<=", begin, INDEX(s)), compare("<", INDEX(s), end))

    def double(self, number):
        return self.builder.sitofp(number, ir.DoubleType())

    def errors(self, count):
        """How many errors so many samples have."""
        return self.double(self.builder.mul(count, INDEX(self.sizes[-1])))

    def number(self, position, is_there=False):
        """The number of the sample at a position of the order, or of the last where none may be there."""
        builder = self.builder
        if not is_there:
            position = minimum(builder, position, builder.sub(self.last, INDEX(1)))
        return builder.load(builder.gep(self.order, [position]))

    def fetch(self, first):
        """Begin to fetch the rows of as many samples as are in a minibatch."""
        builder, simd = self.builder, Simd(self.builder, self.dtype, 1)
        for s in range(self.batch):
            number = self.number(builder.add(first, INDEX(s)))
            for start, stride in ((self.x, self.x_stride), (self.y, self.y_stride)):
                simd.prefetch(builder.gep(start, [builder.mul(number, stride)]), written=False)

    def pick(self, vector, numbers, other=None):
        """The lanes with these numbers, of a vector followed by another."""
        simd = Simd(self.builder, self.dtype, self.lanes(len(numbers)))
        numbers = numbers + numbers[:1] * (simd.lanes - len(numbers))
        mask = ir.Constant(ir.VectorType(INT32, simd.lanes), numbers)
        return Vector(simd, self.builder.shuffle_vector(vector.llvm, (other or vector).llvm, mask))

    def lanes(self, elements):
        """Of a vector for so many elements: a power of two, 16 bytes or more."""
        return max(128 // self.dtype.bitwidth, 1 << (elements - 1).bit_length())

    def load(self, at, count):
        exact = Simd(self.builder, self.dtype, count)
        return self.pick(exact.load(at), list(range(count)))

    def store(self, vector, at, count):
        exact = Simd(self.builder, self.dtype, count)
        mask = ir.Constant(ir.VectorType(INT32, count), list(range(count)))
        exact.store(Vector(exact, self.builder.shuffle_vector(vector.llvm, vector.llvm, mask)), at)

    def all_finite(self, vector):
        """0 x is 0, -0 or NaN."""
        simd, builder = vector.simd, self.builder
        bits = builder.bitcast((vector * 0).llvm, simd.integers)
        without_sign = builder.shl(bits, ir.Constant(simd.integers, [1] * simd.lanes))
        return simd.all(builder.icmp_unsigned("==", without_sign, ir.Constant(simd.integers, [0] * simd.lanes)))

    def is_finite(self, number):
        zero = ir.Constant(number.type, 0.0)
        return self.builder.fcmp_ordered("==", self.builder.fmul(number, zero), zero)


def place(layer, i, j):
    """Where in a layer's parameters the weight of an input for an output is, or, for i = N_in, the bias."""
    n_in, n_out = layer
    return j * n_in + i if i < n_in and is_narrow(n_in, n_out) else i * n_out + j
