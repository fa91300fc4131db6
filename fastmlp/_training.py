"""`Trainer`: minibatches in compiled calls short enough to interrupt, whose parameters stay finite numbers."""

import functools
import time

import numpy as np

from ._checks import all_finite
from .kernels import entry
from .kernels.pace import PACE
from .kernels.programs import program_for
from .kernels.shuffle import shuffle

IN_ORDER = np.empty(0, np.int64)
"""The order of samples that takes them as they come."""

SHUFFLED_AT_ONCE = 1 << 14  # samples: random numbers for so many stay in a near cache
CALL_SECONDS = 0.05  # Ctrl-C and the progress bar wait for the end of a compiled call
CHECK_SECONDS = 0.5  # from one look at the parameters, and copy of them, to the next: 2 % of a step of 1024x4
FIRST_CALL_WORK = 1e8  # multiply-adds: at most some 50 ms on any machine, to measure the pace of
STEP_WORK = 2e4  # multiply-adds that take as long as what a minibatch costs beside them, or longer: some us


def shuffled(samples, rng):
    """The numbers of the samples in a random order."""
    order, uniform = np.arange(samples, dtype=np.intp), np.empty(min(samples, SHUFFLED_AT_ONCE))
    for start in reversed(range(0, samples, SHUFFLED_AT_ONCE)):
        end = min(samples, start + SHUFFLED_AT_ONCE)
        shuffle(order, start, end, rng.random(out=uniform[: end - start]))
    return order


@functools.lru_cache
def program_and_pace(sizes, batch_size, samples, threads):
    """The name in `entry` of what trains such a network, and what is known of how quick it is on this machine."""
    return program_for(sizes, batch_size, samples, threads), np.array(PACE)


class Trainer:
    """Runs minibatches of X, Y through the network of `parameters`, in place.

    `refuse` raises what is to be raised if X or Y is not finite, which the kernels see while they gather the samples.
    """

    def __init__(self, parameters, widths, X, Y, batch_size, learning_rate, workspace, team, refuse):
        self.parameters, self.widths = parameters, widths
        self.samples = len(X)
        self.arrays = X, Y  # kept while their operands are used
        self.operands = entry.operand(X), entry.operand(Y)
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.workspace, self.team, self.refuse = workspace, team, refuse
        self.before = np.empty_like(parameters)
        self.since = 0  # the sample that was next when the parameters were those `before`
        self.checked = False  # whether the parameters have just been looked at, and are finite
        self.next_check = 0.0  # the time from which on they are to be
        self.program, self.pace = program_and_pace(tuple(widths), batch_size, self.samples, team[0])
        self.all_seen = False  # by the kernels, and finite: until then nothing may be changed for good
        self.minibatches = max(1, int(FIRST_CALL_WORK / (3 * batch_size * parameters.size + STEP_WORK)))

    def epoch(self, order, bar):
        """Train on all samples in `order`; their mean loss."""
        loss, first = 0.0, 0
        while first < self.samples:
            last = min(self.samples, first + self.minibatches * self.batch_size)
            start = time.perf_counter()
            loss = self.run(first, last, order, loss)
            self._adjust(time.perf_counter() - start, last - first)
            bar.advance(last - first)
            first = last
        self.all_seen = True
        return loss

    def _adjust(self, seconds, samples):
        per_minibatch = seconds / -(-samples // self.batch_size)
        self.minibatches = max(1, min(10 * self.minibatches, int(CALL_SECONDS / per_minibatch)))

    def run(self, first, last, order=IN_ORDER, loss=0.0):
        """Train on the samples first ... last-1 of `order`; `loss` plus their share of the mean loss of all samples.

        Raises FloatingPointError with the last finite parameters in place, or, with the first, what `refuse` does.
        """
        keep = first == 0 or (self.all_seen and self.checked)
        if keep:
            self.since = first
        now = time.perf_counter()
        self.checked = last == self.samples or now >= self.next_check
        if self.checked:
            self.next_check = now + CHECK_SECONDS
        try:
            loss, stopped = self._call(keep, self.checked, first, last, order, loss)
            if stopped < last or np.isnan(loss):
                self.parameters[:] = self.before
                self.refuse()
                self._repeat_until_not_finite(self.since, last, order)
        except BaseException:  # Ctrl-C too, which reaches us after the call
            if not all_finite(self.parameters):
                self.parameters[:] = self.before
            raise
        return loss

    def _repeat_until_not_finite(self, start, end, order):
        """The same minibatches give the same bits again, one by one, up to the one that went wrong."""
        for first in range(start, end, self.batch_size):
            last = min(end, first + self.batch_size)
            loss, stopped = self._call(True, True, first, last, order, 0.0)
            if stopped < last or np.isnan(loss):
                what = "loss" if stopped < last else "parameters"
                raise FloatingPointError(
                    f"the {what} turned NaN or infinite at samples {first} to {last - 1}; the last finite parameters "
                    "are kept: lower learning_rate, or scale X and Y"
                )

    def _call(self, keep, check, first, last, order, loss):
        program = "train_in_turn" if order.size == 0 else self.program
        return getattr(entry, program)(
            self.before,
            keep,
            check,
            self.pace,
            self.parameters,
            *self.operands,
            order,
            first,
            last,
            loss,
            self.batch_size,
            self.learning_rate,
            self.widths,
            self.workspace,
            *self.team,
        )
