"""Activations and their derivatives from the output, side by side, as expressions on vector registers."""

from numba.extending import register_jitable

from .simd import fma, two_to_the, where

# exp(r) = 1 + r + r**2 P(r) for |r| <= ln(2)/2: P minimax in relative error (Remez), of 2**-34 and 2**-58.
# ln(2) = high + low, where n * high is exact for every exponent n.
EXP = {
    32: {
        "mantissa": 23,
        "bias": 127,
        "ln2": (0.693359375, -2.12194440e-4),
        "smallest": -87.33654,  # exp of less is below the smallest normal number
        "negligible": -20.0,  # 1 + exp of less is 1 within 1/20 ULP
        "P": (0.5, 0.16666666, 0.041666295, 0.008333498, 0.0013944758, 0.00019790242),
    },
    64: {
        "mantissa": 52,
        "bias": 1023,
        "ln2": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
        "smallest": -708.3964185322641,
        "negligible": -40.0,
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


def exp_of_negative(z):
    """e**z for z <= 0: 2**n e**r with n = round(z / ln 2); 0 where it would be subnormal, NaN where z is."""
    c = EXP[z.simd.bits]
    magic = 1.5 * 2.0 ** c["mantissa"]  # adding it rounds to a whole number and leaves that in the low bits
    t = fma(z, LOG2_E, magic)
    n = t - magic
    high, low = c["ln2"]
    r = fma(n, -low, fma(n, -high, z))
    p = c["P"][-1]
    for coefficient in reversed(c["P"][:-1]):
        p = fma(r, p, coefficient)
    e = (1 + fma(r * r, p, r)) * two_to_the(t, c["mantissa"], c["bias"])
    return where(z < c["smallest"], 0, e)


def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), within 1.5 ULP in float32 and 2 ULP in float64; σ(±∞) exact, NaN for NaN.

    With e = exp(-|x|) nothing overflows: σ(-|x|) = e / (1 + e) and σ(|x|) = 1 - σ(-|x|). The rounding error
    of the denominator d + low = 1 + e is known exactly, and one Newton step on the quotient takes it back:
    2.2 ULP become 1.4.
    """
    z = -abs(x)
    e = exp_of_negative(z)
    d = 1 + e
    low = e - (d - 1)
    # e**2 below would be subnormal for x < -44 in float32, and cost 100 cycles: it changes nothing long before
    low = where(z < EXP[x.simd.bits]["negligible"], 0, low)
    inverse = 1 / d
    q = e * inverse
    q = fma(fma(-low, q, fma(-q, d, e)), inverse, q)
    return where(x > 0, 1 - q, q)


@register_jitable
def sigmoid_derivative(g):
    """σ′(f) = g (1 - g), from the output g = σ(f); also a scalar function in compiled code."""
    return g * (1 - g)
