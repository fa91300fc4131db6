"""The kernels of a network for callers from Python, compiled once a dtype.

Numba compiles a function anew for every layout of an array, and for a read-only one. So here a matrix comes as an
`operand`: a plain array, which is the quickest to hand over, or its `place`, the same for all others. The other
arguments are as in `network`, a team as its two numbers. Behind the sizes come what follows from them, as `cuts` has
it, but to predict, and how products are computed: `IN_TILES`, or, where they are quicker so, `IN_BLOCKS` or `STREAMED`.
"""

import functools

from numba import types

from . import (
    apart,
    divided,
    divided_rows,
    gemm,
    laid_out,
    logistic,
    minibatch,
    network,
    online,
    predict_rows,
    together,
    train,
    units,
)
from .blocking import RUN
from .compiling import implements, jit
from .cuts import THREADS
from .matrix import Matrix, matrix, pointer, pointer_at
from .order import as_order
from .parallel import Crew
from .tasks import task_address

kernel = functools.partial(jit, calls_many=True)
"""`jit` for all of these: another process begins to be there while the first 2 s of a first compilation pass here."""


def operand(array):
    """What stands for a 2-D NumPy array of whole-element strides, which must outlive it."""
    return array if array.flags.carray else place(array)


def place(array):
    """Address, rows, columns and strides of an array."""
    item = array.itemsize
    return array.ctypes.data, *array.shape, array.strides[0] // item, array.strides[1] // item


def as_matrix(operand, like):
    raise NotImplementedError("for compiled code")


@implements(as_matrix)
def _as_matrix(operand, like):
    if isinstance(operand, types.BaseTuple):

        def from_place(operand, like):
            address, rows, columns, row_stride, column_stride = operand
            return Matrix(pointer_at(address, like), rows, columns, row_stride, column_stride)

        return from_place
    return lambda operand, like: matrix(operand)


IN_TILES, IN_BLOCKS, STREAMED = (), (0,), (0, 0)
"""By tiles in a single task; or, if shared or large, in blocks; or, if of few rows or terms, streamed, else in blocks.

Told apart by their types, so that for a network that needs less, less is compiled.
"""


def crew_for(products, like, threads, grain):
    """A Crew of so many threads, for such products of the dtype of `like`."""
    raise NotImplementedError("for compiled code")


@implements(crew_for)
def _crew_for(products, like, threads, grain):
    if products.count == 0:
        return lambda products, like, threads, grain: Crew(threads, grain, 0, 0, 0, 0)
    function = gemm.in_blocks if products.count == 1 else gemm.streamed_or_in_blocks

    def with_others(products, like, threads, grain):
        return Crew(threads, grain, 0, 0, 0, task_address(function, gemm.any_product(pointer(like))))

    return with_others


@kernel
def predict(g, parameters, x, batch_size, sizes, products, workspace, threads, grain):
    g, x, team = as_matrix(g, parameters), as_matrix(x, parameters), crew_for(products, parameters, threads, grain)
    return network.predict(g, parameters, x, batch_size, sizes, workspace, team)


@kernel
def predict_in_rows(g, parameters, x, batch_size, work, plan, threads, grain):
    g, x, team = as_matrix(g, parameters), as_matrix(x, parameters), Crew(threads, grain, 0, 0, 0, 0)
    return predict_rows.predict_in_rows(g, parameters, x, batch_size, work, plan, team)


@kernel
def mean_loss_in_rows(losses, parameters, x, y, batch_size, work, plan, threads, grain):
    x, y, team = as_matrix(x, parameters), as_matrix(y, parameters), Crew(threads, grain, 0, 0, 0, 0)
    return predict_rows.mean_loss_in_rows(losses, parameters, x, y, batch_size, work, plan, team)


@kernel
def mean_loss(parameters, x, y, batch_size, sizes, cuts, products, workspace, threads, grain):
    x, y, team = as_matrix(x, parameters), as_matrix(y, parameters), crew_for(products, parameters, threads, grain)
    return network.mean_loss_by(parameters, x, y, batch_size, sizes, workspace, cuts[THREADS], team)


def _gradients(program, name):
    """`minibatch.gradients` by a program, under this name."""

    def gradients(gradient, grad_x, with_grad_x, parameters, x, y, sizes, cuts, products, workspace, threads, grain):
        grad_x, x, y = as_matrix(grad_x, parameters), as_matrix(x, parameters), as_matrix(y, parameters)
        team = crew_for(products, parameters, threads, grain)
        cuts = pointer(cuts)
        return minibatch.gradients_by(
            program, gradient, grad_x, with_grad_x, parameters, x, y, sizes, cuts, workspace, team
        )

    return kernel(gradients, name=name)


gradients = _gradients(minibatch.gradients_in_turn, "gradients")
gradients_of_output = _gradients(logistic.gradients, "gradients_of_output")


def _training(train, program, alone=None, paced=1, together=None, name=None):
    """`train.train_safely`, or `laid_out.train_laid_out`, with a program, under its name or another.

    It is one for two threads to train together, unless said otherwise, if there is a program for one `alone`. What is
    `paced`, `train_safely` says.

    The first three arguments are the guard of the one or the other: (before, keep, check) or (live, check, commit).
    """

    def train_by(
        guarded,
        guard,
        other_guard,
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
        cuts,
        products,
        workspace,
        threads,
        grain,
    ):
        x, y, numbers = as_matrix(X, parameters), as_matrix(Y, parameters), as_order(order)
        run = parameters, x, y, numbers, first, last, loss, batch, rate
        of_guard, team = (guarded, guard, other_guard), crew_for(products, parameters, threads, grain)
        return train(
            program, of_one, together, paced, of_guard, pointer(pace), run, sizes, pointer(cuts), workspace, team
        )

    of_one, together = alone or program, alone is not None if together is None else together
    return kernel(train_by, name=name or program.py_func.__name__)


train_in_turn = _training(train.train_safely, train.train_in_turn)
train_in_turn_or_online = _training(
    train.train_safely,
    train.train_in_turn,
    alone=online.train_online_from_parameters,
    paced=RUN,  # each begins and ends with copies
    together=False,
    name="train_in_turn_or_online",
)
train_divided = _training(train.train_safely, divided.train_divided, alone=divided.train_both_halves)
train_divided_rows = _training(laid_out.train_laid_out, divided_rows.train_divided_rows, alone=online.train_online)
train_apart = _training(laid_out.train_laid_out, apart.train_apart, paced=0)
train_online = _training(laid_out.train_laid_out, online.train_online, paced=0)
train_together = _training(laid_out.train_laid_out, together.train_together, alone=online.train_online)
train_by_units = _training(laid_out.train_laid_out, units.train_by_units, alone=online.train_online)

LAID_OUT = "train_apart", "train_online", "train_together", "train_divided_rows", "train_by_units"
"""Programs with the guard of `laid_out.train_laid_out`, a plan for `sizes`, and samples in an order only."""
