"""A fully connected layer, forward and backward: each function is one product and what is fused into it.

Arguments are arrays of one dtype with any strides; outputs overlap no input. `panels` is a vector of
`panels_size(n, n, n, itemsize, team.threads)` elements, n the largest of batch, N_in and N_out.

    x  (batch, N_in)       g  (batch, N_out)     W  (N_out, N_in)     b  (N_out,)

W is fastest column-major, as `Network` stores it: then the loads of the forward and the update are contiguous.
"""

from .activation import sigmoid_derivative
from .blocking import KC
from .compiling import jit
from .epilogue import BIAS_SIGMOID, SGD, SIGMOID_DELTA, STORE
from .gemm import crew_of, fused_product, fused_sum
from .matrix import broadcast_rows, get, matrix, pointer, put, row, transposed
from .wide import slice_length


@jit(inline=True)
def layer_forward(g, x, W, b, panels, team):
    """g = σ(x Wᵀ + b)."""
    forward_in_slices(g, x, W, b, slice_length(matrix(x).columns, matrix(g).columns), panels, team)


@jit(inline=True)
def forward_in_slices(g, x, W, b, kc, panels, team):
    """`layer_forward` whose sums are in slices of kc, or DOTS."""
    g, x, W = matrix(g), matrix(x), transposed(matrix(W))
    fused_product(BIAS_SIGMOID, g, broadcast_rows(row(b), g.rows), x, W, 0.0, kc, pointer(panels), team)


@jit(inline=True)
def output_delta(delta, grad_g, g):
    """δ = ∇g ⊙ g (1 - g) of the last layer; `delta` may be `grad_g`."""
    delta, grad_g, g = matrix(delta), matrix(grad_g), matrix(g)
    for i in range(g.rows):
        for j in range(g.columns):
            put(delta, i, j, get(grad_g, i, j) * sigmoid_derivative(get(g, i, j)))


@jit(inline=True)
def layer_delta(delta_below, delta, g_below, W, panels, team):
    """δ of the layer below = (δ W) ⊙ g (1 - g), with g (batch, N_in) its output; `delta_below` may be `g_below`."""
    fused_product(
        SIGMOID_DELTA,
        matrix(delta_below),
        matrix(g_below),
        matrix(delta),
        matrix(W),
        0.0,
        KC,
        pointer(panels),
        team,
    )


@jit(inline=True)
def layer_input_gradient(grad_x, delta, W, panels, team):
    """∇x = δ W."""
    c = matrix(grad_x)
    fused_product(STORE, c, c, matrix(delta), matrix(W), 0.0, KC, pointer(panels), team)


@jit(inline=True)
def layer_gradient(grad_W, grad_b, delta, x, panels, team):
    """∇W = δᵀ x and ∇b = Σ over the batch of δ."""
    finish_gradient(STORE, grad_W, grad_b, delta, x, 0.0, panels, team)


@jit(inline=True)
def layer_update(W, b, delta, x, learning_rate, panels, team):
    """W -= η δᵀ x and b -= η Σ over the batch of δ: a step of gradient descent whose gradient is never stored."""
    finish_gradient(SGD, W, b, delta, x, learning_rate, panels, team)


@jit(inline=True)
def finish_gradient(epilogue, W, b, delta, x, scale, panels, team):
    """Give ∇W and ∇b to an epilogue that writes W and b."""
    W, b, delta, x, panels = matrix(W), row(b), matrix(delta), matrix(x), pointer(panels)
    fused_product(epilogue, W, W, transposed(delta), x, scale, KC, panels, team)
    fused_sum(epilogue, b, delta, scale, KC, panels, crew_of(team, panels))
