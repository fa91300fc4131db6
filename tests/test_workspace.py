"""Every call stays within its workspace, whatever the layout of its arrays."""

import numpy as np
import pytest
from conftest import FORMS

from fastmlp import Network

CASES = (
    ([38, 12], 256),  # W is stored, not Wᵀ, and of fewer rows than its gradient's sums have terms
    ([37, 3, 30], 100),
    ([50, 11, 1], 50),
    ([300, 7], 64),
    ([45, 1], 3000),  # a gradient of one row
    ([30, 1, 40], 17),  # δ and the gradient of a single unit
    ([1, 60, 1], 33),
    ([10, 300, 2], 200),  # in shards
    ([456, 448], 7),  # few samples
    ([300, 20, 10], 1),
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_every_call_stays_within_its_workspace(sizes, batch, form, workspaces, dtype, rng):
    X, Y = (FORMS[form](rng.random((3 * batch + 1, n)).astype(dtype)) for n in (sizes[0], sizes[-1]))
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
    assert workspaces
    for memory, length in workspaces:
        assert (memory[length:] == 7).all()
