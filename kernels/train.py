"""Training: one minibatch step, and a run of consecutive minibatches as one call.

Arguments as in `network`.
"""

import numpy as np

from .ahead import NOTHING, worth_fetching
from .blocking import COPY
from .compiling import internal, jit
from .epilogue import SGD
from .matrix import advance, matrix, pointer, row_major, vector
from .minibatch import minibatch
from .network import parameters_size, work
from .panel import all_finite, copy_rows
from .parallel import Crew, crew_of, lead, share, tasks_for
from .tasks import ONE, ZERO, address, outlined, reference, task_address


@jit(inline=True)
def train_step(parameters, x, y, learning_rate, sizes, workspace, team):
    """One step of gradient descent on the minibatch x, y; returns its loss before the step.

    Where that loss, x or y is not finite, NaN is returned and the parameters are left as they were.
    """
    x, none = matrix(x), sizes[:0]
    loss, done = train_minibatches(
        parameters, x, y, none, 0, x.rows, 0.0, x.rows, learning_rate, sizes, workspace, team
    )
    return loss if done == x.rows else np.nan


@jit(inline=True)
def train_minibatches(parameters, X, Y, order, first, last, loss, batch_size, learning_rate, sizes, workspace, team):
    """Steps on consecutive minibatches: samples first, first+1, ... last-1, the last batch perhaps smaller.

    Sample i is row order[i] of X and Y, gathered into the workspace; or row i, where `order`, a contiguous vector of
    np.intp, is empty. Returns `loss` plus each minibatch's loss times its part of all samples, so that an epoch from
    `loss` = 0 gives their mean; and the sample at which it stopped: before `last` where a minibatch or its loss was
    not finite.
    """
    run = parameters, X, Y, order, first, last, loss, batch_size, learning_rate
    return train_safely(train_in_turn, False, (parameters[:0], ZERO, ZERO), run, sizes, workspace, team)


@jit(inline=True)
def train_safely(program, certain, guard, run, sizes, workspace, team):
    """`train_minibatches` by a program; `certain` if threads gain from it however small the products are.

    `guard` is (before, keep, check): if `keep`, the parameters are copied to `before` first; if `check`, the loss that
    is returned is NaN where in the end a parameter is not finite. `run` has the other arguments.
    """
    before, keep, check = guard
    parameters, X, Y, order, first, last, loss, batch_size, learning_rate = run
    X, Y, order, sizes, before = matrix(X), matrix(Y), vector(order), vector(sizes), vector(before)
    parameters, workspace = pointer(parameters), vector(workspace)
    result = reference((loss, first))
    rate = np.float64(learning_rate)
    arguments = reference(
        (
            (result, before, np.intp(keep), np.intp(check)),
            (parameters, X, Y, order, last, batch_size, rate, sizes, workspace, team),
        )
    )
    shared = 3 * (last - first) * parameters_size(sizes)
    if not certain:
        shared = work(sizes, min(batch_size, last - first), last - first, team.grain)
    lead(task_address(program, arguments), address(arguments), crew_of(team), shared)
    return result[0]


@internal
def train_in_turn(arguments, memory, _):
    """A program for a crew: minibatch after minibatch, whose products are shared if they are large."""
    guard, rest = arguments[0]
    parameters, X, Y, order, last, batch_size, rate, sizes, workspace, team = rest
    ahead = address(reference(NOTHING)) if order.size > 0 and worth_fetching(X, Y, batch_size) else 0
    team = Crew(team.threads, team.grain, memory, ahead)
    loss, first = keep_parameters(guard, parameters, team)
    while first < last:
        batch = min(batch_size, last - first)
        of_batch = minibatch(
            SGD, parameters, rate, X, ZERO, parameters, X, Y, order, first, last, batch, sizes, workspace, team
        )
        if not np.isfinite(of_batch):
            break
        loss += of_batch * (batch / X.rows)
        first += batch
    check_parameters(guard, parameters, sizes, loss, first, team)


@outlined
def keep_parameters(guard, parameters, team):
    """Copy them if that is asked for; the loss, and the sample, to begin with."""
    result, before, keep, _ = guard
    if keep != 0:
        go_through(reference(ONE), before.data, parameters, before.size, ONE, team)
    return result[0]


@outlined
def check_parameters(guard, parameters, sizes, loss, first, team):
    """Leave the result of a run, whose loss is NaN if a parameter is not finite and that is asked for."""
    result, _, _, check = guard
    finite = reference(ONE)
    if check != 0:
        go_through(finite, parameters, parameters, parameters_size(sizes), ZERO, team)
    result[0] = (loss if finite[0] != 0 else np.nan, first)


@outlined
def go_through(finite, target, source, size, copied, team):
    """By as many threads as gain from it, copy a vector, or put 0 where `finite` points if not all of it is."""
    parts = tasks_for(COPY * size, team)
    arguments = reference((finite, target, source, size, copied, parts))
    share(task_address(_go_through, arguments), address(arguments), parts, team.memory)


@internal
def _go_through(arguments, task, _):
    finite, target, source, size, copied, parts = arguments[0]
    first = task * size // parts
    count = (task + 1) * size // parts - first
    if copied != 0:
        copy_rows(advance(target, first), 0, advance(source, first), 0, 1, count)
    elif not all_finite(row_major(advance(source, first), 1, count)):
        finite[0] = 0
