"""`Network` apart from `fit`: what it is made of, and its methods against each other and on every kind of array."""

import array
import copy
import itertools
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import reference
from conftest import name_of

from fastmlp import Gradients, Network

SIZES = [5, 7, 3]
N_PARAMETERS = 5 * 7 + 7 + 7 * 3 + 3


def batch(samples, sizes=SIZES, seed=1):
    """(X, Y) of float64 values that float16 holds exactly, so that a change of dtype changes no value."""
    rng = np.random.default_rng(seed)
    return rng.integers(-16, 17, (samples, sizes[0])) / 8, rng.integers(0, 9, (samples, sizes[-1])) / 8


def same_bits(a, b):
    """Equal in shape, dtype and every bit: ±0 differ, NaN equals itself."""
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


# Construction


def test_defaults():
    net = Network(SIZES)
    assert net.sizes == (5, 7, 3)
    assert net.dtype == np.float32
    assert isinstance(net.dtype, np.dtype)
    assert net.n_parameters == N_PARAMETERS
    assert isinstance(net.n_parameters, int)
    assert repr(net) == "Network([5, 7, 3], activation='sigmoid', loss='mse', dtype='float32', n_parameters=66)"


@pytest.mark.parametrize("sizes", [(5, 7, 3), np.array(SIZES, np.int8), range(7, 2, -2), iter(SIZES)], ids=name_of)
def test_sizes_are_any_sequence_of_whole_numbers(sizes):
    net = Network(sizes, seed=0)
    assert net.sizes in [(5, 7, 3), (7, 5, 3)]
    assert all(type(size) is int for size in net.sizes)  # NumPy's small integers would overflow in products
    assert net.n_parameters == sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(net.sizes))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", np.float32),
        ("f4", np.float32),
        (np.dtype(np.float32), np.float32),
        (np.float64, np.float64),
        (float, np.float64),
    ],
    ids=name_of,
)
def test_dtype_is_anything_that_numpy_takes_for_one(dtype, expected):
    net = Network(SIZES, dtype=dtype)
    assert net.dtype == expected
    for held in (net.parameters, *net.weights, *net.biases, net.predict(batch(2)[0])):
        assert held.dtype == expected


def test_arguments_behind_sizes_are_keyword_only():
    with pytest.raises(TypeError):
        Network(SIZES, "sigmoid")


def test_the_same_seed_gives_the_same_bits(dtype):
    first = Network(SIZES, dtype=dtype, seed=3)
    assert same_bits(first.parameters, Network(SIZES, dtype=dtype, seed=np.int64(3)).parameters)
    assert same_bits(first.parameters, Network(SIZES, dtype=dtype, seed=np.random.default_rng(3)).parameters)
    assert not same_bits(first.parameters, Network(SIZES, dtype=dtype, seed=4).parameters)


def test_a_generator_is_drawn_from_and_no_seed_means_a_new_one():
    generator = np.random.default_rng(3)
    networks = [Network(SIZES, seed=seed) for seed in (generator, generator, None, None)]
    for net in networks:
        assert [same_bits(net.parameters, other.parameters) for other in networks].count(True) == 1


def test_initial_weights_are_uniform_in_the_documented_bounds(dtype):
    net = Network([200, 300, 50], dtype=dtype, seed=0)
    for W, n_in, n_out in zip(net.weights, (200, 300), (300, 50), strict=True):
        bound = 3 * math.sqrt(6 / (n_in + n_out))
        assert abs(W).max() <= np.nextafter(dtype.type(bound), dtype.type(np.inf))
        # Of n uniform draws a quarter of the range gets n/4 ± 6 standard deviations; the chance is 1e-8.
        counts, _ = np.histogram(W, 4, (-bound * 1.00001, bound * 1.00001))
        assert abs(counts - W.size / 4).max() < 6 * math.sqrt(W.size * 3 / 16)
        assert min(W.max(), -W.min()) > 0.998 * bound
        # ... whatever the row and the column
        for axis in (0, 1):
            terms = W.shape[axis]
            assert abs(W.mean(axis)).max() < 6 * bound / math.sqrt(3 * terms)
    for b in net.biases:
        assert same_bits(b, np.zeros(b.size, dtype))


# Parameters


