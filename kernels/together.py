"""Training by two threads, each of which takes one half of every minibatch forward and back, with the same weights.

For products that are too small to be shared one by one. Each thread takes its samples through the layers, and tells the
other what they add to the gradient of one share of the weights; then it takes the step of the other share, against the
sum of both threads' gradients. What one tells is asked for much later, since both go from the first layer to the last:
with gradients, steps, and then forward again. The shares change hands from minibatch to minibatch: a cache line that
another core has only read takes four times as long to be written as one that it has written. The network is laid out as
one thread that trains it `online` has it; every sum has the order that it has there.
"""

import numpy as np

from .ahead import expect_rows, fetch_all_in, worth_fetching
from .blocking import PADDING, RUN
from .compiling import internal
from .cuts import is_halved
from .layout import small_network, table_of
from .loss import rows_of_part
from .matrix import Vector, advance, pointer_at, rows, scalar
from .network import promised
from .online import train_online
from .pair import Pair, both_come, both_errors, come_to, other_line, tell_errors, train_by_two
from .panel import gather
from .parallel import read, wait_until
from .plan import AHEAD, LAST_HALVED, TOLD, TURNS, plan_size, together_size
from .small import delta_below, delta_of_outputs, errors_of_outputs, forward_rows, step_share
from .tasks import outlined
from .wide import is_wide


def is_together(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches, with about the memory that is promised."""
    taken = together_size(sizes, batch_size, 4) + plan_size(sizes, 4, together=True)
    return (
        threads > 1
        and samples >= RUN * batch_size
        and is_halved(Vector(sizes, len(sizes)), batch_size)
        and not is_wide(*sizes[:2], batch_size)
        and taken <= promised(sizes, batch_size, copies=0) + PADDING
    )


@internal
def train_together(arguments, end, memory):
    _, _, _, _, _, _, _, plan, _, _ = arguments[0]
    told = read(table_of(plan, 1), 1, TOLD)
    train_by_two(_train_half, train_online, told, arguments, end, memory)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, _, X, Y, order, batch_size, rate, plan, workspace, _ = given[0]
    plan = table_of(plan, 1 + half)
    told = read(plan, 1, TOLD)
    if not both_come(told):
        return
    most = rows_of_part(0, 2, batch_size)[1]
    fetched = read(plan, 1, AHEAD) if worth_fetching(X, Y, batch_size) else 0
    if fetched != 0:
        fetch_all_in(fetched, read(plan, 0, TURNS), most, X)
    net = small_network(plan, workspace.data, most, False, fetched)
    pair, samples = Pair(pointer_at(told, workspace.data), half), (X, Y, order)
    (loss, first), number, done, layers, rate = result[0], 0, 0, net.layers, scalar(rate, X)
    while first < end:
        batch = min(batch_size, end - first)
        if batch < batch_size and read(plan, 1, LAST_HALVED) == 0:
            break
        start, past = rows_of_part(half, 2, batch)
        own, share = past - start, (half + number) % 2
        finite = take_half(net, samples, first + start, own, batch)
        errors = half_errors(net, own, batch, other_line(pair), done - layers)
        tell_errors(pair, number, errors if finite else np.nan)
        for layer in range(layers, 1, -1):
            delta_below(net, layer, own)
        for layer in range(1, layers + 1):
            step_share(net, layer, own, 1 - share, rate, 1)
            come_to(pair, done + layer)
        wait_until(other_line(pair), done + 1)
        of_batch = both_errors(pair, number) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break
        for layer in range(1, layers + 1):
            wait_until(other_line(pair), done + layer)
            step_share(net, layer, own, share, rate, 0)
            come_to(pair, done + layers + layer)
        done += 2 * layers
        number += 1
        loss += of_batch * (batch / X.rows)
        first += batch
    if half == 0:
        result[0] = (loss, first)


@outlined
def take_half(net, samples, first, own, batch):
    """Gather so many samples from `first` on, one's own of a minibatch; whether all are finite."""
    X, Y, order = samples
    numbers = advance(order.data, first)
    x_finite, y_finite = gather(rows(net.x, 0, own), X, numbers), gather(rows(net.y, 0, own), Y, numbers)
    if net.ahead != 0:
        expect_rows(net.ahead, X, Y, order, first + batch, first + batch + own)
    return x_finite and y_finite


@outlined
def half_errors(net, own, batch, line, number):
    """The sum of the squared errors of one's own samples of a minibatch; for `line`, see `forward_rows`."""
    forward_rows(net, own, line, number)
    errors = errors_of_outputs(net, 0, own)
    delta_of_outputs(net, own, scalar(2.0 / (batch * net.y.columns), net.x))
    return errors
