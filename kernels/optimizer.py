"""Update rules, as expressions on vector registers, all with the signature (w, gradient, learning_rate)."""

from .simd import fma


def sgd(w, gradient, learning_rate):
    """w - η ∇w, rounded once."""
    return fma(-learning_rate, gradient, w)