@pytest.mark.parametrize("sizes", [SIZES, [255, 12, 1], [256, 12, 13], [3, 3, 2], [256, 5, 2], [5, 256, 5], [256, 6]])
def test_parameters_are_one_vector_in_the_documented_order(sizes, dtype):
    net = Network(sizes, dtype=dtype, seed=0)
    n_parameters = sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(sizes))
    assert n_parameters == N_PARAMETERS or sizes != SIZES
    assert net.parameters.shape == (n_parameters,)
    assert net.parameters.flags.c_contiguous
    assert net.parameters.flags.writeable
    net.parameters[:] = np.arange(n_parameters)
    offset = 0
    for W, b, n_in, n_out in zip(net.weights, net.biases, sizes, sizes[1:], strict=False):
        expected = offset + np.arange(n_in * n_out)
        narrow = 2 <= n_out <= 12 and n_out < n_in
        expected = expected.reshape(n_out, n_in) if narrow else expected.reshape(n_in, n_out).T
        np.testing.assert_array_equal(W, expected)
        offset += n_in * n_out
        np.testing.assert_array_equal(b, offset + np.arange(n_out))
        offset += n_out
    assert offset == n_parameters
    assert len(net.weights) == len(net.biases) == len(sizes) - 1


def test_weights_and_biases_write_through(dtype):
    net = Network(SIZES, dtype=dtype, seed=0)
    for view in (*net.weights, *net.biases):
        view[...] = 0
    assert same_bits(net.parameters, np.zeros(N_PARAMETERS, dtype))
    assert same_bits(net.predict(np.ones((2, 5))), np.full((2, 3), 0.5, dtype))
    # Input 4 reaches hidden unit 6 alone, which reaches output 1 alone: the indices are [to, from].
    net.weights[0][6, 4] = 3
    net.weights[1][1, 6] = 2
    net.biases[1][2] = 1
    hidden, idle = 1 / (1 + math.exp(-3)), 0.5
    expected = [1 / (1 + math.exp(-f)) for f in (0, 2 * hidden, 1)]
    np.testing.assert_allclose(net.predict(np.eye(5)[4:]), [expected], rtol=4 * np.finfo(dtype).eps)
    expected[1] = 1 / (1 + math.exp(-2 * idle))
    np.testing.assert_allclose(net.predict(np.eye(5)[:1]), [expected], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["parameters", "weights", "biases", "sizes", "dtype", "n_parameters"])
def test_attributes_cannot_be_replaced(name):
    """A vector of another length or dtype put in their place would have the kernels read past its end."""
    net = Network(SIZES)
    with pytest.raises(AttributeError):
        setattr(net, name, getattr(net, name))
    with pytest.raises(TypeError):
        net.weights[0] = net.weights[0]


# predict, loss, gradients and train_step against each other

BATCHES = [1, 11, 256, 257, 600]  # `predict` and `loss` take 256 rows at a time


