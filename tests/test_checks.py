"""Bad input: the error names the argument, what was expected and what came, and the network stays as it was."""

import contextlib
import copy
import re
from decimal import Decimal

import numpy as np
import pytest
from conftest import name_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from fastmlp import Network, _checks

SIZES = [4, 6, 3]
SAMPLES = 5
X = np.random.default_rng(0).random((SAMPLES, 4))
Y = np.random.default_rng(1).random((SAMPLES, 3))

few = settings(deadline=None, max_examples=12)
more = settings(deadline=None, max_examples=30)

# Each way to hand in X and Y, and the names by which it knows them.
CALLS = {
    "fit": (lambda net, X, Y: net.fit(X, Y, epochs=1, batch_size=2), "X", "Y"),
    "train_step": (lambda net, X, Y: net.train_step(X, Y), "x", "y"),
    "loss": (lambda net, X, Y: net.loss(X, Y), "X", "Y"),
    "gradients": (lambda net, X, Y: net.gradients(X, Y, inputs=True), "X", "Y"),
    "validation_data": (
        lambda net, held_X, held_Y: net.fit(X, Y, epochs=1, batch_size=2, validation_data=(held_X, held_Y)),
        "validation_data[0]",
        "validation_data[1]",
    ),
    "predict": (lambda net, X, _: net.predict(X), "X", None),
}
places = pytest.mark.parametrize(
    ("call", "position"),
    [(call, position) for call, (_, *names) in CALLS.items() for position in (0, 1) if names[position]],
)


def type_name(value):
    return type(value).__name__


def start(value):
    return repr(value)[:20]


def network(dtype=np.float32):
    return Network(SIZES, dtype=dtype, seed=0)


@contextlib.contextmanager
def refused(net, error, name, *parts):
    """`error` alone, no subclass; its message begins with the argument and has the parts in it."""
    before, state = net.parameters.copy(), copy.deepcopy(net._rng.bit_generator.state)
    with pytest.raises(error, match=f"^{re.escape(name)}(?!\\w)") as raised:
        yield
    assert raised.type is error
    for part in parts:
        assert str(part) in str(raised.value)
    assert len(str(raised.value)) < 300  # nobody reads a dumped array
    assert net.parameters.tobytes() == before.tobytes()
    assert net._rng.bit_generator.state == state


def refuses(call, bad, position, error, *parts, dtype=np.float32):
    """The call refuses `bad` in place of X, position 0, or Y, position 1."""
    function, *names = CALLS[call]
    net = network(dtype)
    arguments = [X, Y]
    arguments[position] = bad
    with refused(net, error, names[position], *parts):
        function(net, *arguments)


# X and Y


def good(position):
    return (X, Y)[position]


