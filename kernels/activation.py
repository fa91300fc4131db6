"""Activations and their derivatives from the output, side by side, as expressions on vector registers."""

from .compiling import helper
from .simd import fma, negated_exponent, two_to_the, where

# exp(r) = 1 + (r + r² P(r)) for |r| <= ln(2)/2: P minimax in relative error (Remez), of 2**-28 and 2**-58.
# ln(2) = high + low, where n * high is exact for every exponent n.
EXP = {
    32: {
        "mantissa": 23,
        "bias": 127,
        "ln2": (0.693359375, -2.12194440e-4),
        "largest": 80.0,  # exp(-80) is a normal number, far less than an ULP of 1
        "smallest": -87.33654,  # exp of less is below the smallest normal number
        "P": (0.4999999345, 0.1666652063, 0.04166838805, 0.00836871688, 0.001381459865),
    },
    64: {
        "mantissa": 52,
        "bias": 1023,
        "ln2": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
        "largest": 700.0,
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
LOG2_E = 1.4426950408889634
ABOVE = 1 + 7e-6  # more than 1/(1 - h⁴) below


def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), within 1.5 ULP in float32 and 2 ULP in float64; σ(±∞) exact, NaN for NaN.

    With e = e⁻ˣ and an estimate of 1 / (1 + e), a Newton step inverse += inverse h, h = 1 - inverse (1 + e), takes the
    place of a division. Written as h = (1 - inverse e) - inverse, whose second difference is exact, it does without the
    rounding of 1 + e, which would cost another half ULP. Above `largest` σ is 1 to the last bit; below `smallest` it is
    taken for 0, since arithmetic on subnormal numbers costs hundreds of cycles.
    """
    c = EXP[x.simd.bits]
    z = where(x > c["largest"], c["largest"], x)
    magic = 1.5 * 2.0 ** c["mantissa"]  # adding it rounds to a whole number and leaves that in the low bits
    t = fma(z, -LOG2_E, magic)
    n = t - magic
    high, low = c["ln2"]
    r = fma(n, -low, fma(n, -high, -z))
    square = r * r
    power = two_to_the(t, c["mantissa"], c["bias"])
    e = fma(fma(square, polynomial(c["P"], r, square), r), power, power)
    inverse = reciprocal_of_one_plus(e, c)
    if x.simd.bits == 64:  # to 2**-34
        inverse = fma(inverse, fma(-e, inverse, 1) - inverse, inverse)
    h = fma(-e, inverse, 1) - inverse
    return where(x < c["smallest"], 0, fma(inverse, h, inverse))


def reciprocal_of_one_plus(e, c):
    """1/(1 + e) to 2**-17: from a guess (1 - h)/(1 + e), |h| < 0.0506, times (1 + h) (1 + h²) = (1 - h⁴)/(1 - h).

    4/(1 + e) on the way, because a subnormal number would be a bad guess; and ABOVE it by what h⁴ may be: so the second
    difference of `sigmoid` is exact for e = 1 too, and σ(0) is 1/2.
    """
    x = fma(e, 0.25, 0.25)
    guess = negated_exponent(x, 5 - 24**0.5, c["mantissa"], c["bias"])
    h = fma(-x, guess, 1)
    guess = guess * (ABOVE / 4)
    inverse = fma(guess, h, guess)
    return fma(inverse, h * h, inverse)


def polynomial(coefficients, x, square):
    """c0 + c1 x + c2 x² + ... by Estrin's scheme, pairs of terms side by side: few steps that wait for another."""
    terms, power = list(coefficients), x
    while len(terms) > 1:
        pairs = [fma(high, power, low) for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs) :]
        power = square if power is x else power * power
    return terms[0]


@helper
def sigmoid_derivative(g):
    """σ′(f) = g (1 - g), from the output g = σ(f); also a scalar function in compiled code."""
    return g * (1 - g)
