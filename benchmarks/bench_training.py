"""Every library on every shape: the time of an epoch, a step, a gradient and a prediction, and that all learn the same.

Each library takes as many threads as it does by itself, and `track_threads` records how many those are: to compare on
other terms, set NUMBA_NUM_THREADS, OMP_NUM_THREADS and OPENBLAS_NUM_THREADS, and asv's --cpu-affinity for jax.
"""

import functools
import statistics
import time

from .peak import flops_per_second
from .peers import LIBRARIES, build, having
from .shapes import NETWORKS, SHAPES, Shape

# asv runs `setup` before every call that it times, so ours only look up what `_warmed` keeps. A sample is one call:
# one of 40 µs takes no longer timed alone than in a loop. There are as many as 1.2 s allow, the first 0.2 s to warm
# up, in each of two processes, for processes differ.
number = 1
repeat = (3, 1000, 1.0)
warmup_time = 0.2
rounds = 2
timeout = 300  # torch.compile takes up to a minute where nothing is on its disk cache


class Epoch:
    """A shuffled epoch of the shape's minibatches."""

    params = (SHAPES, having("epoch"))
    param_names = ("shape", "library")

    def setup(self, shape, library):
        self.call = _warmed(library, shape, "epoch")

    def time_epoch(self, shape, library):
        self.call()


class Share:
    """What a step does of the floating-point operations that the machine's cores can do at most."""

    params = (SHAPES,)
    param_names = ("shape",)
    unit = "of peak"

    def setup(self, shape):
        self.call = _warmed("fastmlp", shape, "epoch")

    def track_share(self, shape):
        shares = []
        for _ in range(10):
            peak = flops_per_second()
            start = time.perf_counter()
            self.call()
            seconds = (time.perf_counter() - start) / shape.minibatches
            shares.append(shape.flops / seconds / peak)
        return statistics.median(shares)


class Growth:
    """Time per sample of an epoch of 10⁶ samples over that of 10⁴."""

    params = (SHAPES[:3],)
    param_names = ("shape",)
    unit = "times"

    def setup(self, shape):
        self.calls = {
            samples: _warmed("fastmlp", shape._replace(minibatches=samples // shape.batch_size), "epoch")
            for samples in (10_000, 1_000_000)
        }

    def track_growth(self, shape):
        def per_sample(samples):
            times = []
            for _ in range(3_000_000 // samples):
                start = time.perf_counter()
                self.calls[samples]()
                times.append(time.perf_counter() - start)
            return min(times) / samples

        return per_sample(1_000_000) / per_sample(10_000)


class Step:
    """One step on a minibatch that is handed in, as where samples come from elsewhere, a few at a time."""

    params = (SHAPES[:6], having("step"))
    param_names = ("shape", "library")

    def setup(self, shape, library):
        self.call = _warmed(library, shape._replace(minibatches=1), "step")

    def time_step(self, shape, library):
        self.call()


class Gradient:
    """The gradient of one minibatch."""

    params = (SHAPES, having("gradient"))
    param_names = ("shape", "library")

    def setup(self, shape, library):
        self.call = _warmed(library, shape._replace(minibatches=1), "gradient")

    def time_gradient(self, shape, library):
        self.call()


class Predict:
    """The outputs for so many samples in one call."""

    params = (NETWORKS, having("predict"), (1, 10_000))
    param_names = ("sizes", "library", "samples")

    def setup(self, sizes, library, samples):
        self.call = _warmed(library, Shape(sizes, samples, 1), "predict")

    def time_predict(self, sizes, library, samples):
        self.call()


class Agreement:
    """After an epoch from the same weights in the same order, how far a library's loss is from fastmlp's.

    In parts of what the epoch took off the loss: sums taken in another order leave 1e-9 to 1e-6, samples 1e-3 and more.
    The smaller shapes suffice and are soon done.
    """

    params = (SHAPES[:5], [name for name in having("epoch") if LIBRARIES[name].exact and name != "fastmlp"])
    param_names = ("shape", "library")
    unit = "of the fall in loss"
    bound = 1e-4

    def setup_cache(self):
        # Not beside the other library: the threads of two in one process get in each other's way.
        return {shape: _losses(*build("fastmlp", shape), shuffle=False) for shape in self.params[0]}

    setup_cache.timeout = timeout

    def setup(self, fastmlp_losses, shape, library):
        self.built = build(library, shape)

    def track_loss_difference(self, fastmlp_losses, shape, library):
        before, after = fastmlp_losses[shape]
        difference = abs(_losses(*self.built)[1] - after) / (before - after)
        if not 0 <= difference <= self.bound:
            raise ValueError(f"{library} and fastmlp part by {difference:g} of the fall in loss, over {self.bound:g}")
        return difference


class Threads:
    """The most threads that a library takes by itself."""

    params = having("threads")
    param_names = ("library",)
    unit = "threads"

    def setup(self, library):
        self.peer, _ = build(library, SHAPES[0])

    def track_threads(self, library):
        return self.peer.threads()


@functools.cache
def _warmed(library, shape, method):
    """The library's method bound to its arguments, after a first call: all that compiles does so here."""
    peer, (X, Y, order) = build(library, shape)
    arguments = {"epoch": (X, Y, order), "step": (X, Y), "gradient": (X, Y), "predict": (X,)}[method]
    call = functools.partial(getattr(peer, method), *arguments)
    call()
    return call


def _losses(peer, arrays, **given):
    """𝓛 before and after an epoch."""
    X, Y, order = arrays
    before = peer.loss(X, Y)
    peer.epoch(X, Y, order, **given)
    return before, peer.loss(X, Y)
