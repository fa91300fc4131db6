"""A minibatch forward and back, and what becomes of its gradient: as a whole, or in shards.

The products of a small network are too small to be shared, and those of a large minibatch read activations that have
left the cache. Where both meet, each thread takes shards of the minibatch's rows through all layers, a few rows at a
time, and adds up a gradient for each shard; then it sums the shards' gradients for some of the parameters. Where a
shard begins and the order of every sum depend on nothing but sizes: so the bits do not depend on who computes. A
minibatch that is only large enough for two threads is cut into halves, and only if two have come: to one thread its
sums are of two halves too.

Everywhere here `epilogue` is STORE, which puts the gradient into `target`, or SGD, with the parameters themselves as
the target, which takes a step of `scale` against it, but none where the loss is not finite.
"""

import numpy as np

from .ahead import expect_rows
from .blocking import COPY, MICROBATCH, MOST_SHARDS, SHARE
from .compiling import helper, internal, jit
from .cuts import HALVES, LENGTH, SHARDS, WHOLE, cuts_of, range_of_part, sharers_of_minibatch
from .epilogue import SGD, STORE
from .gemm import crew_of
from .loss import row_parts
from .matrix import Matrix, Vector, advance, matrix, padded, pointer, rows, scalar, spaced, vector
from .network import (
    backward,
    divide,
    forward_layers,
    input_finite,
    of_outputs,
    output_errors,
)
from .optimizer import step_against_sum
from .panel import all_finite, gather
from .parallel import UNCHANGED, Crew, at_most, columns_of, lead, share, tasks_for
from .parameters import parameters_size
from .tasks import ONE, ZERO, address, reference, references, task_address

NO_ERRORS = (0.0,) * MOST_SHARDS


@jit(inline=True)
def minibatch(shard_task, then, parameters, X, Y, order, first, batch, cut, sizes, workspace, team):
    """𝓛 of the samples first, first+1, ... first+batch-1; NaN, and `target` stays as it is, if not all are finite.

    `shard_task` is the task for a shard: `of_shard`, or `logistic.of_shard`. `then` is (epilogue, target, scale,
    grad_x, with_grad_x, in_panels), and ∇x of the samples is stored in grad_x if `with_grad_x`. The parameters, and the
    target, are as `stored` has it if `in_panels`. X, Y and `order` are as in
    `train.train_minibatches`, but Matrices and a Vector, as `sizes` and `workspace`; `cut` points to the numbers of
    such a minibatch in `cuts`.
    """
    halves = cut[HALVES] != 0 and team.memory != 0
    shards, columns = 2 if halves else cut[SHARDS], parameters_size(sizes)
    size = padded(columns) if shards > 1 else 0  # of a shard's gradient
    gradients = Matrix(workspace.data, shards, columns, size, 1)
    spaces = Vector(advance(workspace.data, shards * size), workspace.size - shards * size)
    finite, errors = reference(ONE), references(NO_ERRORS)
    samples = X, Y, order, first, batch, np.intp(halves), cut[LENGTH]
    arguments = reference((finite, errors, gradients, samples, then, parameters, sizes, spaces, team))
    share(task_address(shard_task, arguments), address(arguments), shards, team.memory)
    if finite[0] == 0:
        return np.nan
    loss = 0.0
    for shard in range(shards):
        loss += errors[shard]
    loss /= batch * Y.columns
    epilogue, _, _, _, _, _ = then
    if shards > 1 and (epilogue == STORE or np.isfinite(loss)):
        sums = reference((gradients, then))
        share(task_address(_sum, sums), address(sums), shards, team.memory)
    return loss


