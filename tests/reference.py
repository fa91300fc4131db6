"""The formulas of the project in plain NumPy of higher precision: what every fast kernel is tested against.

They are written for anything that has NumPy's operators: for arrays of longdouble, which give the exact value as far as
the kernels can tell, and for `Rounded`, which also gives the bound of the error that the kernels may make.
"""

import itertools
import math

import numpy as np

UNIT_ROUNDOFF = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
SIGMOID_ULP = {np.dtype(np.float32): 1.5, np.dtype(np.float64): 2.0}


def gamma(operations, dtype):
    """γ_n = n u / (1 - n u), the bound of n roundings one upon the other (Higham, Accuracy and Stability, 3.1)."""
    n = operations * UNIT_ROUNDOFF[np.dtype(dtype)]
    return n / (1 - n)


def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), from e⁻|x| so that nothing overflows."""
    if isinstance(x, Rounded):
        return x.sigmoid()
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1, e) / (1 + e)


class Rounded:
    """A longdouble array and the bound of the error with which `dtype` arithmetic computes it: running error analysis.

    Each operation passes the operands' errors on and adds its own rounding, u |result|, and a smallest normal number
    for what underflows. It bounds any order of summation.
    """

    def __init__(self, value, dtype, error=0):
        self.dtype = np.dtype(dtype)
        self.value = np.asarray(value, np.longdouble)
        self.error = np.broadcast_to(np.asarray(error, np.longdouble), self.value.shape)

    def _result(self, value, passed_on, roundings=1, magnitude=None):
        magnitude = np.abs(value) + passed_on if magnitude is None else magnitude
        rounding = gamma(roundings, self.dtype) * magnitude + roundings * np.finfo(self.dtype).tiny
        return Rounded(value, self.dtype, passed_on + rounding)

    def _operand(self, other):
        if isinstance(other, Rounded):
            return other
        return Rounded(other, self.dtype, np.abs(other) * UNIT_ROUNDOFF[self.dtype])

    @property
    def T(self):  # noqa: N802
        return Rounded(self.value.T, self.dtype, self.error.T)

    @property
    def size(self):
        return self.value.size

    def __add__(self, other):
        other = self._operand(other)
        return self._result(self.value + other.value, self.error + other.error)

    def __sub__(self, other):
        other = self._operand(other)
        return self._result(self.value - other.value, self.error + other.error)

    def __rsub__(self, other):
        return self._operand(other) - self

    def __mul__(self, other):
        x, y = self, self._operand(other)
        passed_on = np.abs(x.value) * y.error + x.error * np.abs(y.value) + x.error * y.error
        return self._result(x.value * y.value, passed_on)

    __rmul__ = __mul__

    def __matmul__(self, other):
        x, y = self, other
        magnitude = (np.abs(x.value) + x.error) @ (np.abs(y.value) + y.error)
        passed_on = magnitude - np.abs(x.value) @ np.abs(y.value)
        return self._result(x.value @ y.value, passed_on, x.value.shape[1], magnitude)

    def sum(self, axis):
        magnitude = (np.abs(self.value) + self.error).sum(axis)
        return self._result(self.value.sum(axis), self.error.sum(axis), self.value.shape[axis], magnitude)

    def sigmoid(self):
        """|σ'(t + ε)| <= σ'(t) e^|ε|, since |d log σ'/dt| <= 1."""
        value = sigmoid(self.value)
        slope = value * sigmoid(-self.value) * np.exp(self.error)
        ulp = 2 * UNIT_ROUNDOFF[self.dtype] * (value + slope * self.error)
        own = SIGMOID_ULP[self.dtype] * ulp + np.finfo(self.dtype).tiny
        return Rounded(value, self.dtype, slope * self.error + own)


def layers(parameters, sizes):
    """(W, b) of each layer in a flat vector: Wᵀ row-major, or W for few outputs of more inputs; then b."""
    result, offset = [], 0
    for n_in, n_out in itertools.pairwise(sizes):
        end = offset + n_in * n_out
        W = parameters[offset:end]
        is_W = 1 < n_out <= (12 if n_in < 256 else 5) and n_out < n_in
        W = W.reshape(n_out, n_in) if is_W else W.reshape(n_in, n_out).T
        result.append((W, parameters[end : end + n_out]))
        offset = end + n_out
    return result


def forward(layers, x):
    """g⁽⁰⁾ = x, g⁽¹⁾ ... g⁽ᴸ⁾ for the (W, b) of each layer."""
    g = [x]
    for W, b in layers:
        g.append(sigmoid(g[-1] @ W.T + b))
    return g


def mse(g, y):
    return ((g - y) ** 2).mean()


def gradients(layers, x, y):
    """[(∇W, ∇b) of each layer], ∇x."""
    g = forward(layers, x)
    grad_g = (2 / np.longdouble(y.size)) * (g[-1] - y)
    result = []
    for (W, _), below, output in reversed(list(zip(layers, g, g[1:], strict=False))):
        delta = grad_g * (output * (1 - output))
        result.append((delta.T @ below, delta.sum(0)))
        grad_g = delta @ W
    return result[::-1], grad_g


def shuffled(samples, rng):
    """The order of an epoch: keys are drawn, as many as few samples or many need, and every place is enciphered."""
    keys = rng.bit_generator.random_raw(8 if samples > 256 else 32)
    return enciphered(np.arange(samples), samples, keys & 0xFFFFFFFF)


def enciphered(places, samples, keys, bits=32):
    """A Feistel network over pairs (l, r), l < a, r < b, of numbers l b + r, until the number is one of a sample."""
    root = math.isqrt(samples - 1) + 1
    a = root + root % 2
    b = -(-samples // a)
    mask, half = np.uint64(2**bits - 1), np.uint64(bits // 2)
    extents = np.uint64(a), np.uint64(b)

    def added(other, key, extent):
        h = (other ^ key) * np.uint64(0x21F0AAAD) & mask
        h = (h ^ h >> half - np.uint64(1)) * np.uint64(0x735A2D97) & mask
        return (h >> half) * extent >> half

    numbers, outside = places.astype(np.uint64), np.ones(len(places), bool)
    while outside.any():
        pair = list(divmod(numbers[outside], extents[1]))
        for k, key in enumerate(keys):
            one = k % 2
            pair[one] = (pair[one] + added(pair[1 - one], key, extents[one])) % extents[one]
        numbers[outside] = pair[0] * extents[1] + pair[1]
        outside = numbers >= samples
    return numbers.astype(np.intp)
