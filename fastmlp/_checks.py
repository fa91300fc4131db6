"""What is accepted from outside: each function gives back the value as the kernels take it, or names what is wrong."""

import math
import numbers
import operator

import numpy as np

from ._memory import count_parameters

MOST_PARAMETERS = 2**56
"""So that no offset in bytes overflows a 64-bit integer; memory ends long before."""


def whole_number(name, value, *, least=1):
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a whole number, got {_describe(value)}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def positive_number(name, value):
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a real number, got {_describe(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be positive and finite, got {number}")
    return number


def choice(name, value, choices):
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {_describe(value)}")
    return value


def float_dtype(name, value):
    try:
        dtype = np.dtype(value)
    except Exception:  # of many kinds: NumPy parses what it is given
        dtype = None
    if value is None or dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {_describe(value)}")
    return dtype


def layer_sizes(sizes):
    widths = None if isinstance(sizes, str | bytes) else _sequence(sizes)
    if widths is None:
        raise TypeError(f"sizes must be a sequence of layer widths, got {_describe(sizes)}")
    widths = tuple(whole_number(f"sizes[{i}]", width) for i, width in enumerate(widths))
    if len(widths) < 2:
        raise ValueError(f"sizes must name at least an input and an output width, got {list(widths)}")
    if count_parameters(widths) > MOST_PARAMETERS:
        raise ValueError(f"sizes must make at most {MOST_PARAMETERS} parameters, got {_describe(list(widths))}")
    return widths


def generator(seed):
    if isinstance(seed, bool | np.bool_ | float | str):
        raise TypeError(f"seed must be a whole number or a numpy.random.Generator, got {_describe(seed)}")
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed must be a whole number >= 0 or a numpy.random.Generator: {error}") from None


def samples(name, value, width, dtype, finite=True):
    """`value` as a finite (samples, width) array of `dtype`: itself where it already is one, else a copy.

    Without `finite` that is left to the kernel, which sees every number anyway.
    """
    if not finite and type(value) is np.ndarray and value.dtype == dtype and value.flags.carray:
        shape = value.shape
        if len(shape) == 2 and shape[1] == width and shape[0] > 0:
            return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an ordinary array, got a masked array: fill it first, as by {name}.filled(0)")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of shape (samples, {width}): {error}") from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers, got {array.dtype if array.ndim else _describe(value)}")
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{name} must have shape (samples, {width}), got {array.shape}")
    if array.shape[0] == 0:
        raise ValueError(f"{name} must have at least one sample, got shape {array.shape}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype, copy=False)
    if not converted.flags.aligned or any(stride % dtype.itemsize for stride in converted.strides):
        converted = np.array(converted)
    if finite and not all_finite(converted):
        i, j = np.argwhere(~np.isfinite(converted))[0]
        what = array[i, j] if not np.isfinite(array[i, j]) else f"{array[i, j]}, too large for {dtype}"
        raise ValueError(f"{name} must be finite, got {what} at [{i}, {j}]")
    return converted


def sample_pairs(X, Y, sizes, dtype, names=("X", "Y"), finite=True):
    """X and Y as `samples`, of the same number."""
    X = samples(names[0], X, sizes[0], dtype, finite)
    Y = samples(names[1], Y, sizes[-1], dtype, finite)
    if len(X) != len(Y):
        if not finite:  # a number that is not comes first
            return sample_pairs(X, Y, sizes, dtype, names)
        raise ValueError(f"{names[0]} and {names[1]} must have as many samples, got {len(X)} and {len(Y)}")
    return X, Y


def pair(name, value):
    try:
        X, Y = value
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a pair (X, Y), got {_describe(value)}") from None
    return X, Y


def callables(name, value):
    """A sequence of callables; one alone may stand for itself."""
    values = (value,) if callable(value) else _sequence(value)
    if values is None or not all(map(callable, values)):
        raise TypeError(f"{name} must be a callable or a sequence of callables, got {_describe(value)}")
    return values


def all_finite(array):
    """Whether no element is NaN or infinite; by blocks of rows, to need no memory as large as the array."""
    rows = max(1, 2**20 * len(array) // array.size)
    return all(np.isfinite(array[i : i + rows]).all() for i in range(0, len(array), rows))


def _sequence(value):
    """The elements of an iterable; None for anything else."""
    try:
        return tuple(value)
    except TypeError:
        return None


def _describe(value):
    text = repr(value)
    return f"{text if len(text) < 60 else text[:57] + '...'} ({type(value).__name__})"
