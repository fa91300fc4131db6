"""Training with the weights laid out in the workspace, from one call to the next, until an epoch is over.

The parameters themselves stay as they are until all is known to be well: they are the copy to go back to.
"""

import numpy as np

from .compiling import internal, jit
from .layout import ALL, BACK, exchange, lay_out, small_network, weights_finite
from .matrix import advance, matrix, pointer, vector
from .order import train_in_order
from .pace import may_gain, run_by_the_quicker
from .parallel import at_most, lead
from .tasks import address, reference, task_address


@jit(inline=True)
def train_laid_out(program, alone, together, paced, guard, pace, run, plan, _, workspace, team):
    """`train.train_safely` for programs that train with such weights, by a `plan` instead of the sizes.

    `guard` is (live, check, commit). live[0] is not 0 if the workspace has the weights of an earlier call, to be
    trained further; else they are the parameters. It is 0 again where training stopped before `last`, or, if `check`,
    where a weight is not finite: then the loss is NaN. Else, if `commit`, the weights are copied to the parameters.
    """
    live, check, commit = guard
    parameters, X, Y, order, first, last, loss, batch_size, learning_rate = run
    shared, team = 3 * parameters.size * (last - first), at_most(2 if together else 1, team)
    X, Y, plan = matrix(X), matrix(Y), address(pointer(plan))
    parameters, workspace = pointer(parameters), vector(workspace)
    result, rate = reference((loss, first)), np.float64(learning_rate)
    arguments = reference((result, parameters, X, Y, order.numbers, batch_size, rate, plan, workspace, team))
    run, function = address(arguments), task_address(program, arguments)
    if paced > 0:
        shared = shared if may_gain(pace) else 0
        turns = reference((task_address(alone, arguments), function, run, pace, result, batch_size, np.intp(paced)))
        run, function = address(turns), task_address(run_by_the_quicker, turns)
    what = result, parameters, plan, workspace, batch_size
    guarded = reference(((pointer(live), np.intp(check), np.intp(commit)), what, function, run, order, last))
    lead(task_address(_train_laid_out, guarded), address(guarded), team, shared)
    return result[0]


@internal
def _train_laid_out(arguments, memory, _):
    (live, check, commit), (result, parameters, plan, workspace, batch_size), program, run, order, last = arguments[0]
    net = small_network(plan, workspace.data, batch_size, False, 0)  # for its weights alone
    if live[0] == 0:
        # What lies behind the rows' ends is later any number, of which nothing comes.
        lay_out(net, parameters, ALL, advance(workspace.data, workspace.size))
        live[0] = 1
    train_in_order(program, run, result, order, last, batch_size, memory)
    _, reached = result[0]
    if reached < last or (check != 0 and not weights_finite(net)):
        live[0] = 0
        result[0] = (np.nan, reached)
    elif commit != 0:
        exchange(net, parameters, BACK)