@places
@few
@given(st.data())
def test_a_wrong_shape(call, position, draw):
    width = good(position).shape[1]
    shape = draw.draw(stn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    assume(not (len(shape) == 2 and shape[0] > 0 and shape[1] == width))
    refuses(call, np.ones(shape), position, ValueError, shape, *(["sample"] if shape[1:] == (width,) else [width]))


@places
@few
@given(st.sampled_from([[], [[]], [[], []], np.empty((0, 4)), np.empty((4, 0)), 3, 3.5, True, range(4)]))
def test_nothing_and_scalars(call, position, bad):
    refuses(call, bad, position, ValueError)


@places
def test_ragged_lists(call, position):
    refuses(call, [*good(position).tolist(), [1.0]], position, ValueError, good(position).shape[1])
    refuses(call, [[1.0, [2.0], 3.0, 4.0]], position, ValueError, good(position).shape[1])


NOT_REAL = {
    "object": lambda a: a.astype(object),
    "complex64": lambda a: a.astype(np.complex64),
    "complex128": lambda a: a.astype(complex),
    "<U": lambda a: a.astype(str),
    "|S": lambda a: a.astype(bytes),
    "datetime64": lambda a: a.astype("M8[s]"),
    "timedelta64": lambda a: a.astype("m8[s]"),
    "[('a', '<f4')]": lambda a: a.astype([("a", "<f4")]),
    "|V8": lambda a: a.copy().view("V8"),
    "None": lambda a: None,
    "'1, 2'": lambda a: "1, 2",
    "b'1, 2'": lambda a: b"1, 2",
    "{'a': 1}": lambda a: {"a": 1},
    "{1}": lambda a: {1},
    "(generator)": lambda a: (row for row in a),
    "<class 'list'>": lambda a: list,
}


@places
@pytest.mark.parametrize(("named", "make"), NOT_REAL.items(), ids=NOT_REAL)
def test_what_is_not_real_numbers(named, make, position, call):
    bad = make(good(position))
    refuses(call, bad, position, TypeError, named, "real numbers")
    if isinstance(bad, np.ndarray) and bad.dtype.kind in "cUSMm":
        refuses(call, bad.tolist(), position, TypeError, "real numbers")


@places
@pytest.mark.parametrize("element", [None, "1", 1j, 10**400, 2**64, object()], ids=name_of)
def test_an_element_that_is_no_real_number(element, position, call):
    rows = good(position).tolist()
    rows[2][1] = element
    refuses(call, rows, position, TypeError)


@places
@pytest.mark.parametrize("masked", [0, 1, 8])
def test_masked_arrays_even_where_nothing_is_masked(masked, position, call):
    """Their values below the mask would be taken for data."""
    values = np.ones((2, good(position).shape[1]))
    mask = np.arange(values.size).reshape(values.shape) < masked
    refuses(call, np.ma.array(values, mask=mask), position, TypeError, "filled")


@places
@more
@given(st.data(), st.sampled_from([np.nan, np.inf, -np.inf]), st.sampled_from([np.float32, np.float64]))
def test_one_nan_or_infinity_anywhere(call, position, draw, value, dtype):
    rows = draw.draw(st.sampled_from([1, 2, 3, 300]))
    bad = np.ones((rows, good(position).shape[1]), draw.draw(st.sampled_from([np.float16, np.float32, np.float64])))
    i, j = (draw.draw(st.integers(0, extent - 1)) for extent in bad.shape)
    bad[i, j] = value
    if draw.draw(st.booleans()):
        bad = np.asfortranarray(bad)
    if draw.draw(st.booleans()):
        bad, i = bad[::-1], rows - 1 - i
    refuses(call, bad, position, ValueError, value, f"[{i}, {j}]", "finite", dtype=dtype)


@pytest.mark.parametrize("weight", [-1e30, 0, 1e30])
def test_infinity_is_seen_whatever_the_first_neuron_makes_of_it(weight, dtype):
    """What the kernels look at first is its output, which finite samples may saturate too."""
    net = network(dtype)
    net.weights[0][0] = weight
    Y = np.ones((300, 3), dtype)
    for i, j in ((0, 0), (299, 3)):
        X = np.ones((300, 4), dtype)
        assert np.isfinite(net.predict(X)).all()
        assert np.isfinite(net.gradients(X, Y).parameters).all()
        for value in (np.inf, -np.inf, np.nan):
            X[i, j] = value
            for call, name, _ in map(CALLS.get, ("predict", "gradients", "train_step")):
                with refused(net, ValueError, name, value, f"[{i}, {j}]"):
                    call(net, X, Y)


def test_one_nan_anywhere_in_more_than_is_looked_at_at_once(dtype):
    net = Network([1, 2, 1], dtype=dtype, seed=0)
    values = np.zeros((2**21 + 1, 1), dtype)
    for i in (0, 2**20 - 1, 2**20, 2**21 - 1, 2**21):
        values[i] = np.nan
        for name, X, Y in (("X", values, np.ones_like(values)), ("Y", np.ones_like(values), values)):
            with refused(net, ValueError, name, "nan", f"[{i}, 0]"):
                net.fit(X, Y, epochs=1)
        values[i] = 0


@pytest.mark.parametrize("arguments", [{"epochs": 0}, {"shuffle": False}, {"batch_size": 1}], ids=str)
def test_a_nan_in_the_last_sample_of_a_fit_leaves_no_trace_of_the_others(arguments, dtype):
    bad = np.full((50, 4), 0.5, dtype)
    bad[-1, 2] = np.nan
    net = network(dtype)
    with refused(net, ValueError, "X", "nan", "[49, 2]"):
        net.fit(bad, np.ones((50, 3)), **arguments)


def test_a_vector_is_looked_at_in_few_blocks(monkeypatch, dtype):
    """Every compiled call of a fit has its parameters looked at, of which there may be millions."""
    parameters, looks = np.zeros(2**22, dtype), []
    isfinite = np.isfinite
    monkeypatch.setattr(np, "isfinite", lambda block: looks.append(block.shape) or isfinite(block))
    assert _checks.all_finite(parameters)
    assert len(looks) <= 8
    for i in (0, 2**20 - 1, 2**20, 2**22 - 1):
        parameters[i] = np.inf
        assert not _checks.all_finite(parameters)
        parameters[i] = 0


@places
@pytest.mark.parametrize("value", [1e39, -1e300, 2**62 * 10.0**20, np.longdouble(1e39)], ids=str)
def test_numbers_too_large_for_the_dtype(value, position, call):
    """Finite as they come, infinite as the network would have them."""
    bad = np.ones(good(position).shape, np.asarray(value).dtype)
    bad[3, 2] = value
    refuses(call, bad, position, ValueError, "too large for float32", "[3, 2]")


@pytest.mark.parametrize("call", [call for call in CALLS if call != "predict"])
@few
@given(st.integers(1, 300), st.integers(1, 300))
def test_different_numbers_of_samples(call, samples_X, samples_Y):
    assume(samples_X != samples_Y)
    function, name_X, name_Y = CALLS[call]
    net = network()
    with refused(net, ValueError, f"{name_X} and {name_Y}", samples_X, samples_Y):
        function(net, np.zeros((samples_X, 4)), np.zeros((samples_Y, 3)))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=12,
)
ARRAYS = stn.arrays(stn.scalar_dtypes(), stn.array_shapes(max_dims=3, max_side=5))


