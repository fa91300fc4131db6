"""Parameters as they are stored while many minibatches are trained: large weights in panels, as products take them.

Rows of a large Wᵀ lie so far apart that each row of a panel, a few columns of all rows, is on another page, and all are
in few sets of a cache. So products copy a panel before they use it: the forward of every minibatch all weights. In
panels they are read, and updated, where they are; only δ of the layer below takes their transpose, and copies it.
"""

from .blocking import COPY, FAR, NEAR_ROWS
from .compiling import helper, internal
from .host import HOST
from .matrix import (
    IN_PANELS,
    Matrix,
    advance,
    block,
    is_in_panels,
    itemsize,
    padded,
    panel_block,
    row_major,
    transposed,
)
from .panel import copy_either
from .parallel import share, tasks_for
from .parameters import layer_parameters, layer_size
from .tasks import ONE, address, outlined, reference, task_address

PANEL_BYTES = HOST.vectors * HOST.vector_bytes  # of a row of a panel


@helper
def lies_in_panels(n_in, n_out, itemsize):
    """Whether a layer's Wᵀ does, if `in_panels`: it is large, and its rows are not near each other."""
    return n_in * n_out > FAR and n_out * itemsize > NEAR_ROWS


@helper
def stored_parameters(parameters, n_in, n_out, in_panels):
    """`layer_parameters` as they are stored."""
    size = itemsize(parameters)
    if in_panels == 0 or not lies_in_panels(n_in, n_out, size):
        return layer_parameters(parameters, n_in, n_out)
    nr = PANEL_BYTES // size
    WT = Matrix(parameters, n_in, n_out, nr, IN_PANELS + n_in * nr)
    return transposed(WT), row_major(advance(parameters, whole_panels(n_in, n_out, size)), 1, n_out)


@helper
def whole_panels(n_in, n_out, itemsize):
    """Elements of the panels of a layer."""
    nr = PANEL_BYTES // itemsize
    return n_in * ((n_out + nr - 1) // nr * nr)


@helper
def stored_size(n_in, n_out, in_panels, itemsize):
    """Elements from a layer's parameters to the next layer's, which begin with a cache line if `in_panels`."""
    if in_panels == 0:
        return layer_size(n_in, n_out)
    weights = whole_panels(n_in, n_out, itemsize) if lies_in_panels(n_in, n_out, itemsize) else n_in * n_out
    return padded(weights + n_out)


@helper
def all_stored_size(sizes, in_panels, itemsize):
    total = 0
    for layer in range(1, sizes.size):
        total += stored_size(sizes.data[layer - 1], sizes.data[layer], in_panels, itemsize)
    return total


@outlined
def store(stored, parameters, sizes, back, team) -> None:
    """Copy all parameters to the memory `stored`, in panels, or `back` from there."""
    for layer in range(1, sizes.size):
        n_in, n_out = sizes.data[layer - 1], sizes.data[layer]
        (W, b), (W_stored, b_stored) = (
            layer_parameters(parameters, n_in, n_out),
            stored_parameters(stored, n_in, n_out, ONE),
        )
        parts = tasks_for(COPY * n_in * n_out, team)
        arguments = reference((transposed(W_stored), transposed(W), back, parts))
        share(task_address(_store, arguments), address(arguments), parts, team.memory)
        copy_either(b_stored, b, back)
        parameters = advance(parameters, layer_size(n_in, n_out))
        stored = advance(stored, stored_size(n_in, n_out, ONE, itemsize(stored)))


@internal
def _store(arguments, task, _):
    """One task's share of the rows of a Wᵀ, panel by panel."""
    stored, plain, back, parts = arguments[0]
    first = task * plain.rows // parts
    m = (task + 1) * plain.rows // parts - first
    width = stored.row_stride if is_in_panels(stored) else plain.columns
    for j in range(0, plain.columns, width):
        n = min(width, plain.columns - j)
        copy_either(panel_block(stored, first, j, m, n), block(plain, first, j, m, n), back)
