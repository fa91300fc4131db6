"""The layers of a network one after the other: forward, and backward through the same layers.

`parameters` is a vector: of each layer in turn, Wᵀ (N_in, N_out) row-major, or W if it `is_narrow`, then b (N_out,).
`sizes` is an integer vector of the widths N⁽⁰⁾ ... N⁽ᴸ⁾; x and y are arrays of (batch, N⁽⁰⁾) and (batch, N⁽ᴸ⁾) with any
strides; `workspace` is a vector of `workspace_size` elements that a function may overwrite; `team` is a `Team`. All
floats are of one dtype, float32 or float64.
"""

import bisect
import itertools
from collections import namedtuple

from .blocking import AFAR, DOTS, FAR, FEW_INPUTS, HALVED, KC, MICROBATCH, SHARE
from .compiling import helper, internal, jit
from .cuts import gain_from_halves, larger_half, shards_of, shares, threads_for
from .gemm import crew_of, fused_product, fused_sum
from .layer import forward_in_slices, layer_delta, layer_input_gradient
from .loss import mse_output_delta, row_parts
from .matrix import (
    Matrix,
    Vector,
    advance,
    get,
    itemsize,
    matrix,
    padded,
    pointer,
    row_stride,
    rows,
    spaced,
    transposed,
    vector,
)
from .packing import one_way_size, panels_size
from .panel import all_finite, copy, copy_any
from .parallel import FROM_AFAR, UNCHANGED, Crew, at_most, lead, share
from .parameters import is_dotted, parameters_size, stored_shape
from .stored import all_stored_size, stored_parameters, stored_size
from .tasks import ONE, ZERO, address, outlined, reference, references, task_address
from .wide import is_wide, slice_length

Workspace = namedtuple("Workspace", "batch activations size delta x panels in_panels")
"""The memory of a batch: pointers to g of every layer, of what size in all, behind which lies δ of the last; how far
behind g of another its δ, 0 if that takes the place of g; to a gathered minibatch, and to the panels of products; and
whether parameters are stored in panels, as `stored` has it."""


@helper
def extents(sizes, batch, itemsize):
    """Elements for the activations of all layers, of the last, and for x."""
    activations, outputs = 0, 0
    for layer in range(1, sizes.size):
        outputs = padded(batch * row_stride(sizes.data[layer], itemsize))
        activations += outputs
    return activations, outputs, padded(batch * row_stride(sizes.data[0], itemsize))


def workspace_size(sizes, batch_size, itemsize, threads=1):
    """Elements of workspace for batches of up to `batch_size` samples and teams of up to `threads` threads."""
    return max(whole_size(sizes, batch_size, itemsize, threads), training_size(sizes, batch_size, itemsize, threads))


def training_size(sizes, batch_size, itemsize, threads=1):
    """Elements that training and gradients need of it. Larger batches may need fewer, as they are cut into shards."""
    vector, batches = Vector(sizes, len(sizes)), range(batch_size + 1)
    shard = bisect.bisect_left(batches, True, key=lambda batch: shards_of(vector, batch) > 1)
    share = bisect.bisect_left(batches, True, min(HALVED, batch_size), key=lambda batch: shares(vector, batch, SHARE))
    largest = batch_size, max(1, shard - 1), max(1, share - 1)  # of all, of those without shards, of those in halves
    return max(minibatch_size(sizes, batch, itemsize, threads) for batch in largest)


