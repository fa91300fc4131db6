"""The kernels of a network for callers from Python, compiled once a dtype.

Numba compiles a function anew for every layout of an array, and for a read-only one. So here a matrix comes as an
`operand`: a plain array, which is the quickest to hand over, or its `place`, the same for all others. The other
arguments are as in `network`, a team as its two numbers.
"""

from numba import types

from . import divided, laid_out, minibatch, network, train
from .compiling import implements, jit
from .matrix import Matrix, matrix, pointer, pointer_at
from .parallel import Team


def operand(array):
    """What stands for a 2-D NumPy array of whole-element strides, which must outlive it."""
    return array if array.flags.carray else place(array)


def place(array):
    """Address, rows, columns and strides of an array."""
    item = array.itemsize
    return array.ctypes.data, *array.shape, array.strides[0] // item, array.strides[1] // item


def _matrix(operand, like):
    raise NotImplementedError("for compiled code")


@implements(_matrix)
def _matrix_of(operand, like):
    if isinstance(operand, types.BaseTuple):

        def from_place(operand, like):
            address, rows, columns, row_stride, column_stride = operand
            return Matrix(pointer_at(address, like), rows, columns, row_stride, column_stride)

        return from_place
    return lambda operand, like: matrix(operand)


@jit
def predict(g, parameters, x, batch_size, sizes, workspace, threads, grain):
    g, x = _matrix(g, parameters), _matrix(x, parameters)
    return network.predict(g, parameters, x, batch_size, sizes, workspace, Team(threads, grain))


@jit
def mean_loss(parameters, x, y, batch_size, sizes, workspace, threads, grain):
    x, y = _matrix(x, parameters), _matrix(y, parameters)
    return network.mean_loss(parameters, x, y, batch_size, sizes, workspace, Team(threads, grain))


@jit
def gradients(gradient, grad_x, with_grad_x, parameters, x, y, sizes, workspace, threads, grain):
    grad_x, x, y = _matrix(grad_x, parameters), _matrix(x, parameters), _matrix(y, parameters)
    team = Team(threads, grain)
    return minibatch.gradients(gradient, grad_x, with_grad_x, parameters, x, y, sizes, workspace, team)


def _training(program, together):
    """`train.train_safely` with a program, under its name."""

    def train_by(
        before,
        keep,
        check,
        pace,
        parameters,
        X,
        Y,
        order,
        first,
        last,
        loss,
        batch,
        rate,
        sizes,
        workspace,
        threads,
        grain,
    ):
        run = parameters, _matrix(X, parameters), _matrix(Y, parameters), order, first, last, loss, batch, rate
        guard, team = (before, keep, check), Team(threads, grain)
        return train.train_safely(program, together, True, guard, pointer(pace), run, sizes, workspace, team)

    return jit(train_by, name=program.py_func.__name__)


def _laid_out(together, name):
    """`laid_out.train_laid_out`, under this name."""

    def train_by(
        live,
        check,
        commit,
        pace,
        parameters,
        X,
        Y,
        order,
        first,
        last,
        loss,
        batch,
        rate,
        sizes,
        workspace,
        threads,
        grain,
    ):
        run = parameters, _matrix(X, parameters), _matrix(Y, parameters), order, first, last, loss, batch, rate
        guard, team = (live, check, commit), Team(threads, grain)
        return laid_out.train_laid_out(together, guard, pointer(pace), run, sizes, workspace, team)

    return jit(train_by, name=name)


train_in_turn = _training(train.train_in_turn, False)
train_divided = _training(divided.train_divided, True)
train_online = _laid_out(False, "train_online")
train_together = _laid_out(True, "train_together")

LAID_OUT = "train_online", "train_together"
"""Programs whose first arguments are those of `laid_out.train_laid_out`, and which take samples in an order only."""
