"""`Network`, the person's side of the kernels: it checks, owns memory and orchestrates; they do the arithmetic."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _checks, _training
from ._gradients import Gradients
from ._history import History
from ._memory import aligned_empty, count_parameters, layer_views
from ._progress import Progress
from ._step import Step, step_size
from ._threads import TeamFor
from .kernels import SERIAL, entry, workspace_size
from .kernels.blocking import PREDICT_ROWS, PREDICTED_ALONE, ROWS_EVEN
from .kernels.logistic import is_single_output
from .kernels.network import minibatch_size
from .kernels.plan import predict_plan, small_size
from .kernels.programs import (
    evenly,
    fit_size,
    given_sizes,
    least_in_rows,
    least_losses_in_rows,
    may_share,
    predicted_in_tiles,
    samples_in_rows,
    work_in_rows,
)

ACTIVATIONS = ("sigmoid",)
LOSSES = ("mse",)
NO_PLAN = None, 0, None  # of no workspace and threads
Callback = Callable[["Network", History], object]


class Network:
    """A multilayer perceptron: g⁽ℓ⁾ = σ(g⁽ℓ⁻¹⁾ W⁽ℓ⁾ᵀ + b⁽ℓ⁾) for ℓ = 1 ... L, with g⁽⁰⁾ = x and σ(t) = 1/(1 + e⁻ᵗ).

    Parameters
    ----------
    sizes : sequence of int
        Widths N_0 ... N_L of the input, the hidden layers and the output.
    activation : {"sigmoid"}
        Activation of every layer.
    loss : {"mse"}
        "mse" is 𝓛 = 1/(B N_L) Σ (g⁽ᴸ⁾ - y)²: the mean over the outputs, then over the batch.
    dtype : {numpy.float32, numpy.float64}
        Of the parameters and of all arithmetic.
    seed : int, numpy.random.Generator or None
        Source of the initial weights and of the order of samples in `fit`. The same int gives the same network and,
        after the same calls, the same parameters bit for bit, on any number of threads. None draws a new one.

    Attributes
    ----------
    parameters : ndarray, (n_parameters,)
        All weights and biases in one contiguous vector, writable. Of each layer in turn it holds Wᵀ, shape
        (N_{l-1}, N_l), row-major, or W for 2 to 12 outputs of more inputs; then b.
    weights, biases : tuple of ndarray
        Writable views of `parameters`: W of shape (N_l, N_{l-1}) and b of shape (N_l,) of each layer.
    sizes : tuple of int
    dtype : numpy.dtype
    n_parameters : int

    Notes
    -----
    Biases begin at 0, weights uniform in ±3 √(6/(N_{l-1} + N_l)): the initialisation of Glorot and Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010, scaled for the logistic
    function. Its slope of 1/4 at 0 asks for a factor of 4; but then one network in twenty begins with an output so
    saturated that it never learns (on the digits), and with 3 none does.

    In every method X is (samples, N_0) and Y is (samples, N_L), array-likes of real, finite numbers in any order,
    strides and real dtype; they are copied only where their dtype is not the network's. What does not fit is refused
    with a `ValueError` or `TypeError` that names the argument, and the network stays as it was. Training looks for NaN
    and infinity where it takes the samples, and undoes what it did before it came to one.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "sigmoid",
        loss: str = "mse",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ):
        sizes = _checks.layer_sizes(sizes)
        activation = _checks.choice("activation", activation, ACTIVATIONS)
        loss = _checks.choice("loss", loss, LOSSES)
        dtype = _checks.float_dtype("dtype", dtype)
        self._rng = _checks.generator(seed)
        self._build(sizes, activation, loss, aligned_empty(count_parameters(sizes), dtype))
        for W, b, n_in, n_out in zip(self.weights, self.biases, sizes, sizes[1:], strict=False):
            bound = 3 * math.sqrt(6 / (n_in + n_out))
            W[:] = self._rng.uniform(-bound, bound, (n_out, n_in))
            b[:] = 0

    def _build(self, sizes, activation, loss, parameters):
        self._sizes, self._activation, self._loss = sizes, activation, loss
        self._parameters = parameters
        self._weights, self._biases = layer_views(parameters, sizes)
        itemsize = parameters.dtype.itemsize
        self._workspace_size = functools.lru_cache(functools.partial(workspace_size, sizes, itemsize=itemsize))
        self._minibatch_size = functools.lru_cache(functools.partial(minibatch_size, sizes, itemsize=itemsize))
        self._step_size = functools.lru_cache(functools.partial(step_size, sizes, itemsize=itemsize))
        self._step_on = functools.lru_cache(functools.partial(Step, sizes, parameters.dtype))
        self._choice = functools.lru_cache(functools.partial(_training.Choice, sizes, parameters.dtype))
        self._fit_size = functools.lru_cache(functools.partial(fit_size, sizes, itemsize=itemsize))
        self._may_share = functools.lru_cache(functools.partial(may_share, sizes))
        self._given_sizes = functools.lru_cache(functools.partial(given_sizes, sizes, parameters.itemsize))
        self._in_tiles = functools.lru_cache(functools.partial(predicted_in_tiles, sizes, itemsize))
        self._in_rows, self._work_in_rows = samples_in_rows(sizes), work_in_rows(sizes)
        self._least_in_rows, self._least_losses_in_rows = least_in_rows(sizes), least_losses_in_rows(sizes)
        self._plan = NO_PLAN
        self._rows_size = functools.lru_cache(functools.partial(small_size, sizes, self._in_rows, itemsize))
        self._workspaces = []

    @property
    def sizes(self) -> tuple[int, ...]:
        return self._sizes

    @property
    def dtype(self) -> np.dtype:
        return self._parameters.dtype

    @property
    def n_parameters(self) -> int:
        return self._parameters.size

    @property
    def parameters(self) -> np.ndarray:
        return self._parameters

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        return self._weights

    @property
    def biases(self) -> tuple[np.ndarray, ...]:
        return self._biases

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 1.0,
        shuffle: bool = True,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        callbacks: Callback | Sequence[Callback] = (),
        progress: bool = False,
    ) -> History:
        """Train by minibatch gradient descent, parameters -= learning_rate * ∇𝓛(minibatch); called again, go on.

        Callbacks find the parameters of the epoch that has ended, and may change them; other threads may meanwhile find
        those of some steps before.

        Parameters
        ----------
        X, Y : array-like, (samples, N_0) and (samples, N_L)
        epochs : int
            Passes over all samples.
        batch_size : int
            Samples in a minibatch. The last one of an epoch may be smaller; more than there are means all of them.
        learning_rate : float
        shuffle : bool
            Draw a new order of the samples for every epoch.
        validation_data : (X, Y), optional
            Held-out samples whose loss is measured after every epoch.
        callbacks : callable or sequence of callables
            Called after every epoch as callback(network, history); training stops where one returns True.
        progress : bool
            Show a bar with epoch, loss and samples/s. Needs tqdm: ``pip install "fastmlp[cli]"``.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            An argument does not fit.
        FloatingPointError
            The loss or a parameter turned NaN or infinite. The last finite parameters are kept.
        KeyboardInterrupt
            On Ctrl-C, within about 0.1 s; the parameters of the last completed step are kept.
        """
        given = X, Y
        X, Y = _checks.sample_pairs(X, Y, self.sizes, self.dtype, finite=False)
        epochs = _checks.whole_number("epochs", epochs, least=0)
        batch_size = min(_checks.whole_number("batch_size", batch_size), len(X))
        learning_rate = _checks.positive_number("learning_rate", learning_rate)
        callbacks = _checks.callables("callbacks", callbacks)
        validate = None
        if validation_data is not None:
            names = "validation_data[0]", "validation_data[1]"
            pair = _checks.pair("validation_data", validation_data)
            X_held, Y_held = _checks.sample_pairs(*pair, self.sizes, self.dtype, names=names)
            validate = functools.partial(self._mean_loss, X_held, Y_held)
        history, adjacent = History(), X.strides[1] == X.itemsize and Y.strides[1] == Y.itemsize
        # The order within a batch of everything would change nothing but rounding.
        many = shuffle and batch_size < len(X)
        rng, state = (self._rng, self._rng.bit_generator.state) if many else (None, None)

        def refuse():
            try:
                _checks.sample_pairs(*given, self.sizes, self.dtype)
            except ValueError:
                if many:
                    self._rng.bit_generator.state = state
                raise

        if epochs == 0:
            refuse()

        def train(workspace, *team):
            choice = self._choice(batch_size, len(X), adjacent, team[0])
            workspace = workspace[: size(batch_size, team[0])]  # all of which an epoch may begin with clearing
            trainer = _training.Trainer(choice, self._parameters, X, Y, rng, learning_rate, workspace, team, refuse)
            with Progress(progress, epochs, len(X)) as bar:
                for _ in range(epochs):
                    start = time.perf_counter()
                    history.loss.append(trainer.epoch(bar))
                    history.seconds.append(time.perf_counter() - start)
                    if validate:
                        history.validation_loss.append(validate())
                    bar.epoch_done(history)
                    answers = [callback(self, history) for callback in callbacks]
                    if any(isinstance(answer, bool | np.bool_) and answer for answer in answers):
                        break
            return history

        def size(batch, threads=1):
            return self._fit_size(batch, threads=threads, samples=len(X), any_x=not (many or adjacent))

        return self._compute(train, (), batch_size, len(X), size)

    def train_step(self, x: ArrayLike, y: ArrayLike, *, learning_rate: float = 1.0) -> float:
        """Take one step of gradient descent on the minibatch x, y and return its loss before the step.

        Raises FloatingPointError, with the parameters as they were, where the loss or a new parameter is not finite.
        """
        refuse = functools.partial(_checks.sample_pairs, x, y, self._sizes, self._parameters.dtype, ("x", "y"))
        x, y = refuse(False)
        learning_rate = _checks.positive_number("learning_rate", learning_rate)
        batch, adjacent = len(x), x.strides[1] == x.itemsize and y.strides[1] == y.itemsize

        def step(memory, threads, grain):
            take = self._step_on(batch, adjacent, threads)
            return take(self._parameters, x, y, learning_rate, refuse, memory, threads, grain)

        return self._compute(step, (), batch, batch, self._step_size)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The network's output for X: (samples, N_L), of the network's dtype. Row i depends on row i of X alone."""
        dtype = self._parameters.dtype
        X_checked = _checks.samples("X", X, self._sizes[0], dtype, False)
        samples = len(X_checked)
        g = np.empty((samples, self._sizes[-1]), dtype)
        x = entry.operand(X_checked)
        if samples >= self._least_in_rows:
            finite = self._compute_in_rows(entry.predict_in_rows, (g, self._parameters, x), samples, even=True)
        else:
            rows, given, size, shared = self._in_tiles(samples)
            if shared > 0:
                finite = self._predict_in_shared_tiles(g, x, samples, shared)
            else:  # `_lend_workspace`, without whose call a single prediction takes 0.97 of the time
                workspace = self._take_workspace(size)
                try:
                    finite = entry.predict(g, self._parameters, x, rows, *given, workspace, *SERIAL)
                finally:
                    self._workspaces.append(workspace)
        if not finite:
            _checks.samples("X", X, self._sizes[0], dtype)
        return g

    def _predict_in_shared_tiles(self, g, x, samples, shared):
        with TeamFor(shared) as crew:
            rows, given, size, _ = self._in_tiles(samples, crew.threads)
            return self._lend_workspace(entry.predict, (g, self._parameters, x, rows, *given), size, crew)

    def loss(self, X: ArrayLike, Y: ArrayLike) -> float:
        """𝓛 of the network's output for X against Y."""
        X, Y = _checks.sample_pairs(X, Y, self.sizes, self.dtype)
        return self._mean_loss(X, Y)

    def gradients(self, X: ArrayLike, Y: ArrayLike, *, inputs: bool = False) -> Gradients:
        """𝓛 of the batch X, Y and its gradient with respect to all parameters and, with `inputs`, to X."""
        pair = _checks.sample_pairs(X, Y, self._sizes, self._parameters.dtype, finite=False)
        x, y = map(entry.operand, pair)
        gradient = np.empty_like(self._parameters)
        grad_x = np.empty(pair[0].shape, self._parameters.dtype) if inputs else gradient.reshape(1, -1)
        batch = len(pair[0])
        arguments = gradient, grad_x, bool(inputs), self._parameters, x, y, *self._given_sizes(batch)
        one_pass = is_single_output(self._sizes) and not inputs and pair[0].strides[1] == pair[0].itemsize
        compute = entry.gradients_of_output if one_pass else entry.gradients
        loss = self._compute(compute, arguments, batch, batch, self._minibatch_size)
        if math.isnan(loss):
            _checks.sample_pairs(X, Y, self._sizes, self.dtype)
        return Gradients(loss, gradient, grad_x if inputs else None, self._sizes)

    def copy(self) -> "Network":
        """An independent network with the same parameters and the same state of its random generator."""
        return deepcopy(self)

    __copy__ = copy

    def __repr__(self):
        return (
            f"Network({list(self.sizes)}, activation={self._activation!r}, loss={self._loss!r}, "
            f"dtype={self.dtype.name!r}, n_parameters={self.n_parameters})"
        )

    def __getstate__(self):
        return self._sizes, self._activation, self._loss, self._parameters, self._rng

    def __setstate__(self, state):
        *names, parameters, self._rng = state
        self._build(*names, aligned_empty(parameters.size, parameters.dtype))
        self._parameters[:] = parameters

    def _mean_loss(self, X, Y):
        if len(X) >= self._least_losses_in_rows:
            losses = np.empty(-(-len(X) // self._in_rows))
            arguments = losses, self._parameters, entry.operand(X), entry.operand(Y)
            return self._compute_in_rows(entry.mean_loss_in_rows, arguments, len(X))
        rows = min(PREDICT_ROWS, len(X))
        arguments = self._parameters, entry.operand(X), entry.operand(Y), rows, *self._given_sizes(rows)
        return self._compute(entry.mean_loss, arguments, rows, len(X), self._workspace_size)

    def _compute(self, function, arguments, batch, samples, size):
        """function(*arguments, workspace, threads, grain) for so many samples in batches that all threads share.

        `size` gives the elements of workspace for a batch.
        """
        if not self._may_share(batch, samples):
            return self._lend_workspace(function, arguments, size(batch), SERIAL)
        with TeamFor(samples * self._parameters.size) as crew:
            return self._lend_workspace(function, arguments, size(batch, threads=crew.threads), crew)

    def _compute_in_rows(self, function, arguments, samples, even=False):
        """function(*arguments, batch size, work, plan, threads, grain), with memory for each thread's batches.

        If `even`, these are such that all threads get about as many samples.
        """

        def compute(workspace, threads, grain):
            rows = evenly(samples, self._in_rows, threads, ROWS_EVEN) if even else self._in_rows
            planned, for_threads, plan = self._plan
            if planned is not workspace or for_threads != threads:
                plan = predict_plan(self._sizes, self._in_rows, threads, workspace)
                self._plan = workspace, threads, plan
            return function(*arguments, rows, work, plan, threads, grain)

        work = samples * self._work_in_rows
        if samples <= PREDICT_ROWS and work < PREDICTED_ALONE:
            return self._lend_workspace(compute, (), self._rows_size(1), SERIAL)
        with TeamFor(work) as crew:
            return self._lend_workspace(compute, (), self._rows_size(crew.threads), crew)

    def _lend_workspace(self, function, arguments, size, crew):
        """function(*arguments, workspace, *crew)."""
        workspace = self._take_workspace(size)
        try:
            return function(*arguments, workspace, *crew)
        finally:
            self._workspaces.append(workspace)

    def _take_workspace(self, size):
        """One that nobody else has: calls in several threads of Python at once get one each, which they give back."""
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = None
        if workspace is None or workspace.size < size:
            self._plan = NO_PLAN  # which would keep the one before
            workspace = aligned_empty(size, self.dtype)
        return workspace
