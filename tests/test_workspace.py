"""Every call stays within the memory that it takes, whatever the layout of its arrays."""

import numpy as np
import pytest

import fastmlp._network
from fastmlp import Network, _training
from fastmlp._memory import aligned_empty

BEHIND = 1 << 13  # elements

CASES = (
    ([38, 12], 256),  # W is stored, not Wᵀ, and of fewer rows than its gradient's sums have terms
    ([37, 3, 30], 100),
    ([50, 11, 1], 50),
    ([300, 7], 64),
    ([45, 1], 3000),  # a gradient of one row
    ([30, 1, 40], 17),  # δ and the gradient of a single unit
    ([1, 60, 1], 33),
    ([3, 200, 2], 200),  # in shards
    ([456, 448], 7),  # few samples
    ([300, 20, 10], 1),
)
LAYOUTS = {
    "rows": lambda X: X,
    "columns": np.asfortranarray,
    "neither": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
}


@pytest.fixture
def memories(monkeypatch):
    """All memory that networks take for calls, with more behind each; no network has code of its own, without it."""
    taken = []

    def with_more_behind(length, dtype):
        memory = aligned_empty(length + BEHIND, dtype)
        memory[:length], memory[length:] = np.nan, 7
        taken.append((memory, length))
        return memory[:length]

    monkeypatch.setattr(fastmlp._network, "aligned_empty", with_more_behind)
    monkeypatch.setattr(_training.OWN_CODE, "AT_ONCE", 0)
    monkeypatch.setattr(_training.OWN_CODE, "AFTER", np.inf)
    return taken


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_every_call_stays_within_its_workspace(sizes, batch, layout, memories, dtype, rng):
    X, Y = (LAYOUTS[layout](rng.random((3 * batch + 1, n)).astype(dtype)) for n in (sizes[0], sizes[-1]))
    calls = (
        lambda net: net.fit(X, Y, epochs=1, batch_size=batch),
        lambda net: net.fit(X, Y, epochs=1, batch_size=batch, shuffle=False),
        lambda net: net.train_step(X[:batch], Y[:batch]),
        lambda net: net.gradients(X[:batch], Y[:batch]),
        lambda net: net.gradients(X[:batch], Y[:batch], inputs=True),
        lambda net: net.predict(X),
        lambda net: net.loss(X, Y),
    )
    for call in calls:
        net = Network(sizes, dtype=dtype, seed=0)
        call(net)
        assert np.isfinite(net.parameters).all()
    assert memories
    for memory, length in memories:
        assert (memory[length:] == 7).all()
