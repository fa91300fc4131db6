"""The layers of a network one after the other: forward, and backward through the same layers.

`parameters` is a vector: of each layer in turn, Wᵀ (N_in, N_out) row-major, then b (N_out,). `sizes` is an integer
vector of the widths N⁽⁰⁾ ... N⁽ᴸ⁾; x and y are arrays of (batch, N⁽⁰⁾) and (batch, N⁽ᴸ⁾) with any strides; `workspace`
is a vector of `workspace_size` elements that a function may overwrite; `team` is a `Team`. All floats are of one
dtype, float32 or float64.
"""

from collections import namedtuple

from numba.extending import register_jitable

from .compiling import jit
from .gemm import panels_size
from .layer import finish_gradient, layer_delta, layer_forward, layer_input_gradient, output_delta
from .loss import mse, mse_gradient
from .matrix import advance, copy, matrix, pointer, row_major, rows, transposed
from .microkernel import STORE

Workspace = namedtuple("Workspace", "activations deltas x y panels")
"""Pointers into a workspace: g and δ of every layer, a gathered minibatch, and the panels of products."""


def workspace_size(sizes, batch_size, itemsize, threads=1):
    """Elements of workspace for batches of up to `batch_size` samples and teams of up to `threads` threads."""
    sizes = [int(size) for size in sizes]
    outputs = padded(batch_size * sum(sizes[1:]))
    gathered = padded(batch_size * sizes[0]) + padded(batch_size * sizes[-1])
    return 2 * outputs + gathered + panels_size(max(batch_size, *sizes), itemsize, threads)


@register_jitable
def padded(elements):
    """`elements` rounded up, so that what follows begins a cache line if the workspace does, in either dtype."""
    return (elements + 15) // 16 * 16


@register_jitable
def divide(workspace, sizes, batch):
    """The Workspace of a batch, in the vector `workspace`."""
    outputs = padded(batch * sizes[1:].sum())
    activations = pointer(workspace)
    deltas = advance(activations, outputs)
    x = advance(deltas, outputs)
    y = advance(x, padded(batch * sizes[0]))
    return Workspace(activations, deltas, x, y, advance(y, padded(batch * sizes[-1])))


@register_jitable
def layer_parameters(parameters, n_in, n_out):
    """(W, b) of the layer that begins at the pointer `parameters`."""
    W = transposed(row_major(parameters, n_in, n_out))
    return W, row_major(advance(parameters, n_in * n_out), 1, n_out)


@register_jitable
def layer_size(n_in, n_out):
    return (n_in + 1) * n_out


@jit
def forward(parameters, x, sizes, workspace, team):
    """g⁽ℓ⁾ = σ(g⁽ℓ⁻¹⁾ W⁽ℓ⁾ᵀ + b⁽ℓ⁾) for ℓ = 1 ... L, kept in the workspace; the Matrix of the last is returned."""
    g = matrix(x)
    parameters = pointer(parameters)
    activations, _, _, _, panels = divide(workspace, sizes, g.rows)
    for layer in range(1, sizes.size):
        n_in, n_out = sizes[layer - 1], sizes[layer]
        W, b = layer_parameters(parameters, n_in, n_out)
        below, g = g, row_major(activations, g.rows, n_out)
        layer_forward(g, below, W, b, panels, team)
        activations = advance(activations, g.rows * n_out)
        parameters = advance(parameters, layer_size(n_in, n_out))
    return g


