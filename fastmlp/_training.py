"""`Trainer`: minibatches in compiled calls short enough to interrupt, whose parameters stay finite numbers."""

import functools
import time

import numpy as np

from ._checks import all_finite
from ._memory import count_parameters
from .kernels import entry
from .kernels.order import as_they_are, in_stretches, order_of, stretch_size
from .kernels.pace import PACE
from .kernels.plan import plan_for, with_plan
from .kernels.programs import given_sizes, is_stored, left_in_turn, program_for
from .kernels.shuffle import draw, random_orders
from .kernels.tiny import is_tiny, slice_of, tiny

AS_THEY_COME = order_of(np.empty(0, np.intp))  # the order in which `train_in_turn` takes samples so

CALL_SECONDS = 0.2  # Ctrl-C and the progress bar wait for the end of a compiled call
CHECK_SECONDS = 0.5  # from one look at the parameters, and copy of them, to the next: 2 % of a step of 1024x4
FIRST_CALL_WORK = 1e8  # multiply-adds: at most some 50 ms on any machine, to measure the pace of
STEP_WORK = 2e4  # multiply-adds that take as long as what a minibatch costs beside them, or longer: some us


@functools.lru_cache
def program_and_pace(sizes, batch_size, samples, threads):
    """The name in `entry` of what trains such a network, and what is known of how quick it is on this machine."""
    return program_for(sizes, batch_size, samples, threads), np.array(PACE)


class OwnCode:
    """Which tiny networks are trained by code of their own, which takes from 0.3 to 3 s to compile.

    A few at once, which may take as long as the code for all networks, 10 s; others when training them has taken a
    while, so that to try many costs no more than a few times what training does.
    """

    AT_ONCE = 16  # networks
    AFTER = 0.3  # seconds

    def __init__(self):
        self.seconds = {}  # of training without
        self.made = set()

    def of(self, network):
        """The kernel of a network, (sizes, samples in a minibatch, itemsize), or None."""
        if network not in self.made:
            late = len(self.made) >= self.AT_ONCE and self.seconds.get(network, 0) < self.AFTER
            if late or not is_tiny(*network):
                return None
            self.made.add(network)
        sizes, batch_size, _ = network
        return tiny(sizes, batch_size)

    def trained_without(self, network, seconds):
        self.seconds[network] = self.seconds.get(network, 0) + seconds


OWN_CODE = OwnCode()


def not_finite(what, first, last):
    return FloatingPointError(
        f"the {what} turned NaN or infinite at samples {first} to {last - 1}; the last finite parameters are kept: "
        "lower learning_rate, or scale X and Y"
    )


class Choice:
    """What trains a network on so many samples, by so many threads, and what it needs.

    There may be code for the network alone, if it is tiny and the elements of a sample are `adjacent`.
    """

    def __init__(self, sizes, dtype, batch_size, samples, adjacent, threads):
        self.sizes, self.dtype, self.batch_size, self.samples, self.threads = sizes, dtype, batch_size, samples, threads
        network = sizes, batch_size, dtype.itemsize
        self.network = network if adjacent and is_tiny(*network) else None
        self.lengths = self.network and (slice_of(sizes, batch_size), slice_of(sizes, samples % batch_size))
        self.program, self.pace = program_and_pace(sizes, batch_size, samples, threads)
        self.laid_out = self.program in entry.LAID_OUT
        # Up to where it trains: what is left is a call of another.
        self.whole = samples - left_in_turn(self.program, sizes, batch_size, samples)
        self.takes_samples_as_they_come = self.program == "train_in_turn"
        self.may_be_online = self.program == "train_in_turn_or_online"
        work = 3 * batch_size * count_parameters(sizes) + STEP_WORK
        self.first_minibatches = max(1, int(FIRST_CALL_WORK / work))

    @functools.cached_property
    def given_sizes(self):
        rest = self.samples % self.batch_size
        in_turn = self.takes_samples_as_they_come or self.may_be_online
        shared = self.threads > 1 and (in_turn or self.whole < self.samples)
        stored = is_stored(self.sizes, self.batch_size, self.dtype.itemsize, self.threads, self.samples)
        return given_sizes(self.sizes, self.dtype.itemsize, self.batch_size, rest, shared, stored)


