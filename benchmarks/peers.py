"""One class a library, each in its best form, all with the interface of `Peer` and the mathematics of fastmlp.

σ on every layer, 𝓛 = 1/(B N_L) Σ (g⁽ᴸ⁾ - y)², float32. Libraries are imported when a peer is built, so that each is
measured alone in its process.
"""

import os
import shutil
from importlib.util import find_spec

import numpy as np

from .shapes import DTYPE, initial, samples


class Peer:
    """A network that a library trains from given weights and biases, and what is timed of it.

    Every method returns when its result is there. X, Y and order are those that `arrays` returned, and an epoch is
    a whole number of minibatches.
    """

    module: str  # without which the library counts as missing
    exact = True  # takes the same steps as fastmlp, but for rounding

    def __init__(self, sizes, weights, biases, batch_size, learning_rate):
        self.batch_size, self.learning_rate = batch_size, learning_rate

    def arrays(self, X, Y, order):
        """X, Y and order as arrays of the library, where it keeps them."""
        return X, Y, order

    def epoch(self, X, Y, order):
        """One step of gradient descent on every minibatch, the samples taken in that order."""
        raise NotImplementedError

    def step(self, x, y):
        """One step of gradient descent on the minibatch x, y."""
        raise NotImplementedError

    def gradient(self, x, y):
        """∂𝓛/∂parameters of the minibatch x, y."""
        raise NotImplementedError

    def predict(self, X):
        """g⁽ᴸ⁾ for X."""
        raise NotImplementedError

    def loss(self, X, Y):
        """𝓛 of the network's output for X against Y."""
        return float(((self.predict(X) - Y) ** 2).mean())

    def threads(self):
        """The most threads that the library takes by itself."""
        raise NotImplementedError


class Fastmlp(Peer):
    """`Network` as people call it, its checks of X and Y included."""

    module = "fastmlp"

    def __init__(self, sizes, weights, biases, batch_size, learning_rate):
        from fastmlp import Network

        super().__init__(sizes, weights, biases, batch_size, learning_rate)
        self._network = Network(sizes, dtype=DTYPE, seed=0)
        for ours, given in zip(self._network.weights + self._network.biases, weights + biases, strict=True):
            ours[:] = given

    def epoch(self, X, Y, order, shuffle=True):
        """An order that it draws itself is part of its time; without `shuffle`, the given one."""
        if not shuffle:
            X, Y = X[order], Y[order]
        self._network.fit(X, Y, epochs=1, batch_size=self.batch_size, learning_rate=self.learning_rate, shuffle=shuffle)

    def step(self, x, y):
        self._network.train_step(x, y, learning_rate=self.learning_rate)

    def gradient(self, x, y):
        return self._network.gradients(x, y).parameters

    def predict(self, X):
        return self._network.predict(X)

    def loss(self, X, Y):
        return self._network.loss(X, Y)

    def threads(self):
        import numba

        return numba.get_num_threads()


class Numpy(Peer):
    """The formulas written out, in place, on arrays allocated once.

    np.dot and not np.matmul, which takes twice the time at a batch of 1 and the same elsewhere.
    """

    module = "numpy"

    def __init__(self, sizes, weights, biases, batch_size, learning_rate):
        super().__init__(sizes, weights, biases, batch_size, learning_rate)
        self._W, self._b = [W.copy() for W in weights], [b.copy() for b in biases]
        self._dW, self._db = [np.empty_like(W) for W in weights], [np.empty_like(b) for b in biases]
        self._g = [np.empty((batch_size, n), DTYPE) for n in sizes[1:]]
        self._delta = [np.empty_like(g) for g in self._g]

    def epoch(self, X, Y, order):
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            self.step(X[rows], Y[rows])

    def step(self, x, y):
        self._backpropagate(x, y, self.learning_rate)
        for parameter, step in zip(self._W + self._b, self._dW + self._db, strict=True):
            parameter -= step

    def gradient(self, x, y):
        self._backpropagate(x, y, 1)
        return self._dW, self._db

    def predict(self, X):
        return self._forward(X, [None] * len(self._W))

    def threads(self):
        return _blas_threads()

    def _forward(self, x, outs):
        for W, b, out in zip(self._W, self._b, outs, strict=True):
            x = np.dot(x, W.T, out=out)
            x += b
            # σ(t) = (1 + tanh(t/2))/2 overflows nowhere.
            x *= 0.5
            np.tanh(x, out=x)
            x += 1
            x *= 0.5
        return x

    def _backpropagate(self, x, y, scale):
        """Leaves scale·∇𝓛 in _dW and _db: scaled at the output, it need not be scaled again."""
        delta = np.subtract(self._forward(x, self._g), y, out=self._delta[-1])
        delta *= 2 * scale / y.size
        for layer in reversed(range(len(self._W))):
            g, delta = self._g[layer], self._delta[layer]
            delta *= g
            delta *= np.subtract(1, g, out=g)
            np.dot(delta.T, self._g[layer - 1] if layer else x, out=self._dW[layer])
            np.add.reduce(delta, axis=0, out=self._db[layer])
            if layer:
                np.dot(delta, self._W[layer], out=self._delta[layer - 1])


