"""Training of small networks by one thread, laid out in rows of whole vectors."""

import numpy as np

from .ahead import NOTHING, expect_rows, fetch_all_in, worth_fetching
from .blocking import DOTTED, FEW_OUTPUTS, MOST_ONLINE, ONLINE, ONLINE_MUCH, ONLINE_ONE, ONLINE_SOME, PADDING
from .compiling import internal
from .cuts import PLAN, all_narrow, range_of_part, shards_of
from .layout import ALL, BACK, exchange, lay_out, layer_of, row_of, small_network, whole_vectors
from .loss import mse, row_parts
from .matrix import Vector, advance, rows, scalar
from .network import promised
from .panel import gather
from .parallel import read
from .parameters import is_dotted, parameters_size
from .plan import FIRST_LENGTH, LAST_FIRST_LENGTH, LAST_LENGTH, LENGTH, TURNS, plan_size, small_size, weights_size
from .small import delta_of_outputs, errors_of_outputs, forward_rows, step_rows
from .tasks import address, call_task, outlined, reference, task_address


def is_online(sizes, batch_size, copies=0):
    """Whether that is worth its copies, in the memory that is promised, or very little more."""
    most = promised(sizes, batch_size, copies) + PADDING
    taken = (small_size(sizes, batch_size, itemsize) + plan_size(sizes, itemsize) for itemsize in (4, 8))
    return pays_online(sizes, batch_size) and all(size <= most for size in taken)


def pays_online(sizes, batch_size, most_work=MOST_ONLINE, alone=True):
    """Whether products of so many multiply-adds at most are the quicker without tiles, `alone` or divided."""
    network = Vector(sizes, len(sizes))
    if alone and is_dotted(1, *sizes[:2]) and batch_size * sizes[0] > DOTTED and not all_narrow(network):
        return False
    work = batch_size * parameters_size(network)
    most = ONLINE_ONE if batch_size == 1 else ONLINE_SOME if work <= ONLINE else ONLINE_MUCH
    return weights_size(sizes, 4) <= most and work <= most_work and shards_of(network, batch_size) == 1


@internal
def train_online(arguments, end, _):
    """A program for samples of an `order`, with the weights that are laid out in the workspace, as `laid_out` says."""
    result, _, X, Y, order, batch_size, rate, plan, workspace, _ = arguments[0]
    loss, first = result[0]
    ahead = address(reference(NOTHING)) if worth_fetching(X, Y, batch_size) else 0
    net = small_network(plan, workspace.data, batch_size, False, ahead)
    if ahead != 0:
        fetch_all_in(ahead, read(plan, 0, TURNS), batch_size, X)
    rate, length, first_length = scalar(rate, X), read(plan, 1, LENGTH), read(plan, 1, FIRST_LENGTH)
    while first < end:
        batch = min(batch_size, end - first)
        if batch < batch_size:
            length, first_length = read(plan, 1, LAST_LENGTH), read(plan, 1, LAST_FIRST_LENGTH)
        x, y, numbers = rows(net.x, 0, batch), rows(net.y, 0, batch), advance(order.data, first)
        finite = gather(x, X, numbers)
        finite &= gather(y, Y, numbers)
        if ahead != 0:
            expect_rows(ahead, X, Y, order, first + batch, first + 2 * batch)
        forward_rows(net, batch, 1, net.layers)
        if Y.columns <= FEW_OUTPUTS:
            of_batch = mse(rows(layer_of(net, net.layers).g, 0, batch), y)
        else:
            of_batch = mean_error(net, batch)
        if not (finite and np.isfinite(of_batch)):
            break
        delta_of_outputs(net, batch, scalar(2.0 / (batch * Y.columns), X))
        step_rows(net, batch, length, first_length, rate)
        loss += of_batch * (batch / X.rows)
        first += batch
    result[0] = (loss, first)


@internal
def train_online_from_parameters(arguments, end, _):
    """`train.train_in_turn` in rows: the weights are laid out, by a plan behind the cuts, trained and copied back."""
    result, parameters, X, Y, order, batch_size, rate, _, cuts, workspace, team = arguments[0]
    plan = address(advance(cuts, PLAN))
    net = small_network(plan, parameters, batch_size, False, 0)
    # Products in turn have left anything there, up to the end of the targets.
    lay_out(net, parameters, ALL, advance(row_of(net.y, batch_size - 1), whole_vectors(net.y.columns, X.data)))
    laid_out = reference((result, parameters, X, Y, order, batch_size, rate, plan, workspace, team))
    call_task(task_address(train_online, laid_out), address(laid_out), end, 0)
    exchange(net, parameters, BACK)


@outlined
def mean_error(net, batch):
    """`loss.mse` of many samples."""
    errors, parts = 0.0, row_parts(batch)
    for part in range(parts):
        errors += errors_of_outputs(net, *range_of_part(part, parts, batch))
    return errors / (batch * net.y.columns)
