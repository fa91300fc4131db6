"""Activations and their derivatives from the output, side by side, as expressions on vector registers."""

import functools

from .compiling import helper
from .simd import fma, two_to_the, where

# exp(r) = 1 + (r + r² P(r)) for |r| <= ln(2)/2: P minimax in relative error (Remez), of 2**-28 and 2**-58.
# ln(2) = high + low, where n * high is exact for every exponent n.
EXP = {
    32: {
        "mantissa": 23,
        "bias": 127,
        "ln2": (0.693359375, -2.12194440e-4),
        "largest": 80.0,  # exp(-80) is a normal number, far less than an ULP of 1
        "P": (0.4999999345, 0.1666652063, 0.04166838805, 0.00836871688, 0.001381459865),
    },
    64: {
        "mantissa": 52,
        "bias": 1023,
        "ln2": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
        "largest": 700.0,
        "P": (
            0.5000000000000011,
            0.1666666666666641,
            0.04166666666652919,
            0.008333333333495624,
            0.001388888894392264,
            0.00019841269504765357,
            2.4801492762795647e-05,
            2.755758734220382e-06,
            2.763037862080518e-07,
            2.4999965343255924e-08,
        ),
    },
}
LOG2_E = 1.4426950408889634


def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), within 1.5 ULP in float32 and 2 ULP in float64; σ(±∞) exact, NaN for NaN.

    With e = e⁻ˣ, the quotient 1 / (1 + e) is mended by a Newton step inverse += inverse h, h = 1 - inverse (1 + e).
    Written as h = (1 - inverse e) - inverse, it does without the rounding of 1 + e, which would cost another half ULP.
    Above `largest` σ is 1 to the last bit. It is taken for 0 where e is more than 2**(bias - 1/2), which n still tells:
    arithmetic on subnormal numbers costs hundreds of cycles. To compare x, kept until then, a step of 2-32-32-1 by 32
    takes 1.015 times as long.
    """
    c = EXP[x.simd.bits]
    z = where(x > c["largest"], c["largest"], x)
    magic = 1.5 * 2.0 ** c["mantissa"] + c["bias"]  # adding it rounds to n, and leaves n + bias in the low bits
    t = fma(z, -LOG2_E, magic)
    n = t - magic
    high, low = c["ln2"]
    r = fma(n, -low, fma(n, -high, -z))
    power = two_to_the(t, c["mantissa"])
    e = fma(fma(r * r, polynomial(c["P"], r), r), power, power)
    inverse = 1 / (e + 1)
    h = fma(-e, inverse, 1) - inverse
    return where(t > magic + (c["bias"] - 1), 0, fma(inverse, h, inverse))


def polynomial(coefficients, x):
    """c0 + x (c1 + c2 x + ...), in the brackets even powers and odd ones side by side, each by Horner's scheme in x².

    So half as many steps wait for each other as by one such scheme, and all coefficients but two stay in memory: by
    Estrin's scheme, which multiplies pairs first, predictions take 1.05 times as long in float64, steps 1.0 to 1.03.
    """
    first, *terms = coefficients
    square = x * x
    even, odd = (
        functools.reduce(lambda total, c: fma(total, square, c), reversed(part)) for part in (terms[::2], terms[1::2])
    )
    return fma(fma(odd, x, even), x, first)


@helper
def sigmoid_derivative(g):
    """σ′(f) = g (1 - g), from the output g = σ(f); also a scalar function in compiled code."""
    return g * (1 - g)