class ScikitLearn(Peer):
    """MLPRegressor, given a σ at its output.

    It takes g⁽ᴸ⁾ - y for ∂𝓛/∂f⁽ᴸ⁾ whatever the activation there: with a σ, the gradient of cross-entropy. So its steps
    cost what ours would in it, less one product with g(1 - g), but lead elsewhere. Its gradient is not public.
    """

    module = "sklearn"
    exact = False

    def __init__(self, sizes, weights, biases, batch_size, learning_rate):
        from sklearn.neural_network import MLPRegressor

        super().__init__(sizes, weights, biases, batch_size, learning_rate)
        self._model = MLPRegressor(
            hidden_layer_sizes=sizes[1:-1],
            activation="logistic",
            solver="sgd",
            alpha=0,
            batch_size=batch_size,
            learning_rate_init=learning_rate * 2 / sizes[-1],  # of a loss without the 2 and the mean over outputs
            momentum=0,
            nesterovs_momentum=False,
            shuffle=False,  # the order is given
            tol=0,
            n_iter_no_change=np.inf,
        )
        x, y = np.zeros((batch_size, sizes[0]), DTYPE), np.zeros((batch_size, sizes[-1]), DTYPE)
        self._model.partial_fit(x, self._targets(y))
        self._model.out_activation_ = "logistic"
        for ours, given in zip(self._model.coefs_ + self._model.intercepts_, weights + biases, strict=True):
            ours[:] = given.T

    def epoch(self, X, Y, order):
        self._model.partial_fit(X[order], self._targets(Y[order]))

    def predict(self, X):
        return self._model.predict(X).reshape(len(X), -1)

    def threads(self):
        return _blas_threads()

    @staticmethod
    def _targets(Y):
        return Y.ravel() if Y.shape[1] == 1 else Y


class Torch(Peer):
    """Autograd and an update in place: about half the time of loss.backward() and torch.optim.SGD on small networks."""

    module = "torch"

    def __init__(self, sizes, weights, biases, batch_size, learning_rate):
        import torch

        super().__init__(sizes, weights, biases, batch_size, learning_rate)
        self._torch = torch
        self._parameters = tuple(torch.tensor(p, requires_grad=True) for p in weights + biases)

    def arrays(self, X, Y, order):
        return tuple(map(self._torch.from_numpy, (X, Y, order)))

    def epoch(self, X, Y, order):
        for rows in order.split(self.batch_size):
            self.step(X[rows], Y[rows])

    def step(self, x, y):
        self._step(x, y)

    def gradient(self, x, y):
        return self._torch.autograd.grad(self._loss(self._parameters, x, y), self._parameters)

    def predict(self, X):
        with self._torch.inference_mode():
            return self._output(self._parameters, X)

    def threads(self):
        return self._torch.get_num_threads()

    def _output(self, parameters, x):
        layers = len(parameters) // 2
        for W, b in zip(parameters[:layers], parameters[layers:], strict=True):
            x = self._torch.sigmoid(self._torch.nn.functional.linear(x, W, b))
        return x

    def _loss(self, parameters, x, y):
        return self._torch.nn.functional.mse_loss(self._output(parameters, x), y)

    def _step(self, x, y):
        self._update(self.gradient(x, y))

    def _update(self, gradient):
        with self._torch.no_grad():
            for parameter, derivative in zip(self._parameters, gradient, strict=True):
                parameter.sub_(derivative, alpha=self.learning_rate)