class Trainer:
    """Runs minibatches of X, Y through a network of `parameters`, in place, as a Choice has it.

    Every epoch has a new order of the samples if `rng` is a generator, else they come as they are. `refuse` raises what
    is to be raised if X or Y is not finite, which the kernels see while they gather the samples.
    """

    def __init__(self, choice, parameters, X, Y, rng, learning_rate, workspace, team, refuse):
        self.choice, self.parameters, self.rng = choice, parameters, rng
        self.orders = random_orders(choice.samples) if rng else as_they_are(choice.samples)
        self.arrays = X, Y  # kept while their operands are used
        self.operands = entry.operand(X), entry.operand(Y)
        self.learning_rate, self.workspace, self.team, self.refuse = learning_rate, workspace, team, refuse
        self.since = 0  # the sample that was next when the parameters were those to go back to
        self.checked = False  # whether the parameters have just been looked at, and are finite
        self.next_check = 0.0  # the time from which on they are to be
        self.all_seen = False  # by the kernels, and finite: until then nothing may be changed for good
        self.minibatches = choice.first_minibatches  # in the next call
        self._prepare()

    def _prepare(self):
        """What the program needs, or the network's own code, where there is that."""
        choice = self.choice
        self.own_code = OWN_CODE.of(choice.network) if choice.network else None
        self.laid_out = choice.laid_out and not self.own_code
        if choice.takes_samples_as_they_come and not (self.own_code or self.rng):
            self.order = AS_THEY_COME
        else:
            size = stretch_size(choice.sizes, choice.dtype.itemsize, choice.batch_size, choice.samples)
            self.order = in_stretches(self.orders, size)
        plan = None
        if self.laid_out or choice.may_be_online:
            plan = plan_for(choice.program, choice.sizes, choice.batch_size, choice.samples, self.workspace)
        if self.laid_out:
            self.live = np.zeros(1, np.intp)  # 1 while the workspace has weights that are further on
            self.given_sizes = plan, plan, entry.IN_TILES
            return
        # To go back to; where weights are laid out, the parameters themselves are.
        self.before = np.empty_like(self.parameters)
        self.given_sizes = None if self.own_code else choice.given_sizes
        if choice.may_be_online:
            sizes, cuts, products = choice.given_sizes
            self.given_sizes = sizes, with_plan(cuts, plan), products

    def epoch(self, bar):
        """Train on all samples; their mean loss.

        Raises FloatingPointError with the last finite parameters in place, or, with the first, what `refuse` does.
        """
        loss, first, begin = 0.0, 0, time.perf_counter()
        samples, batch_size = self.choice.samples, self.choice.batch_size
        whole = samples if self.own_code else self.choice.whole
        if self.rng:
            draw(self.orders, self.rng)
        if self.laid_out:
            self.live[0] = 0
        try:
            while first < samples:
                end = whole if first < whole else samples
                last = min(end, first + self.minibatches * batch_size)
                start = time.perf_counter()
                loss = self._run(first, last, loss)
                self._adjust(time.perf_counter() - start, last - first)
                bar.advance(last - first)
                first = last
        except BaseException:
            self._leave_finite()
            raise
        self.all_seen = True
        self._note_time_without(begin)
        return loss

    def _note_time_without(self, start):
        """Note how long a tiny network has been trained without code of its own, and use it if it has that now."""
        network = self.choice.network
        if network and not self.own_code:
            OWN_CODE.trained_without(network, time.perf_counter() - start)
            if OWN_CODE.of(network):
                self._prepare()

    def _leave_finite(self):
        """Leave finite parameters, of the last step that was taken, where anything is raised: KeyboardInterrupt too."""
        if not self.laid_out:
            if not all_finite(self.parameters):
                self.parameters[:] = self.before
        elif self.live[0]:
            self._call(True, True, True, 0, 0, 0.0)

    def _adjust(self, seconds, samples):
        per_minibatch = seconds / -(-samples // self.choice.batch_size)
        self.minibatches = max(1, min(10 * self.minibatches, int(CALL_SECONDS / per_minibatch)))

    def _run(self, first, last, loss):
        """Train on the samples that come first ... last-1; `loss` plus their share of the mean loss of all samples."""
        keep = first == 0 or (self.all_seen and self.checked)
        if keep:
            self.since = first
        now = time.perf_counter()
        self.checked = last == self.choice.samples or now >= self.next_check
        if self.checked:
            self.next_check = now + CHECK_SECONDS
        commit = self.checked and (self.all_seen or last == self.choice.samples)
        loss, stopped = self._call(keep, self.checked, commit, first, last, loss)
        if stopped < last or np.isnan(loss):
            if not self.laid_out:
                self.parameters[:] = self.before
            self.refuse()
            self._repeat_until_not_finite(self.since, last)
        return loss

    def _repeat_until_not_finite(self, start, end):
        """The same minibatches give the same bits again, one by one, up to the one that went wrong."""
        for first in range(start, end, self.choice.batch_size):
            last = min(end, first + self.choice.batch_size)
            loss, stopped = self._call(True, True, True, first, last, 0.0)
            if stopped < last or np.isnan(loss):
                raise not_finite("loss" if stopped < last else "parameters", first, last)

    def _call(self, keep, check, commit, first, last, loss):
        choice = self.choice
        arrays, run = (self.parameters, *self.operands, self.order), (first, last, loss)
        if self.own_code:
            given = self.learning_rate, *choice.lengths
            return self.own_code(self.before, keep, check, *arrays, *run, *given)
        guard = (self.live, check, commit) if self.laid_out else (self.before, keep, check)
        program, pace = (choice.program, choice.pace) if last <= choice.whole else ("train_in_turn", np.array(PACE))
        given = choice.batch_size, self.learning_rate, *self.given_sizes, self.workspace
        return getattr(entry, program)(*guard, pace, *arrays, *run, *given, *self.team)