@jit
def backward(epilogue, target, scale, grad_x, with_grad_x, parameters, x, y, sizes, workspace, team):
    """Backward through the activations that `forward` left: δ⁽ᴸ⁾ = ∇g⁽ᴸ⁾ ⊙ g⁽ᴸ⁾ (1 - g⁽ᴸ⁾), and from ℓ = L down to 1

        δ⁽ℓ⁻¹⁾ = (δ⁽ℓ⁾ W⁽ℓ⁾) ⊙ g⁽ℓ⁻¹⁾ (1 - g⁽ℓ⁻¹⁾),  or for ℓ = 1, `with_grad_x`, ∇x = δ⁽¹⁾ W⁽¹⁾
        ∇W⁽ℓ⁾ = δ⁽ℓ⁾ᵀ g⁽ℓ⁻¹⁾,  ∇b⁽ℓ⁾ = Σ over the batch of δ⁽ℓ⁾

    The epilogue STORE puts ∇W and ∇b into `target`, laid out as `parameters`; SGD, with the parameters themselves as
    the target, takes a step of `scale` against them.
    """
    x = matrix(x)
    batch = x.rows
    parameters, target = pointer(parameters), pointer(target)
    activations, deltas, _, _, panels = divide(workspace, sizes, batch)
    offset, end = 0, 0  # of the layer's parameters, and of its activations and deltas
    for layer in range(1, sizes.size):
        offset += layer_size(sizes[layer - 1], sizes[layer])
        end += batch * sizes[layer]
    for layer in range(sizes.size - 1, 0, -1):
        n_in, n_out = sizes[layer - 1], sizes[layer]
        offset -= layer_size(n_in, n_out)
        end -= batch * n_out
        W, _ = layer_parameters(advance(parameters, offset), n_in, n_out)
        delta = row_major(advance(deltas, end), batch, n_out)
        if layer == sizes.size - 1:
            g = row_major(advance(activations, end), batch, n_out)
            mse_gradient(delta, g, y)
            output_delta(delta, delta, g)
        below = x
        if layer > 1:
            below = row_major(advance(activations, end - batch * n_in), batch, n_in)
            delta_below = row_major(advance(deltas, end - batch * n_in), batch, n_in)
            layer_delta(delta_below, delta, below, W, panels, team)
        elif with_grad_x:
            layer_input_gradient(grad_x, delta, W, panels, team)
        target_W, target_b = layer_parameters(advance(target, offset), n_in, n_out)
        finish_gradient(epilogue, target_W, target_b, delta, below, scale, panels, team)


@jit(inline=True)
def gradients(gradient, grad_x, with_grad_x, parameters, x, y, sizes, workspace, team):
    """∂𝓛/∂parameters of the batch x, y, and its loss, which is returned.

    `gradient` is laid out as `parameters`. ∇x is stored in grad_x (batch, N⁽⁰⁾) if `with_grad_x`; else any array of two
    dimensions will do for it.
    """
    x, grad_x = matrix(x), matrix(grad_x)
    loss = mse(forward(parameters, x, sizes, workspace, team), y)
    backward(STORE, gradient, 0.0, grad_x, with_grad_x, parameters, x, y, sizes, workspace, team)
    return loss


@jit(inline=True)
def predict(g, parameters, x, batch_size, sizes, workspace, team):
    """g = g⁽ᴸ⁾ for x, with workspace for `batch_size` samples at a time.

    g (samples, N⁽ᴸ⁾) and x (samples, N⁽⁰⁾) may have any number of rows; row i of g depends on row i of x alone.
    """
    g, x = matrix(g), matrix(x)
    for first in range(0, x.rows, batch_size):
        batch = min(batch_size, x.rows - first)
        output = forward(parameters, rows(x, first, batch), sizes, workspace, team)
        copy(rows(g, first, batch), output)


@jit(inline=True)
def mean_loss(parameters, x, y, batch_size, sizes, workspace, team):
    """𝓛 over all of x (samples, N⁽⁰⁾) and y (samples, N⁽ᴸ⁾), with workspace for `batch_size` samples at a time."""
    x, y = matrix(x), matrix(y)
    loss = 0.0
    for first in range(0, x.rows, batch_size):
        batch = min(batch_size, x.rows - first)
        output = forward(parameters, rows(x, first, batch), sizes, workspace, team)
        loss += mse(output, rows(y, first, batch)) * (batch / x.rows)
    return loss
