"""Outputs of a small network for many samples, and their loss, with the network laid out in rows of whole vectors.

Threads take batches in turn: each has activations of its own, and weights, which it lays out once a call. Those that
another one has just written come slowly: of the time with shared ones 300 predictions by two threads take 0.65 on
784-30-10 and 0.73 on 64-64-10, on cores that are far from each other.
Every sum has the order that it has elsewhere: so outputs have the bits that `network.predict` gives. But less is
compiled, and most of it for training too.
"""

from .blocking import BYTES_FAR
from .compiling import helper, internal
from .layout import FORWARD, Small, lay_out, layer_of, small_network, table_of
from .matrix import bytes_of, matrix, pointer, rows
from .network import input_finite
from .panel import copy
from .parallel import KEPT, WORKER, lead, read, share, write
from .small import comes_from_afar, errors_of_outputs, first_from_afar, forward_rows
from .tasks import ONE, address, call_task, reference, task_address

LAID_OUT = 1  # what a worker has KEPT who has laid out its weights


@helper
def predict_in_rows(g, parameters, x, batch_size, work, plan, team):
    """`network.predict` by a plan that `predict_plan` gave, for so much `work` as `work_in_rows` says."""
    found, first, plan = reference(ONE), pointer(parameters), address(pointer(plan))
    arguments = reference((found, matrix(g), first, matrix(x), batch_size, plan))
    run_batches(task_address(_predict_batch, arguments), address(arguments), first, x, batch_size, work, plan, team)
    return found[0] != 0


@internal
def _predict_batch(arguments, task, worker):
    found, g, parameters, x, batch_size, plan = arguments[0]
    x_bytes, x, target = bytes_of(x), batch_of(x, batch_size, task), batch_of(g, batch_size, task)
    net = forward_batch(x, x_bytes, batch_size, table_of(plan, worker), parameters)
    output = rows(layer_of(net, net.layers).g, 0, x.rows)
    copy(target, output)
    if not input_finite(x, layer_of(net, 1).g):
        found[0] = 0


@helper
def mean_loss_in_rows(losses, parameters, x, y, batch_size, work, plan, team):
    """`network.mean_loss` in the same way; `losses` is a float64 vector, an element a batch."""
    losses, first, plan = pointer(losses), pointer(parameters), address(pointer(plan))
    arguments = reference((losses, first, x, y, batch_size, plan))
    run_batches(task_address(_batch_errors, arguments), address(arguments), first, x, batch_size, work, plan, team)
    total = 0.0
    for batch in range(batches(x, batch_size)):
        total += losses[batch]
    return total / (y.rows * y.columns)


@internal
def _batch_errors(arguments, task, worker):
    losses, parameters, x, y, batch_size, plan = arguments[0]
    x_bytes, x, y = bytes_of(x), batch_of(x, batch_size, task), batch_of(y, batch_size, task)
    net = forward_batch(x, x_bytes, batch_size, table_of(plan, worker), parameters)
    copy(rows(net.y, 0, y.rows), y)
    losses[task] = errors_of_outputs(net, 0, y.rows)


@helper
def run_batches(function, of_batches, parameters, x, batch_size, work, plan, team):
    """Call function(of_batches, batch, worker), both given as addresses, for every batch, with weights laid out."""
    arguments = reference((function, of_batches, parameters, batches(x, batch_size), batch_size, plan))
    lead(task_address(_run_batches, arguments), address(arguments), team, work)


@internal
def _run_batches(arguments, memory, _):
    function, of_batches, parameters, count, batch_size, plan = arguments[0]
    memory = memory if count > 1 else 0
    of_batch = reference((function, of_batches, parameters, memory, batch_size, plan))
    share(task_address(_run_batch, of_batch), address(of_batch), count, memory)


@internal
def _run_batch(arguments, batch, worker):
    function, of_batches, parameters, memory, batch_size, plan = arguments[0]
    laid_out = batch > 0 if memory == 0 else read(memory, WORKER + worker, KEPT) == LAID_OUT
    if not laid_out:
        net = small_network(table_of(plan, worker), parameters, batch_size, False, 0)
        lay_out(net, parameters, FORWARD, net.x.data)
        if memory != 0:
            write(memory, WORKER + worker, KEPT, LAID_OUT)
    call_task(function, of_batches, batch, worker)


@helper
def batches(x, batch_size):
    return (x.rows + batch_size - 1) // batch_size


@helper
def batch_of(m, batch_size, number):
    first = number * batch_size
    return rows(m, first, min(batch_size, m.rows - first))


@helper
def forward_batch(x, x_bytes, batch_size, table, like):
    """The Small of a table, of the dtype behind the pointer `like`, with g of all layers for x.

    x is rows of a matrix of so many bytes.
    """
    net = small_network(table, like, batch_size, False, 0)
    if x.column_stride == 1:
        net = Small(net.table, net.layers, net.apart, x, net.y, net.ahead, x_bytes > BYTES_FAR)
    else:
        copy(rows(net.x, 0, x.rows), x)
        x_bytes = 0
    if comes_from_afar(net, x_bytes):
        first_from_afar(net, x.rows)
        forward_rows(net, x.rows, 2, net.layers)
    else:
        forward_rows(net, x.rows, 1, net.layers)
    return net
