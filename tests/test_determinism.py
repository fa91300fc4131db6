"""The same bits on any number of threads, in the serial and the parallel build, and on any width of vector."""

import hashlib
import os
import subprocess
import sys

import harness
import numba
import numpy as np
import pytest

from fastmlp import Network, kernels
from fastmlp._threads import TeamFor
from fastmlp.kernels import blocking
from fastmlp.kernels.host import HOST

TRAIN = """
import hashlib, sys
import numba
import numpy as np
from fastmlp import Network

threads, dtype, everything = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "everything"
numba.set_num_threads(threads)
rng = np.random.default_rng(0)
sha = hashlib.sha256()
nets = ([7, 5, 3], 200, 4), ([150, 301, 200, 10], 200, 65), ([20, 61, 9], 1500, 700), ([520, 40, 3], 200, 16)
nets += ([17, 64, 64, 6], 600, 64), ([33, 20, 1], 200, 40), ([70, 150, 1], 200, 65), ([300, 3, 260, 2], 200, 50)
for sizes, samples, batch in nets:
    X, Y = rng.random((samples, sizes[0])), rng.random((samples, sizes[-1]))
    net = Network(sizes, dtype=dtype, seed=1)
    history = net.fit(X, Y, epochs=3, batch_size=batch, learning_rate=2.0)
    results = [net.parameters, history.loss]
    if everything:
        grad = net.gradients(X, Y, inputs=True)
        results += [grad.parameters, grad.inputs, net.predict(X), net.loss(X, Y)]
    for result in results:
        sha.update(np.asarray(result).tobytes())
print(sha.hexdigest())
"""


def train(threads, dtype, what="everything", **environment):
    """Digest of the results of TRAIN; what="fit" spares the compilation of the rest."""
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(threads), dtype.name, what],
        env={**os.environ, "NUMBA_NUM_THREADS": str(max(threads, 2)), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_same_bits_on_1_2_3_and_8_threads(dtype):
    assert len({train(threads, dtype) for threads in (1, 2, 3, 8)}) == 1


def test_same_bits_under_the_workqueue_layer(dtype):
    assert train(2, dtype, NUMBA_THREADING_LAYER="workqueue") == train(1, dtype)


@pytest.mark.skipif(not HOST.has_fma, reason="a fused multiply-add of one width only")
@pytest.mark.parametrize(
    ("vector_bytes", "registers"), [(16, 16), (16, 32), (32, 16), (64, 32)], ids=["SSE", "NEON", "AVX2", "AVX-512"]
)
def test_same_bits_on_any_width_of_vector(vector_bytes, registers):
    dtype = np.dtype(np.float32)
    vectors = {"FASTMLP_VECTOR_BYTES": str(vector_bytes), "FASTMLP_VECTOR_REGISTERS": str(registers)}
    assert train(2, dtype, "fit", **vectors) == train(2, dtype, "fit")


def test_products_of_a_large_network_are_shared():
    """What the tests above compare is not the serial build with itself."""
    largest_product = 65 * 301 * 200
    assert largest_product >= 2 * max(blocking.GRAIN["omp"], blocking.SHARE)


@pytest.mark.parametrize("sizes", [[30, 64, 33, 3], [600, 64, 33, 3], [1100, 557, 3], [300, 4]])
def test_a_prediction_depends_on_its_own_sample_alone(sizes, dtype, rng):
    """Alone, at the edges of tiles and batches, in another order; the last network has two slices in its first sums."""
    net = Network(sizes, dtype=dtype, seed=0)
    X = rng.normal(0, 1, (300, sizes[0])).astype(dtype)
    g = net.predict(X)
    for i in (0, 1, 11, 12, 255, 256, 299):
        np.testing.assert_array_equal(net.predict(X[i : i + 1])[0], g[i])
    np.testing.assert_array_equal(net.predict(X[::-3]), g[::-3])


@pytest.mark.parametrize("samples", [1, 2, 40])
@pytest.mark.parametrize("sizes", [[1100, 2000, 3], [1, 1500, 1500], [3000, 4]])
def test_threads_that_share_one_batch_predict_the_same_within_their_workspace(sizes, samples, dtype, rng):
    net = Network(sizes, dtype=dtype, seed=0)
    x = rng.normal(0, 1, (samples, sizes[0])).astype(dtype)
    predictions = []
    for threads in (1, 2, 3):
        size = kernels.workspace_size(sizes, samples, dtype.itemsize, threads)
        workspace, g = np.full(size + 4096, 7, dtype), np.empty((samples, sizes[-1]), dtype)
        kernels.predict(g, net.parameters, x, samples, np.array(sizes), workspace[:size], kernels.Team(threads, 1))
        assert (workspace[size:] == 7).all()
        predictions.append(g)
    np.testing.assert_array_equal(predictions[1], predictions[0])
    np.testing.assert_array_equal(predictions[2], predictions[0])
    np.testing.assert_array_equal(predictions[0], net.predict(np.vstack((x, x)))[samples:])


def test_the_sums_for_the_biases_depend_on_no_team(dtype, rng):
    """Of more samples than a slice of a sum has, by teams that share them and by one for which they are too few."""
    x, delta = rng.random((1500, 1)).astype(dtype), rng.normal(0, 1, (1500, 400)).astype(dtype)
    sums = []
    for team in (kernels.SERIAL, harness.EAGER, kernels.Team(1, blocking.GRAIN["workqueue"])):
        W, b = np.zeros((400, 1), dtype), np.zeros(400, dtype)
        harness.layer_update(W, b, delta, x, 1.0, team)
        sums.append(b)
    np.testing.assert_array_equal(sums[0], sums[1])
    np.testing.assert_array_equal(sums[0], sums[2])


def test_the_threads_of_numba_are_left_as_they_were(rng):
    before = numba.get_num_threads()
    Network([100, 300, 300], seed=0).fit(rng.random((100, 100)), rng.random((100, 300)), epochs=1)
    assert numba.get_num_threads() == before


def test_a_team_has_the_threads_that_numba_would_use():
    before = numba.get_num_threads()
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            with TeamFor(1 << 40) as team:
                assert team.threads == threads
    finally:
        numba.set_num_threads(before)


def test_the_digest_is_of_real_bits():
    """A different seed gives a different digest: the comparison above can fail."""
    digests = set()
    for seed in (0, 1):
        digests.add(hashlib.sha256(Network([3, 2], seed=seed).parameters.tobytes()).hexdigest())
    assert len(digests) == 2
