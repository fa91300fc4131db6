"""The kernels of a network for callers from Python, compiled once a dtype.

Numba compiles a function anew for every layout of an array, and for a read-only one. So here a matrix comes as its
`place`: five integers, the same for all. The other arguments are as in `network`, a team as its two numbers.
"""

from . import network, train
from .compiling import jit
from .matrix import Matrix, pointer_at
from .parallel import Team


def place(array):
    """Address, rows, columns and strides of a 2-D NumPy array of whole-element strides; it must outlive them."""
    item = array.itemsize
    return array.ctypes.data, *array.shape, array.strides[0] // item, array.strides[1] // item


@jit(inline=True)
def _matrix(place, like):
    address, rows, columns, row_stride, column_stride = place
    return Matrix(pointer_at(address, like), rows, columns, row_stride, column_stride)


@jit
def predict(g, parameters, x, batch_size, sizes, workspace, threads, grain):
    g, x = _matrix(g, parameters), _matrix(x, parameters)
    network.predict(g, parameters, x, batch_size, sizes, workspace, Team(threads, grain))


@jit
def mean_loss(parameters, x, y, batch_size, sizes, workspace, threads, grain):
    x, y = _matrix(x, parameters), _matrix(y, parameters)
    return network.mean_loss(parameters, x, y, batch_size, sizes, workspace, Team(threads, grain))


@jit
def gradients(gradient, grad_x, with_grad_x, parameters, x, y, sizes, workspace, threads, grain):
    grad_x, x, y = _matrix(grad_x, parameters), _matrix(x, parameters), _matrix(y, parameters)
    team = Team(threads, grain)
    return network.gradients(gradient, grad_x, with_grad_x, parameters, x, y, sizes, workspace, team)


@jit
def train_minibatches(
    parameters, X, Y, order, first, last, loss, batch_size, learning_rate, sizes, workspace, threads, grain
):
    X, Y = _matrix(X, parameters), _matrix(Y, parameters)
    team = Team(threads, grain)
    return train.train_minibatches(
        parameters, X, Y, order, first, last, loss, batch_size, learning_rate, sizes, workspace, team
    )