@places
@settings(deadline=None, max_examples=30)
@given(ANYTHING | ARRAYS)
def test_whatever_comes_is_taken_or_refused_by_name(call, position, bad):
    """No other error gets out, whatever NumPy makes of it, and what is refused has changed nothing."""
    function, *names = CALLS[call]
    net = network()
    before = net.parameters.copy()
    arguments = [X, Y]
    arguments[position] = bad
    message = ""
    try:
        function(net, *arguments)
    except (ValueError, TypeError) as error:
        message = str(error)
    except FloatingPointError:
        assert call in ("fit", "train_step")
        assert call == "fit" or net.parameters.tobytes() == before.tobytes()
    if message:
        assert re.match(re.escape(names[position]) + r"(?!\w)", message) or "as many samples" in message
        assert net.parameters.tobytes() == before.tobytes()


# Settings of fit and train_step

NOT_WHOLE = [1.5, 3.0, "3", b"3", None, True, False, np.True_, np.float64(2), 1j, [3], np.array([3]), Decimal(3)]
NOT_A_NUMBER = ["a", "0.1", b"0.1", None, True, np.False_, 0.1j, np.complex64(1), [0.1], (), {}, object(), np.ones(2)]


@pytest.mark.parametrize("bad", NOT_WHOLE, ids=name_of)
@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_counts_that_are_no_whole_number(name, bad):
    net = network()
    with refused(net, TypeError, name, "whole number", repr(bad)):
        net.fit(X, Y, **{name: bad})


@more
@given(st.integers(max_value=-1))
def test_counts_that_are_too_small(count):
    net = network()
    with refused(net, ValueError, "epochs", "at least 0", count):
        net.fit(X, Y, epochs=count)
    with refused(net, ValueError, "batch_size", "at least 1", count):
        net.fit(X, Y, batch_size=count)
    with refused(net, ValueError, "batch_size", "at least 1", 0):
        net.fit(X, Y, batch_size=0)


STEPS = {
    "fit": lambda net, rate: net.fit(X, Y, epochs=1, learning_rate=rate),
    "train_step": lambda net, rate: net.train_step(X, Y, learning_rate=rate),
}
steps = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


@steps
@pytest.mark.parametrize("bad", NOT_A_NUMBER, ids=type_name)
def test_a_learning_rate_that_is_no_number(bad, step):
    net = network()
    with refused(net, TypeError, "learning_rate", "number", type(bad).__name__):
        step(net, bad)


@steps
@few
@given(st.floats(max_value=0) | st.integers(max_value=0) | st.sampled_from([np.nan, np.inf, np.float32(np.inf)]))
def test_a_learning_rate_that_is_not_positive_and_finite(step, bad):
    net = network()
    with refused(net, ValueError, "learning_rate", "positive and finite", float(bad)):
        step(net, bad)


@pytest.mark.parametrize(
    "bad", [3, True, (), (X,), (X, Y, Y), X, {}, object(), list], ids=lambda bad: type(bad).__name__
)
def test_validation_data_that_are_no_pair(bad):
    net = network()
    with refused(net, TypeError, "validation_data", "pair"):
        net.fit(X, Y, validation_data=bad)


def test_validation_data_that_are_swapped():
    net = network()
    with refused(net, ValueError, "validation_data[0]", 4, Y.shape):
        net.fit(X, Y, validation_data=(Y, X))


@pytest.mark.parametrize("bad", [None, 3, True, "stop", [None], [print, 3], {"on_epoch": 3}, np.array(3)], ids=start)
def test_callbacks_that_cannot_be_called(bad):
    net = network()
    with refused(net, TypeError, "callbacks", "callable", type(bad).__name__):
        net.fit(X, Y, callbacks=bad)


@pytest.mark.parametrize("call", ["fit", "train_step", "gradients"])
def test_settings_are_keyword_only(call):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(TypeError):
        getattr(net, call)(X, Y, 1)
    assert net.parameters.tobytes() == before.tobytes()