@helper
def own_space(spaces, shards, team, shard, worker):
    """A thread's part of the workspace, or a shard's if there are fewer shards."""
    parts = min(team.threads, shards)
    part = worker if team.threads <= shards else shard
    return advance(spaces.data, part * (spaces.size // parts // 16 * 16))


@helper
def part_of_shard(gradients, target, batch, halves, spaces, team, shard, worker):
    """Where a shard's samples begin and end, and in how many microbatches; its workspace, and where its gradient is.

    That is `target` where a minibatch is not cut. A half is one slice of every sum, so it is not cut further.
    """
    shards = gradients.rows
    if shards == 1:
        return (0, batch, 1), spaces.data, target
    i, end = range_of_part(shard, shards, batch)
    microbatches = 1 if halves != 0 else max(1, (end - i) // MICROBATCH)
    workspace = own_space(spaces, shards, team, shard, worker)
    return (i, end, microbatches), workspace, advance(gradients.data, shard * gradients.row_stride)


@internal
def of_shard(arguments, shard, worker):
    """One shard's samples, a microbatch at a time; or all of them at once, by the crew, if they are not cut."""
    finite, errors, gradients, samples, then, parameters, sizes, spaces, team = arguments[0]
    X, Y, order, first, batch, halves, kc = samples
    epilogue, target, scale, grad_x, with_grad_x, in_panels = then
    shards, step = gradients.rows, epilogue
    (i, end, microbatches), workspace, gradient = part_of_shard(
        gradients, target, batch, halves, spaces, team, shard, worker
    )
    in_place = np.intp(shards > 1 or epilogue == STORE)
    if shards > 1:
        step, scale, team = STORE, -1.0, Crew(1, SHARE, 0, 0, 0, team.otherwise)
    while microbatches > 0:
        count = (end - i) // microbatches
        space = divide(workspace, sizes, count, in_panels, in_place)
        x, y = rows(X, first + i, count), rows(Y, first + i, count)
        if order.size > 0:
            x, y = spaced(space.x, count, X.columns), of_outputs(space, count, Y.columns)
            gather_rows(finite, x, y, X, Y, advance(order.data, first + i), team)
            if team.ahead != 0:
                expect_rows(team.ahead, X, Y, order, first + batch, first + 2 * batch)
            if finite[0] == 0:
                return
        parts = 1 if halves != 0 else row_parts(count)
        found = output_errors(forward_layers(parameters, x, sizes, space, team, 1), y, batch, parts, space, team)
        lowest = spaced(space.activations, count, sizes.data[1])
        if order.size == 0 and not (input_finite(x, lowest) and (np.isfinite(found) or all_finite(y))):
            finite[0] = 0
            return
        errors[shard] += found
        if epilogue == STORE or np.isfinite(found):
            of_x = rows(grad_x, i, count)
            backward(step, gradient, scale, of_x, with_grad_x != 0, parameters, x, sizes, space, team, 1, kc)
        i, microbatches = i + count, microbatches - 1
        step = SGD if shards > 1 else step  # which, with a scale of -1, adds to the shard's gradient


@helper
def gather_rows(finite, x, y, X, Y, numbers, team):
    """x, y = the rows of X, Y with these numbers, by as many threads as gain from it; `finite` if all of them are."""
    parts = tasks_for(COPY * x.rows * x.columns, team)
    arguments = reference((finite, x, y, X, Y, numbers, parts))
    share(task_address(_gather, arguments), address(arguments), parts, team.memory)


@internal
def _gather(arguments, task, _):
    """One task's share of the rows."""
    finite, x, y, X, Y, numbers, parts = arguments[0]
    start, end = task * x.rows // parts, (task + 1) * x.rows // parts
    numbers = advance(numbers, start)
    x_finite = gather(rows(x, start, end - start), X, numbers)
    y_finite = gather(rows(y, start, end - start), Y, numbers)
    if not (x_finite and y_finite):
        finite[0] = 0


@internal
def _sum(arguments, part, _):
    """Some of the parameters: the sum of the shards' gradients to the epilogue; the first of them is written over."""
    gradients, (epilogue, target, scale, _, _, _) = arguments[0]
    start, end = columns_of(part, gradients.rows, gradients.columns)
    n, target, first = end - start, advance(target, start), advance(gradients.data, start)
    for shard in range(1, gradients.rows - 1):
        other = advance(first, shard * gradients.row_stride)
        for j in range(n):
            first[j] += other[j]
    last = advance(first, (gradients.rows - 1) * gradients.row_stride)
    if epilogue == SGD:
        step_against_sum(target, first, last, scalar(scale, gradients), n)
    else:
        for j in range(n):
            target[j] = first[j] + last[j]


@jit(inline=True)
def gradients(gradient, grad_x, with_grad_x, parameters, x, y, sizes, workspace, team):
    """∂𝓛/∂parameters of the batch x, y, and its loss, which is returned.

    The loss is NaN, and `gradient` stays as it is, if x or y is not finite. `gradient` is laid out as `parameters`. ∇x
    is stored in grad_x (batch, N⁽⁰⁾) if `with_grad_x`; else any array of two dimensions will do for it.
    """
    x, sizes = matrix(x), vector(sizes)
    cuts = references(cuts_of(sizes, x.rows, 0, team.grain))
    return gradients_by(
        gradients_in_turn, gradient, grad_x, with_grad_x, parameters, x, y, sizes, cuts, workspace, team
    )


@jit(inline=True)
def gradients_by(program, gradient, grad_x, with_grad_x, parameters, x, y, sizes, cuts, workspace, team):
    """`gradients` by a task for a crew, with a pointer to the numbers of `cuts`."""
    x, y, grad_x, sizes = matrix(x), matrix(y), matrix(grad_x), vector(sizes)
    work, cut = 3 * x.rows * parameters.size, advance(cuts, WHOLE)
    gradient, parameters, workspace = pointer(gradient), pointer(parameters), vector(workspace)
    loss, crew = reference(np.nan), at_most(sharers_of_minibatch(cuts), crew_of(team, parameters))
    arguments = reference((loss, gradient, grad_x, np.intp(with_grad_x), parameters, x, y, cut, sizes, workspace, crew))
    lead(task_address(program, arguments), address(arguments), crew, work)
    return loss[0]


@internal
def gradients_in_turn(arguments, memory, _):
    gradients_in(of_shard, arguments, memory)


@jit(inline=True)
def gradients_in(shard_task, arguments, memory):
    """The program of `gradients`, with a task for a shard."""
    loss, gradient, grad_x, with_grad_x, parameters, x, y, cut, sizes, workspace, team = arguments[0]
    team, in_order = Crew(team.threads, team.grain, memory, 0, UNCHANGED, team.otherwise), Vector(reference(ZERO), ZERO)
    then = STORE, gradient, 0.0, grad_x, with_grad_x, ZERO
    loss[0] = minibatch(shard_task, then, parameters, x, y, in_order, 0, x.rows, cut, sizes, workspace, team)
