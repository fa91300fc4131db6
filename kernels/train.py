"""Training: one minibatch step, and a run of consecutive minibatches as one call.

Arguments as in `network`.
"""

import numpy as np

from .ahead import NOTHING, worth_fetching
from .blocking import COPY, FEW_ROWS, PACED, PACED_FEW, STORED_FROM
from .compiling import internal, jit
from .cuts import REST, STORED, WHOLE, cuts_of, sharers_of_minibatch
from .epilogue import SGD
from .gemm import crew_of
from .matrix import Vector, advance, itemsize, matrix, pointer, row_major, vector
from .minibatch import minibatch, of_shard
from .order import as_order, train_in_order
from .pace import PACE, may_gain, run_by_the_quicker
from .panel import all_finite, copy_rows
from .parallel import Crew, at_most, lead, share, tasks_for
from .parameters import parameters_size
from .stored import all_stored_size, store
from .tasks import ONE, ZERO, address, outlined, reference, references, task_address


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
    run = parameters, X, Y, as_order(order), first, last, loss, batch_size, learning_rate
    guard = parameters[:0], ZERO, ZERO
    samples = last - first
    cuts = references(cuts_of(vector(sizes), min(batch_size, samples), samples % batch_size, team.grain))
    return train_safely(
        train_in_turn, train_in_turn, False, 0, guard, references(PACE), run, sizes, cuts, workspace, team
    )


@jit(inline=True)
def train_safely(program, alone, together, paced, guard, pace, run, sizes, cuts, workspace, team):
    """`train_minibatches` by a program, `together` if it is one for threads that gain from it in small products too.

    `guard` is (before, keep, check): if `keep`, the parameters are copied to `before` first; if `check`, the loss that
    is returned is NaN where in the end a parameter is not finite. `run` has the other arguments, an `order.Order`
    among them, and `cuts` points to the numbers of `cuts`. Unless `paced` is 0, one thread trains minibatches of little
    work, by the program `alone`, where that is quicker, and until others come so many at a time; `pace` is what
    `run_by_the_quicker` knows.

    A program is a task for a crew, program(arguments, end, memory), which trains up to the sample `end`; from the loss
    and the sample in result[0], where it leaves those that it reached.
    """
    before, keep, check = guard
    parameters, X, Y, order, first, last, loss, batch_size, learning_rate = run
    X, Y, sizes, before = matrix(X), matrix(Y), vector(sizes), vector(before)
    parameters, workspace = pointer(parameters), vector(workspace)
    threads = 2 if together else sharers_of_minibatch(cuts)
    team = at_most(threads, crew_of(team, parameters))
    result, rate = reference((loss, first)), np.float64(learning_rate)
    arguments = reference((result, parameters, X, Y, order.numbers, batch_size, rate, sizes, cuts, workspace, team))
    run, function = address(arguments), task_address(program, arguments)
    of_sample = 3 * parameters_size(sizes)
    shared = of_sample * (last - first)
    most = PACED_FEW if batch_size <= 2 * FEW_ROWS else PACED
    if paced > 0 and threads > 1 and of_sample * batch_size <= most:
        shared = shared if may_gain(pace) else 0
        turns = reference((task_address(alone, arguments), function, run, pace, result, batch_size, np.intp(paced)))
        run, function = address(turns), task_address(run_by_the_quicker, turns)
    safely = (before, np.intp(keep), np.intp(check)), (result, parameters, sizes, team)
    guarded = reference((*safely, function, run, order, last, batch_size))
    lead(task_address(_train_safely, guarded), address(guarded), team, shared)
    return result[0]


@internal
def _train_safely(arguments, memory, _):
    (before, keep, check), (result, parameters, sizes, team), program, run, order, last, batch_size = arguments[0]
    team = Crew(team.threads, team.grain, memory, 0, 0, team.otherwise)
    finite = reference(ONE)
    if keep != 0:
        go_through(finite, before.data, parameters, before.size, ONE, team)
    train_in_order(program, run, result, order, last, batch_size, memory)
    if check != 0:
        go_through(finite, parameters, parameters, parameters_size(sizes), ZERO, team)
    if finite[0] == 0:
        _, reached = result[0]
        result[0] = (np.nan, reached)


@internal
def train_in_turn(arguments, end, memory):
    """Minibatch after minibatch, whose products are shared if they are large."""
    result, parameters, X, Y, order, batch_size, rate, sizes, cuts, workspace, team = arguments[0]
    ahead = address(reference(NOTHING)) if order.size > 0 and worth_fetching(X, Y, batch_size) else 0
    team = Crew(team.threads, team.grain, memory, ahead, 0, team.otherwise)
    loss, first = result[0]
    stored, in_panels = parameters, np.intp(cuts[STORED] != 0 and end - first >= STORED_FROM * batch_size)
    if in_panels != 0:
        size = workspace.size - all_stored_size(sizes, in_panels, itemsize(parameters))
        workspace = Vector(workspace.data, size // 16 * 16)
        stored = advance(workspace.data, workspace.size)
        store(stored, parameters, sizes, ZERO, team)
    while first < end:
        batch = min(batch_size, end - first)
        cut = advance(cuts, WHOLE if batch == batch_size else REST)
        then = SGD, stored, rate, X, ZERO, in_panels
        of_batch = minibatch(of_shard, then, stored, X, Y, order, first, batch, cut, sizes, workspace, team)
        if not np.isfinite(of_batch):
            break
        loss += of_batch * (batch / X.rows)
        first += batch
    if in_panels != 0:
        store(stored, parameters, sizes, ONE, team)
    result[0] = (loss, first)


@outlined
def go_through(finite, target, source, size, copied, team) -> None:
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