@pytest.mark.parametrize("samples", BATCHES)
def test_a_row_of_predict_depends_on_its_own_row_alone(samples, dtype):
    net = Network(SIZES, dtype=dtype, seed=0)
    X, _ = batch(samples)
    g = net.predict(X)
    assert g.shape == (samples, 3)
    for i in {0, samples // 2, samples - 1}:
        assert same_bits(g[i : i + 1], net.predict(X[i : i + 1]))
    assert same_bits(g[::-1], net.predict(X[::-1]))


@pytest.mark.parametrize("samples", BATCHES)
def test_loss_is_the_mean_over_outputs_and_samples(samples, dtype):
    """The square, the sum and the mean are taken in float64: n terms of one sign round by at most n + 3 units."""
    net = Network(SIZES, dtype=dtype, seed=0)
    X, Y = batch(samples)
    g = net.predict(X).astype(np.longdouble)
    expected = np.mean((g - Y) ** 2)
    rounding = (g.size + 3) * np.finfo(float).eps * expected
    for loss in (net.loss(X, Y), net.gradients(X, Y).loss):
        assert isinstance(loss, float)
        assert abs(loss - expected) <= rounding


def test_gradients_are_slopes_of_the_loss(dtype):
    """Central differences in the widest float there is, of step h with an error of about h²."""
    net = Network(SIZES, dtype=dtype, seed=0)
    X, Y = batch(11)
    parameters = net.parameters.astype(np.longdouble)
    inputs = X.astype(np.longdouble)

    def loss(parameters, x):
        g = x
        for W, b in reference.layers(parameters, SIZES):
            g = 1 / (1 + np.exp(-(g @ W.T + b)))
        return np.mean((g - Y) ** 2)

    h = np.cbrt(np.finfo(np.longdouble).eps)

    def slopes(function, at):
        steps = h * np.eye(at.size, dtype=np.longdouble).reshape(-1, *at.shape)
        return np.reshape([(function(at + step) - function(at - step)) / (2 * h) for step in steps], at.shape)

    gradient = net.gradients(X, Y, inputs=True)
    # Each entry is a sum of 11 terms, each through at most 7 + 3 more, of a size of at most 1/4.
    tolerance = 11 * 10 * np.finfo(dtype).eps / 4 + 10 * h**2
    assert abs(gradient.parameters - slopes(lambda p: loss(p, inputs), parameters)).max() < tolerance
    assert abs(gradient.inputs - slopes(lambda x: loss(parameters, x), inputs)).max() < tolerance
    assert abs(gradient.parameters).max() > 1000 * tolerance
    assert abs(gradient.inputs).max() > 1000 * tolerance


def test_gradients_are_views_of_a_vector_laid_out_as_the_parameters(dtype):
    net = Network(SIZES, dtype=dtype, seed=0)
    before = net.parameters.copy()
    gradient = net.gradients(*batch(11))
    assert isinstance(gradient, Gradients)
    assert gradient.inputs is None
    assert gradient.parameters.shape == (N_PARAMETERS,)
    assert gradient.parameters.dtype == dtype
    assert not np.shares_memory(gradient.parameters, net.parameters)
    for views, of_net in ((gradient.weights, net.weights), (gradient.biases, net.biases)):
        assert [view.shape for view in views] == [view.shape for view in of_net]
        for view, of_net_view in zip(views, of_net, strict=True):
            # the same place in either vector
            of_net_view[...] = view
    assert same_bits(net.parameters, gradient.parameters)
    for view in (*gradient.weights, *gradient.biases):
        view[...] = 0
    assert not gradient.parameters.any()
    net.parameters[:] = before
    assert net.gradients(*batch(11)).parameters.any()


def test_gradients_of_the_inputs_change_nothing_else(dtype):
    net = Network(SIZES, dtype=dtype, seed=0)
    X, Y = batch(11)
    before = net.parameters.copy()
    without, with_inputs = net.gradients(X, Y), net.gradients(X, Y, inputs=True)
    assert with_inputs.inputs.shape == X.shape
    assert with_inputs.inputs.dtype == dtype
    assert same_bits(with_inputs.parameters, without.parameters)
    assert with_inputs.loss == without.loss
    assert same_bits(net.parameters, before)


@pytest.mark.parametrize("samples", [1, 11, 600])
@pytest.mark.parametrize("learning_rate", [0.1, 3])
def test_a_step_goes_against_the_gradient(learning_rate, samples, dtype):
    """The learning rate, its product with the gradient and the difference are rounded once each at most."""
    net = Network(SIZES, dtype=dtype, seed=0)
    X, Y = batch(samples)
    before, gradient = net.parameters.astype(np.longdouble), net.gradients(X, Y)
    loss = net.train_step(X, Y, learning_rate=learning_rate)
    assert isinstance(loss, float)
    assert loss == pytest.approx(gradient.loss, rel=4 * np.finfo(float).eps)
    change = np.longdouble(learning_rate) * gradient.parameters
    unit = np.finfo(dtype).eps / 2
    rounding = unit * (2 * abs(change) + abs(before - change)) * (1 + 4 * unit)
    assert (abs(net.parameters - (before - change)) <= rounding).all()
    assert (abs(change) > 100 * rounding).any()


# Copies

COPIERS = {
    "copy": Network.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle protocol {protocol}": lambda net, protocol=protocol: pickle.loads(pickle.dumps(net, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("copier", COPIERS.values(), ids=COPIERS)
def test_a_copy_goes_on_as_the_original_would(copier, dtype):
    X, Y = batch(30)
    net = Network(SIZES, dtype=dtype, seed=0)
    net.fit(X, Y, epochs=2, batch_size=4)  # the generator is then at no state that a seed gives
    twin = copier(net)
    assert repr(twin) == repr(net)
    assert same_bits(twin.parameters, net.parameters)
    assert same_bits(twin.predict(X), net.predict(X))

    before = net.parameters.copy()
    ahead = twin.fit(X, Y, epochs=2, batch_size=4)
    assert same_bits(net.parameters, before)
    history = net.fit(X, Y, epochs=2, batch_size=4)
    assert same_bits(net.parameters, twin.parameters)
    assert history.loss == ahead.loss
    assert not same_bits(net.parameters, before)


@pytest.mark.parametrize("copier", COPIERS.values(), ids=COPIERS)
def test_a_copy_shares_no_memory_and_keeps_its_views(copier):
    net = Network(SIZES, seed=0)
    twin = copier(net)
    assert not np.shares_memory(twin.parameters, net.parameters)
    for view in (*twin.weights, *twin.biases):
        view[...] = 0
    assert not twin.parameters.any()
    assert twin.parameters.flags.writeable
    assert net.parameters.any()
    # Both begin a cache line: from another address the vector loads of the weights would take longer.
    assert net.parameters.ctypes.data % 64 == twin.parameters.ctypes.data % 64 == 0


# Array-likes


class ArrayInterface:
    """As a data frame: no array, but it says how to become one."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


def packed(values):
    """The field of a structure that begins with one byte, so that no element is aligned, nor are the strides whole."""
    rows, columns = values.shape
    records = np.zeros(rows, np.dtype([("byte", np.uint8), ("values", values.dtype, (columns,)), ("end", np.uint8)]))
    records["values"] = values
    return records["values"]


def packed_elements(values):
    """As `packed`, but the structure is one element: the stride from column to column is not whole either."""
    records = np.zeros(values.shape, np.dtype([("byte", np.uint8), ("value", values.dtype)]))
    records["value"] = values
    return records["value"]


def behind_a_byte(values):
    memory = np.zeros(values.nbytes + 1, np.uint8)
    memory[1:] = np.frombuffer(values.tobytes(), np.uint8)
    return memory[1:].view(values.dtype).reshape(values.shape)


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def memory_map(values, mode, path):
    """Behind a header, as in a .npy file, and not a multiple of a page."""
    path.write_bytes(bytes(64) + values.tobytes())
    return np.memmap(path, values.dtype, mode, 64, values.shape)


FORMS = {
    "list of lists": lambda a, _: a.tolist(),
    "tuple of tuples": lambda a, _: tuple(map(tuple, a.tolist())),
    "list of arrays": lambda a, _: list(a),
    "list of ints": lambda a, _: (8 * a).astype(int).tolist(),
    "list of array.array": lambda a, _: [array.array("d", row) for row in a],
    "memoryview": lambda a, _: memoryview(a),
    "__array__": lambda a, _: ArrayInterface(a),
    **{
        np.dtype(dtype).name: lambda a, _, dtype=dtype: (a if np.dtype(dtype).kind == "f" else abs(8 * a)).astype(dtype)
        for dtype in (bool, np.uint8, np.int16, np.int64, np.uint64, np.float16, np.float32, float, np.longdouble)
    },
    "Fortran order": lambda a, _: np.asfortranarray(a),
    "rows reversed": lambda a, _: a[::-1],
    "columns reversed": lambda a, _: a[:, ::-1],
    "both reversed": lambda a, _: a[::-1, ::-1],
    "every second row": lambda a, _: np.repeat(a, 2, 0)[::2],
    "every second column": lambda a, _: np.repeat(a, 2, 1)[:, ::2],
    "every third of both, reversed": lambda a, _: np.repeat(np.repeat(a, 3, 0), 3, 1)[::-3, ::-3],
    "columns of a wider array": lambda a, _: np.hstack([a, a, a])[:, a.shape[1] - 1 : 2 * a.shape[1] - 1],
    "one row many times": lambda a, _: np.broadcast_to(a[:1], a.shape),
    "one column many times": lambda a, _: np.broadcast_to(a[:, :1], a.shape),
    "read-only": lambda a, _: read_only(a),
    "memory map, read-only": lambda a, path: memory_map(a, "r", path),
    "memory map, copied on write": lambda a, path: memory_map(a, "c", path),
    "bytes swapped": lambda a, _: a.astype(a.dtype.newbyteorder()),
    "bytes swapped, Fortran order": lambda a, _: np.asfortranarray(a.astype(a.dtype.newbyteorder())),
    "field of a packed structure": lambda a, _: packed(a),
    "packed structures of one element": lambda a, _: packed_elements(a),
    "behind a byte": lambda a, _: behind_a_byte(a),
    "subclass": lambda a, _: a.view(type("Subclass", (np.ndarray,), {})),
}


@pytest.mark.parametrize("own_dtype", [False, True], ids=["float64", "network's dtype"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_any_array_like_gives_the_bits_of_a_contiguous_copy(form, own_dtype, dtype, tmp_path):
    """In either dtype: one is converted, and so copied, and of the other the kernels see the strides."""
    net = Network(SIZES, dtype=dtype, seed=0)
    given, plain = [], []
    for name, values in zip("XY", batch(37), strict=True):
        given.append(form(np.ascontiguousarray(values, dtype if own_dtype else float), tmp_path / name))
        # NumPy makes the copy, and from a list, for it to be of the plainest kind
        plain.append(np.array(np.asarray(given[-1]).tolist(), dtype, order="C"))
    before = [np.array(values).tobytes() for values in given]
    results = []
    for X, Y in (given, plain):
        learner = net.copy()
        gradient = learner.gradients(X, Y, inputs=True)
        results.append(
            [
                learner.predict(X),
                learner.loss(X, Y),
                gradient.loss,
                gradient.parameters,
                gradient.inputs,
                learner.train_step(X, Y),
                learner.parameters.copy(),
                *learner.fit(X, Y, epochs=2, batch_size=8, validation_data=(X, Y)).loss,
                learner.parameters,
                *learner.fit(X, Y, epochs=1, batch_size=8, shuffle=False).loss,
                learner.parameters,
            ]
        )
    for of_given, of_plain in zip(*results, strict=True):
        assert same_bits(of_given, of_plain)
    assert [np.array(values).tobytes() for values in given] == before


# Threads and processes


def run_python(code, path, layer):
    """Run code away from the checkout with two threads of one of Numba's threading layers."""
    library = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}[layer]
    pytest.importorskip(f"numba.np.ufunc.{library}", exc_type=ImportError)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"},
        cwd=path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    # The test would be empty if all of it had run on one thread.
    assert done.stdout.split() == [layer, "2"]


layers = pytest.mark.parametrize("layer", ["omp", "tbb", "workqueue"])

# Products of a minibatch and 256 x 256 weights are shared by both threads, on every layer.
PARALLEL = """
import numba, numpy as np, os
from fastmlp import Network
from fastmlp.kernels.blocking import GRAIN

samples = 2 * GRAIN[os.environ["NUMBA_THREADING_LAYER"]] // 256**2 + 1
rng = np.random.default_rng(0)
X, Y = rng.random((samples, 256), np.float32), rng.random((samples, 4), np.float32)

def train(seed):
    net = Network([256, 256, 256, 4], seed=seed)
    loss = net.fit(X, Y, epochs=3, batch_size=samples - 1).loss
    return net.parameters.tobytes(), net.predict(X).tobytes(), net.gradients(X, Y).parameters.tobytes(), loss
"""


@layers
def test_networks_in_threads_of_python_train_as_they_would_alone(layer, tmp_path):
    """Two parallel regions at once end the process under the workqueue layer."""
    code = f"""{PARALLEL}
from concurrent.futures import ThreadPoolExecutor

alone = [train(seed) for seed in range(4)]
assert len(set(map(str, alone))) == 4
with ThreadPoolExecutor(4) as pool:
    assert list(pool.map(train, 3 * [0, 1, 2, 3])) == 3 * alone

net = Network([256, 256, 256, 4], seed=0)
alone = net.predict(X).tobytes()
with ThreadPoolExecutor(4) as pool:
    assert set(pool.map(lambda _: net.predict(X).tobytes(), range(20))) == {{alone}}
print(numba.threading_layer(), numba.get_num_threads())
"""
    run_python(code, tmp_path, layer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@layers
@pytest.mark.parametrize("parent_first", [True, False], ids=["parent first", "child first"])
def test_a_forked_child_trains_as_its_parent(parent_first, layer, tmp_path):
    """GNU OpenMP ends a child that asks for threads where its parent had started some."""
    code = f"""{PARALLEL}
import multiprocessing

alone = [train(0), train(1)] if {parent_first} else []
with multiprocessing.get_context("fork").Pool(2) as pool:
    children = pool.map_async(train, [0, 1, 0], chunksize=1).get(200)
alone = alone or [train(0), train(1)]
assert alone[0] != alone[1]
assert children == [*alone, alone[0]]
print(numba.threading_layer(), numba.get_num_threads())
"""
    run_python(code, tmp_path, layer)
