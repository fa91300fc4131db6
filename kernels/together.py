"""Training by two threads, each of which takes one half of every minibatch forward and back, with the same weights.

For products that are too small to be shared one by one. Each thread takes its samples through the layers, and tells the
other what they add to the gradient of one share of the weights; then it takes the step of the other share, against the
sum of both threads' gradients. The shares change hands from minibatch to minibatch: a cache line that another core has
only read takes four times as long to be written as one that it has written. The network is laid out as one thread that
trains it `online` has it; every sum has the order that it has there.
"""

import numpy as np

from .ahead import BYTES_OF_LINES, expect_rows, fetch_all_in, worth_fetching
from .blocking import CACHE_LINE, PADDING, RUN
from .compiling import helper, internal
from .layout import fixed_size, gradient_size, lanes_of, lay_out, layer_gradient_size, layer_of, places, samples_size
from .loss import rows_of_part
from .matrix import Vector, advance, itemsize, rows, scalar
from .network import is_halved, is_wide, promised
from .online import train_online
from .pair import BYTES_TOLD, Pair, both_come, both_errors, come_to, other_line, tell_errors, train_by_two
from .panel import gather
from .parallel import wait_until
from .small import delta_below, delta_of_outputs, errors_of_outputs, forward_rows, step_share, turns_of_fetching
from .tasks import address, outlined


def is_together(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches, with about the memory that is promised."""
    return (
        threads > 1
        and samples >= RUN * batch_size
        and is_halved(Vector(sizes, len(sizes)), batch_size)
        and not is_wide(*sizes[:2], batch_size)
        and together_size(sizes, batch_size, 4) <= promised(sizes, batch_size, copies=0) + PADDING
    )


def together_size(sizes, batch_size, itemsize):
    """Elements of workspace."""
    vector, rows = Vector(sizes, len(sizes)), rows_of_part(0, 2, batch_size)[1]
    half = BYTES_OF_LINES // itemsize + samples_size(vector, rows, itemsize)
    told = BYTES_TOLD // itemsize + gradient_size(vector, itemsize)
    return fixed_size(vector, itemsize) + told + 2 * half


@internal
def train_together(arguments, end, memory):
    _, _, _, _, _, _, _, sizes, workspace, _ = arguments[0]
    told = address(places(workspace, sizes)[2])
    train_by_two(_train_half, train_online, told, arguments, end, memory)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, _, X, Y, order, batch_size, rate, sizes, workspace, _ = given[0]
    tables, weights, told = places(workspace, sizes)
    if not both_come(address(told)):
        return
    item = itemsize(told)
    gradient = advance(told, BYTES_TOLD // item)
    most = rows_of_part(0, 2, batch_size)[1]
    of_half = BYTES_OF_LINES // item + samples_size(sizes, most, item)
    own = advance(gradient, gradient_size(sizes, item) + half * of_half)
    fetched = address(own) if worth_fetching(X, Y, batch_size) else 0
    if fetched != 0:
        fetch_all_in(fetched, turns_of_fetching(sizes, most), most, X)
    table = advance(tables, half * sizes.size * CACHE_LINE // item)
    net = lay_out(table, weights, advance(own, BYTES_OF_LINES // item), sizes, most, fetched)
    pair, samples = Pair(told, half, told, 0), (X, Y, order)
    (loss, first), number, done, layers, rate = result[0], 0, 0, net.layers, scalar(rate, X)
    count = gradient_size(sizes, item)
    while first < end:
        batch = min(batch_size, end - first)
        if batch < batch_size and not is_halved(sizes, batch):
            break
        finite = take_half(net, samples, first, batch, half)
        errors = half_errors(net, batch, half, other_line(pair), done + 1)
        tell_errors(pair, number, errors if finite else np.nan)
        share, own_rows = (half + number) % 2, rows_of_half(half, batch)
        letter = advance(gradient, count)
        for layer in range(layers, 0, -1):
            letter = letter_of(net, layer, letter)
            if layer > 1:
                delta_below(net, layer, own_rows)
            step_share(net, layer, letter, own_rows, 1 - share, rate, 1)
            come_to(pair, done + layers + 1 - layer)
        wait_until(other_line(pair), done + 1)
        of_batch = both_errors(pair, number) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break
        letter = advance(gradient, count)
        for layer in range(layers, 0, -1):
            letter = letter_of(net, layer, letter)
            wait_until(other_line(pair), done + layers + 1 - layer)
            step_share(net, layer, letter, own_rows, share, rate, 0)
            come_to(pair, done + 2 * layers + 1 - layer)
        done += 2 * layers
        number += 1
        loss += of_batch * (batch / X.rows)
        first += batch
    if half == 0:
        result[0] = (loss, first)


@helper
def letter_of(net, layer, above):
    """Where the gradient of a layer is handed over: before that of the layer above."""
    n_in = net.x.columns
    if layer > 1:
        n_in = layer_of(net, layer - 1).g.columns
    return advance(above, -layer_gradient_size(n_in, layer_of(net, layer).g.columns, lanes_of(net.x.data)))


@outlined
def rows_of_half(half, batch):
    start, end = rows_of_part(half, 2, batch)
    return end - start


@outlined
def take_half(net, samples, first, batch, half):
    """Gather the samples of one half of a minibatch; whether all are finite."""
    X, Y, order = samples
    start, end = rows_of_part(half, 2, batch)
    x, y, numbers = rows(net.x, 0, end - start), rows(net.y, 0, end - start), advance(order.data, first + start)
    x_finite, y_finite = gather(x, X, numbers), gather(y, Y, numbers)
    if net.ahead != 0:
        expect_rows(net.ahead, X, Y, order, first + batch + start, first + batch + end)
    return x_finite and y_finite


@outlined
def half_errors(net, batch, half, line, number):
    """The sum of the squared errors of one half of a minibatch; for the others, see `forward_rows`."""
    start, end = rows_of_part(half, 2, batch)
    forward_rows(net, end - start, line, number)
    errors = errors_of_outputs(net, 0, end - start)
    delta_of_outputs(net, end - start, scalar(2.0 / (batch * net.y.columns), net.x))
    return errors