# Construction


@pytest.mark.parametrize("bad", [None, 3, 3.5, True, "43", b"43", np.array(3), object(), list], ids=start)
def test_sizes_that_are_no_sequence(bad):
    with pytest.raises(TypeError, match=r"^sizes must be a sequence"):
        Network(bad)


@pytest.mark.parametrize("bad", NOT_WHOLE, ids=name_of)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_size_that_is_no_whole_number(place, bad):
    sizes = list(SIZES)
    sizes[place] = bad
    with pytest.raises(TypeError, match=rf"^sizes\[{place}\] must be a whole number"):
        Network(sizes)


@more
@given(st.lists(st.integers(1, 9), max_size=5), st.integers(0, 5), st.integers(max_value=0))
def test_a_size_below_one(sizes, place, bad):
    place = min(place, len(sizes))
    sizes.insert(place, bad)
    with pytest.raises(ValueError, match=rf"^sizes\[{place}\] must be at least 1, got {bad}$"):
        Network(sizes)


@pytest.mark.parametrize("bad", [[], (), [3], np.array([3]), np.array([], int), iter([3])], ids=name_of)
def test_fewer_than_two_sizes(bad):
    with pytest.raises(ValueError, match=r"^sizes must"):
        Network(bad)


@pytest.mark.parametrize("sizes", [[2**31, 2**31], [2**32, 2**31], [2**62, 4], [2**64, 1], [3, 10**30, 2]], ids=str)
def test_sizes_of_more_parameters_than_can_be_counted(sizes, dtype):
    """Their product, taken in 64 bits, would be a small number."""
    with pytest.raises(ValueError, match=r"^sizes"):
        Network(sizes, dtype=dtype)


NOT_A_DTYPE = [
    *(np.float16, np.longdouble, int, np.int32, bool, complex, np.complex64, object, str, None, 3, 3.5, object()),
    *("abc", "float16", "", ",", "f4,f4", "3f4", "M8[", [], {}, (np.float32, 2), {"names": ["a"]}, np.array([1.0])),
    *(np.dtype(np.float32).newbyteorder(), np.dtype(np.float64).newbyteorder()),
]


@pytest.mark.parametrize("bad", NOT_A_DTYPE, ids=start)
def test_a_dtype_other_than_float32_and_float64(bad):
    with pytest.raises(TypeError, match=r"^dtype must be float32 or float64, got "):
        Network(SIZES, dtype=bad)


@more
@given(st.text("fd48,()[]<>=|{}3 ", max_size=5) | ANYTHING)
def test_whatever_comes_as_dtype_is_taken_or_refused_by_name(bad):
    """NumPy has a whole parser for its dtypes, with the errors of a parser."""
    taken, message = (), ""
    try:
        taken = (Network(SIZES, dtype=bad).dtype,)
    except TypeError as error:
        message = str(error)
    assert taken in ((np.float32,), (np.float64,)) or message.startswith("dtype must be float32 or float64, got ")


@pytest.mark.parametrize("bad", [None, "", "relu", "Sigmoid", 3, ["sigmoid"], {}, np.tanh, b"sigmoid"], ids=name_of)
@pytest.mark.parametrize("name", ["activation", "loss"])
def test_an_unknown_activation_or_loss(name, bad):
    known = {"activation": "sigmoid", "loss": "mse"}[name]
    with pytest.raises(ValueError, match=rf"^{name} must be '{known}', got "):
        Network(SIZES, **{name: bad})


@pytest.mark.parametrize(
    "bad",
    [
        1.5,
        np.float32(1.5),
        np.float64(2),
        True,
        np.False_,
        "a",
        b"a",
        1j,
        {},
        object(),
        [1.5],
        np.array(1.5),
        np.random,
    ],
    ids=name_of,
)
def test_a_seed_that_is_none(bad):
    with pytest.raises(TypeError, match=r"^seed must be"):
        Network(SIZES, seed=bad)


@few
@given(st.integers(max_value=-1))
def test_a_negative_seed(bad):
    with pytest.raises(ValueError, match=r"^seed must be"):
        Network(SIZES, seed=bad)


@pytest.mark.parametrize(
    "arguments",
    [{"sizes": [3]}, {"sizes": [4, 0]}, {"dtype": int}, {"activation": "relu"}, {"loss": "mae"}],
    ids=str,
)
def test_a_refused_construction_draws_nothing_from_the_generator(arguments):
    generator = np.random.default_rng(0)
    before = copy.deepcopy(generator.bit_generator.state)
    with pytest.raises((TypeError, ValueError)):
        Network(**({"sizes": SIZES, "seed": generator} | arguments))
    assert generator.bit_generator.state == before