class TorchCompile(Torch):
    """The training step through torch.compile, as one graph: for that, its gradient is torch.func's."""

    def __init__(self, sizes, weights, biases, batch_size, learning_rate):
        if not shutil.which(os.environ.get("CXX", "g++")):
            raise NotImplementedError("torch.compile needs a C++ compiler")
        super().__init__(sizes, weights, biases, batch_size, learning_rate)
        self._compiled_step = self._torch.compile(self._step, fullgraph=True, dynamic=False)

    def epoch(self, X, Y, order):
        with self._torch.no_grad():
            for rows in order.split(self.batch_size):
                self._compiled_step(X[rows], Y[rows])

    def step(self, x, y):
        with self._torch.no_grad():
            self._compiled_step(x, y)

    def _step(self, x, y):
        self._update(self._torch.func.grad(self._loss)(self._parameters, x, y))


class Jax(Peer):
    """A jitted step, which takes its rows of the data by itself and updates the parameters where they are."""

    module = "jax"

    def __init__(self, sizes, weights, biases, batch_size, learning_rate):
        import jax

        super().__init__(sizes, weights, biases, batch_size, learning_rate)
        jax.config.update("jax_enable_x64", DTYPE.itemsize == 8)
        self._jax = jax
        self._parameters = jax.tree.map(jax.numpy.array, list(zip(weights, biases, strict=True)))
        self._compiled_step = jax.jit(self._step, donate_argnums=0)
        self._compiled_step_on_rows = jax.jit(self._step_on_rows, donate_argnums=0)
        self._compiled_gradient = jax.jit(jax.grad(self._loss))
        self._compiled_output = jax.jit(self._output)

    def arrays(self, X, Y, order):
        return tuple(map(self._jax.device_put, (X, Y, order.astype(np.int32))))

    def epoch(self, X, Y, order):
        for start in range(0, len(order), self.batch_size):
            self._parameters = self._compiled_step_on_rows(self._parameters, X, Y, order, start)
        self._jax.block_until_ready(self._parameters)

    def step(self, x, y):
        self._parameters = self._jax.block_until_ready(self._compiled_step(self._parameters, x, y))

    def gradient(self, x, y):
        return self._jax.block_until_ready(self._compiled_gradient(self._parameters, x, y))

    def predict(self, X):
        return self._jax.block_until_ready(self._compiled_output(self._parameters, X))

    def threads(self):
        # XLA does not tell: it starts a thread for every core it may run on.
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def _output(self, parameters, x):
        for W, b in parameters:
            x = self._jax.nn.sigmoid(x @ W.T + b)
        return x

    def _loss(self, parameters, x, y):
        return ((self._output(parameters, x) - y) ** 2).mean()

    def _step(self, parameters, x, y):
        gradient = self._jax.grad(self._loss)(parameters, x, y)
        return self._jax.tree.map(lambda p, d: p - self.learning_rate * d, parameters, gradient)

    def _step_on_rows(self, parameters, X, Y, order, start):
        rows = self._jax.lax.dynamic_slice_in_dim(order, start, self.batch_size)
        return self._step(parameters, X[rows], Y[rows])


class JaxScan(Jax):
    """A whole epoch in one jitted lax.scan, with the shuffle inside."""

    def __init__(self, sizes, weights, biases, batch_size, learning_rate):
        super().__init__(sizes, weights, biases, batch_size, learning_rate)
        self._compiled_epoch = self._jax.jit(self._scan, donate_argnums=0)

    def epoch(self, X, Y, order):
        self._parameters = self._jax.block_until_ready(self._compiled_epoch(self._parameters, X, Y, order))

    def _scan(self, parameters, X, Y, order):
        # All rows at once: up to a third faster than minibatch by minibatch.
        minibatches = [A[order].reshape(-1, self.batch_size, A.shape[1]) for A in (X, Y)]
        return self._jax.lax.scan(lambda p, xy: (self._step(p, *xy), None), parameters, minibatches)[0]


LIBRARIES = {
    "fastmlp": Fastmlp,
    "NumPy": Numpy,
    "scikit-learn": ScikitLearn,
    "torch": Torch,
    "torch.compile": TorchCompile,
    "jax": Jax,
    "jax scan": JaxScan,
}


def having(method):
    """The libraries that have a method in a form of their own: torch.compile has steps and epochs, jax scan epochs."""
    return [name for name, peer in LIBRARIES.items() if method in vars(peer)]


def build(library, shape):
    """The library's peer at the initial weights, and the samples of the shape's epoch as its arrays.

    Raises NotImplementedError, at which asv skips the benchmark, where the library is missing.
    """
    peer = LIBRARIES[library]
    if find_spec(peer.module) is None:
        raise NotImplementedError(f"{peer.module} is not installed")
    built = peer(shape.sizes, *initial(shape.sizes), shape.batch_size, shape.learning_rate)
    return built, built.arrays(*samples(shape))


def _blas_threads():
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