def minibatch_size(sizes, batch, itemsize, threads=1, any_x=True):
    """The same for batches of exactly so many samples; x may have any layout, and ∇x, or is rows in memory."""
    vector = Vector(sizes, len(sizes))
    gradient, shards = padded(parameters_size(vector)), shards_of(vector, batch)
    if shards > 1:
        rows = min(2 * MICROBATCH, (batch + 1) // 2)  # of the largest microbatch
        return shards * gradient + min(threads, shards) * whole_size(sizes, rows, itemsize, 1, any_x, True)
    size = whole_size(sizes, batch, itemsize, threads, any_x)
    if threads > 1 and gain_from_halves(vector, batch):
        size = max(size, 2 * (gradient + whole_size(sizes, larger_half(batch), itemsize, 1, any_x, True)))
    return size


def whole_size(sizes, batch_size, itemsize, threads, any_x=False, in_place=False):
    """For batches that go through the layers as a whole, perhaps with δ `in_place` of g."""
    sizes = [int(size) for size in sizes]
    activations, outputs, x = extents(Vector(sizes, len(sizes)), batch_size, itemsize)
    deltas = outputs if in_place else activations
    return padded(activations + deltas + x + products_size(sizes, batch_size, itemsize, threads, any_x))


def products_size(sizes, batch_size, itemsize, threads, any_x=False):
    """For the panels of all layers' products, and the sums of squared errors, which take their place."""
    products = [(batch_size, n_out, n_in) for n_in, n_out in itertools.pairwise(sizes)]
    gradients = [(*stored_shape(n_in, n_out), batch_size) for n_in, n_out in itertools.pairwise(sizes)]
    products += gradients + [(batch_size, n_in, n_out) for n_in, n_out in itertools.pairwise(sizes[1:])]
    size = max(one_way_size(*product, itemsize, threads, streamed=True) for product in products)
    if any_x:
        of_x = one_way_size(*gradients[0], itemsize, threads)
        size = max(size, of_x, panels_size(batch_size, *sizes[:2], itemsize, threads))
    return max(size, 2 * padded(sizes[-1]) * 8 // itemsize)


@outlined
def divide(workspace, sizes, batch, in_panels, in_place):
    """The Workspace of a batch, from the pointer `workspace` on; δ of hidden layers takes the place of g if `in_place`.

    So it is for gradients, but not for steps: a layer's own comes first, and then δ below it, which needs W as it was.
    """
    size, outputs, x_size = extents(sizes, batch, itemsize(workspace))
    delta = 0 if in_place != 0 else size + outputs
    x = advance(workspace, size + max(outputs, delta - outputs))
    return Workspace(batch, workspace, size, delta, x, advance(x, x_size), in_panels)


@helper
def divide_above(workspace, sizes, batch):
    """The Workspace of the layers above the first, without an x, and with δ in the place of g."""
    size, outputs, _ = extents(sizes, batch, itemsize(workspace))
    x = advance(workspace, size + outputs)
    return Workspace(batch, workspace, size, ZERO, x, x, ZERO)


@helper
def of_outputs(space, rows, columns):
    """Where δ⁽ᴸ⁾ is, whose place gathered targets have before."""
    return spaced(advance(space.activations, space.size), rows, columns)


@helper
def delta_of(g, space):
    """Where δ of the layer with this output is."""
    behind = advance(g.data, padded(g.rows * g.row_stride))
    is_last = address(behind) == address(advance(space.activations, space.size))
    return Matrix(behind if is_last else advance(g.data, space.delta), g.rows, g.columns, g.row_stride, 1)


def promised(sizes, batch_size, copies=1):
    """Elements of workspace in the memory of four times the parameters and two minibatches' activations.

    The parameters are in that memory too, and so many `copies` of them to go back to.
    """
    parameters = parameters_size(Vector(sizes, len(sizes)))
    return (3 - copies) * parameters + 2 * batch_size * sum(sizes)


@jit
def forward(parameters, x, sizes, workspace, team):
    """g⁽ℓ⁾ = σ(g⁽ℓ⁻¹⁾ W⁽ℓ⁾ᵀ + b⁽ℓ⁾) for ℓ = 1 ... L, kept in the workspace; the Matrix of the last is returned."""
    x, sizes = matrix(x), vector(sizes)
    space = divide(pointer(workspace), sizes, x.rows, ZERO, ZERO)
    return forward_layers(pointer(parameters), x, sizes, space, team, 1)


@outlined
def forward_layers(parameters, x, sizes, space, team, lowest):
    """`forward` with a pointer, a Matrix, a Vector and a Workspace, as the functions below.

    Layers below the `lowest` have been computed already, as in `divided`.
    """
    g, activations = x, space.activations
    for layer in range(1, sizes.size):
        n_in, n_out = sizes.data[layer - 1], sizes.data[layer]
        W, b = stored_parameters(parameters, n_in, n_out, space.in_panels)
        below, g = g, spaced(activations, space.batch, n_out)
        if layer >= lowest:
            kc = DOTS if is_dotted(layer, n_in, n_out) else slice_length(n_in, n_out)
            forward_in_slices(g, below, W, b, kc, space.panels, team)
        team = Crew(team.threads, team.grain, team.memory, team.ahead, team.known & UNCHANGED, team.otherwise)
        activations = advance(activations, padded(space.batch * g.row_stride))
        parameters = advance(parameters, stored_size(n_in, n_out, space.in_panels, itemsize(parameters)))
    return g


@helper
def input_finite(x, g):
    """Whether x is finite, from which g⁽¹⁾ is g: a row whose first g is neither 0, 1 nor NaN can only be finite.

    So x, which may lie in far memory, is not read once more but for rows that saturate that neuron, or are short.
    """
    if x.columns <= FEW_INPUTS:
        return all_finite(x)
    finite = True
    for i in range(x.rows):
        finite &= 0 < get(g, i, 0) < 1 or all_finite(rows(x, i, 1))
    return finite


@outlined
def backward(epilogue, target, scale, grad_x, with_grad_x, parameters, x, sizes, space, team, lowest, kc) -> None:
    """Backward from the δ⁽ᴸ⁾ that `output_errors` left, through the activations that `forward` did: from ℓ = L to 1

        δ⁽ℓ⁻¹⁾ = (δ⁽ℓ⁾ W⁽ℓ⁾) ⊙ g⁽ℓ⁻¹⁾ (1 - g⁽ℓ⁻¹⁾),  or for ℓ = 1, `with_grad_x`, ∇x = δ⁽¹⁾ W⁽¹⁾
        ∇W⁽ℓ⁾ = δ⁽ℓ⁾ᵀ g⁽ℓ⁻¹⁾,  ∇b⁽ℓ⁾ = Σ over the batch of δ⁽ℓ⁾

    The sums over the batch are in slices of `kc`, as `gradient_length` says. The epilogue STORE puts ∇W and ∇b into
    `target`, laid out as `parameters`; SGD, with the parameters themselves as the target, takes a step of `scale`
    against them. Of layers below the `lowest`, only ∇b is computed.
    """
    offset = all_stored_size(sizes, space.in_panels, itemsize(target))  # of the layer's parameters
    end = space.size  # of its activations
    for layer in range(sizes.size - 1, 0, -1):
        n_in, n_out = sizes.data[layer - 1], sizes.data[layer]
        offset -= stored_size(n_in, n_out, space.in_panels, itemsize(target))
        end -= padded(space.batch * row_stride(n_out, itemsize(target)))
        delta = delta_of(spaced(advance(space.activations, end), space.batch, n_out), space)
        W, _ = stored_parameters(advance(parameters, offset), n_in, n_out, space.in_panels)
        below = x
        if layer > 1:
            start = end - padded(space.batch * row_stride(n_in, itemsize(target)))
            below = spaced(advance(space.activations, start), space.batch, n_in)
            if space.delta != 0:
                layer_delta(delta_of(below, space), delta, below, W, space.panels, team)
        elif with_grad_x:
            layer_input_gradient(grad_x, delta, W, space.panels, team)
        of_W, of_b = stored_parameters(advance(target, offset), n_in, n_out, space.in_panels)
        if layer >= lowest:
            of_slice = KC if layer == 1 and is_wide(n_in, n_out, space.batch) else kc
            fused_product(epilogue, of_W, of_W, transposed(delta), below, scale, of_slice, space.panels, team)
        fused_sum(epilogue, of_b, delta, scale, kc, space.panels, team)
        if layer > 1 and space.delta == 0:
            layer_delta(below, delta, below, W, space.panels, team)


@jit(inline=True)
def output_errors(g, y, batch, parts, space, team):
    """Σ (g - y)², added up in so many parts, of the output g that `forward_layers` returned for some of a minibatch.

    δ⁽ᴸ⁾, of 𝓛 as a mean over the `batch` samples of all of it, is left in the workspace.
    """
    if y.column_stride != 1:
        given, y = y, of_outputs(space, g.rows, g.columns)
        copy_any(y, given)
    return mse_output_delta(delta_of(g, space), g, y, batch, parts, space.panels, team)


@jit(inline=True)
def predict(g, parameters, x, batch_size, sizes, workspace, team):
    """g = g⁽ᴸ⁾ for x, so many samples at a time; False is returned, and g is worthless, if x is not finite.

    g (samples, N⁽ᴸ⁾) and x (samples, N⁽⁰⁾) may have any number of rows; row i of g depends on row i of x alone. Threads
    take batches in turn, or share the products of a single one: `workspace` is as large as for `batch_size` samples
    for each of `team.threads`, or, for no more samples than that, as for them and so many threads.
    """
    g, x, sizes, first = matrix(g), matrix(x), vector(sizes), pointer(parameters)
    found, crew = references((ONE, ZERO)), crew_of(team, first)
    part = workspace.size // team.threads // 16 * 16
    arguments = reference((found, g, first, x, batch_size, sizes, pointer(workspace), part, crew))
    shared = shared_by_predict(parameters.size, x.rows, batch_size)
    lead(task_address(_predict, arguments), address(arguments), crew, shared)
    return found[0] != 0


@helper
def shared_by_predict(parameters, samples, batch_size):
    """Multiply-adds that threads share: all of several batches, and of a single one if they are many.

    Or if there are many weights, each of which takes as long to come as some of these.
    """
    work = parameters * (max(samples, AFAR // 2) if parameters > FAR else samples)
    return work if samples > batch_size or work >= 2 * SHARE else 0


@internal
def _predict(arguments, memory, _):
    found, _, _, x, batch_size, _, _, _, _ = arguments[0]
    if x.rows <= batch_size:
        found[1] = memory  # for its products
    share(task_address(_predict_batch, arguments), address(arguments), (x.rows - 1) // batch_size + 1, memory)


@internal
def _predict_batch(arguments, task, worker):
    found, g, parameters, x, batch_size, sizes, workspace, part, team = arguments[0]
    first = task * batch_size
    batch = min(batch_size, x.rows - first)
    x = rows(x, first, batch)
    space = divide(advance(workspace, worker * part), sizes, batch, ZERO, ZERO)
    team = Crew(team.threads, team.grain, found[1], 0, FROM_AFAR + UNCHANGED, team.otherwise)
    output = forward_layers(parameters, x, sizes, space, team, 1)
    copy(rows(g, first, batch), output)
    if not input_finite(x, spaced(space.activations, batch, sizes.data[1])):
        found[0] = 0


@jit(inline=True)
def mean_loss(parameters, x, y, batch_size, sizes, workspace, team):
    """𝓛 over all of x (samples, N⁽⁰⁾) and y (samples, N⁽ᴸ⁾), with workspace for `batch_size` samples at a time."""
    x, sizes = matrix(x), vector(sizes)
    threads = threads_for(sizes, min(x.rows, batch_size), team.grain)
    return mean_loss_by(parameters, x, y, batch_size, sizes, workspace, threads, team)


@jit(inline=True)
def mean_loss_by(parameters, x, y, batch_size, sizes, workspace, threads, team):
    """`mean_loss` by no more than so many threads of a team."""
    x, y, sizes, first = matrix(x), matrix(y), vector(sizes), pointer(parameters)
    loss, crew = reference(0.0), at_most(threads, crew_of(team, first))
    arguments = reference((loss, first, x, y, batch_size, sizes, pointer(workspace), crew))
    lead(task_address(_mean_loss, arguments), address(arguments), crew, 3 * x.rows * parameters.size)
    return loss[0]


@internal
def _mean_loss(arguments, memory, _):
    loss, parameters, x, y, batch_size, sizes, workspace, team = arguments[0]
    team = Crew(team.threads, team.grain, memory, 0, FROM_AFAR + UNCHANGED, team.otherwise)
    for first in range(0, x.rows, batch_size):
        batch = min(batch_size, x.rows - first)
        space = divide(workspace, sizes, batch, ZERO, ZERO)
        output = forward_layers(parameters, rows(x, first, batch), sizes, space, team, 1)
        errors = output_errors(output, rows(y, first, batch), x.rows, row_parts(batch), space, team)
        loss[0] += errors / (x.rows * y.columns)
