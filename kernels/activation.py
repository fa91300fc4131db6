"""Activations and their derivatives from the output, side by side, as expressions on vector registers."""

from numba.extending import register_jitable

from .simd import fma, two_to_the, where

# exp(r) = 1 + r (1 + r P(r)) for |r| <= ln(2)/2: P minimax in relative error (Remez), of 2**-28 and 2**-58.
# ln(2) = high + low, where n * high is exact for every exponent n.
EXP = {
    32: {
        "mantissa": 23,
        "bias": 127,
        "ln2": (0.693359375, -2.12194440e-4),
        "smallest": -87.33654,  # exp of less is below the smallest normal number
        "P": (0.4999999345, 0.1666652063, 0.04166838805, 0.00836871688, 0.001381459865),
    },
    64: {
        "mantissa": 52,
        "bias": 1023,
        "ln2": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
        "smallest": -708.3964185322641,
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
LN2, LOG2_E = 0.6931471805599453, 1.4426950408889634

# 1/(1 + e) for 0 <= e <= 1, minimax in relative error: 2**-14.26
INVERSE = (0.999948982, -0.9962757, 0.953420744, -0.77057293, 0.41793786, -0.104484465)


def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), within 1.5 ULP in float32 and 2 ULP in float64; σ(±∞) exact, NaN for NaN.

    With e = exp(-|x|) = m 2ⁿ nothing overflows: σ(-|x|) = e / (1 + e) and σ(|x|) = 1 - σ(-|x|). An e that would be
    subnormal, which costs hundreds of cycles, is replaced by one whose 2ⁿ has exponent bits of 0, which is 0. A
    division would take as long as all the rest: a polynomial and Newton steps inverse += inverse h, with
    h = 1 - inverse (1 + e), take its place. The last of them is left unevaluated, so that the quotient is rounded
    once, and done on m, so that nothing else is subnormal on the way.
    """
    c = EXP[x.simd.bits]
    z = -abs(x)
    z = where(z < c["smallest"], -c["bias"] * LN2, z)
    magic = 1.5 * 2.0 ** c["mantissa"]  # adding it rounds to a whole number and leaves that in the low bits
    t = fma(z, LOG2_E, magic)
    n = t - magic
    high, low = c["ln2"]
    r = fma(n, -low, fma(n, -high, z))
    m = fma(r, fma(r, polynomial(r, c["P"]), 1), 1)
    power = two_to_the(t, c["mantissa"], c["bias"])
    e = m * power
    inverse = polynomial(e, INVERSE)
    if x.simd.bits == 64:  # to 2**-28, and not below 1/(1 + e), so that 1 - inverse is exact for e = 1 too
        inverse = fma(inverse, fma(-e, inverse, (1 + 2**-28) - inverse), inverse)
    h = fma(-e, inverse, 1 - inverse)
    q = fma(m, inverse, m * (inverse * h)) * power
    return where(x > 0, 1 - q, q)


def polynomial(x, coefficients):
    """c0 + c1 x + c2 x² + ... by Horner's rule."""
    total = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = fma(total, x, c)
    return total


@register_jitable
def sigmoid_derivative(g):
    """σ′(f) = g (1 - g), from the output g = σ(f); also a scalar function in compiled code."""
    return g * (1 - g)
