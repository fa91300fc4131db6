"""What two threads tell each other that train together, one half of every minibatch each: a letter at every meeting.

What it costs is that cache lines go from core to core. One that another core has read is not here any more, and takes
four times as long to be written as one that another core has written. So a thread reads what is its own where nobody
else does, and writes its next letter over the one that it has just been handed.
"""

from collections import namedtuple

from .blocking import APART, CACHE_LINE, PATIENCE
from .compiling import helper
from .matrix import advance, as_float64, itemsize, padded
from .parallel import atomic_add, atomic_load, atomic_store, share, wait, wait_until, write
from .tasks import address, call_task, reference, task_address

Pair = namedtuple("Pair", "told half")
"""A pointer to what both tell each other, and a thread's half, 0 or 1."""

# What is told: how many have come, and of each half, in a line of its own, at which meeting it is, and the squared
# errors that it brought to an even and an odd one.
COME, HALF = 0, 1
MEETING, ERRORS = 0, 1
BYTES_TOLD = 16 * CACHE_LINE
GONE = 4  # added to those that have come by one that waits no longer


def pair_size(half, letter, weights, itemsize):
    """Elements of workspace: `half` for each of the two, and for letters and weights of so many elements."""
    apart = APART // itemsize
    return BYTES_TOLD // itemsize + 2 * half + 3 * apart + 2 * padded(letter) + padded(weights)


@helper
def memory_of(workspace, half, letter, weights):
    """The Pair of a half; a pointer to two letters and how far they are apart; pointers to its memory, and to weights
    for the second."""
    told, item = workspace.data, itemsize(workspace.data)
    apart, stride = APART // item, padded(letter) + APART // item
    size = (workspace.size - BYTES_TOLD // item - apart - 2 * stride - padded(weights)) // 2 // 16 * 16
    memory = advance(told, BYTES_TOLD // item)
    letters = advance(memory, size + apart)
    own_weights = advance(letters, 2 * stride)
    if half == 1:
        memory = advance(own_weights, padded(weights))
    return Pair(told, half), (letters, stride), memory, own_weights


@helper
def train_by_two(train_half, alone, result, told, arguments, end, memory):
    """A program, as `train.train_in_turn` is one, of two tasks train_half((arguments, end), half, worker).

    They train what both take a half of, and tell each other at `told`; the program `alone` trains what is left, and
    everything if nobody comes for a half. `result` is that of a program.
    """
    halves = reference((arguments, end))
    write(told, COME, 0, 0)
    for half in range(2):
        write(told, HALF + half, MEETING, 0)
    share(task_address(train_half, halves), address(halves), 2, memory)
    _, reached = result[0]
    if reached < end:
        call_task(task_address(alone, arguments), address(arguments), end, 0)


@helper
def both_come(told):
    """Whether both halves have been taken; the thread that takes one waits some 10 us for another."""
    if atomic_add(told, COME, 0, 1) >= GONE:
        return False
    turns = 0
    while atomic_load(told, COME, 0) < 2:
        turns += 1
        if turns == PATIENCE:
            return atomic_add(told, COME, 0, GONE) >= 2
        wait(turns)
    return True


@helper
def own_letter(pair, letters, meeting):
    """Pointer to what is handed to the other thread at a meeting."""
    start, stride = letters
    return advance(start, (pair.half + meeting) % 2 * stride)


@helper
def other_letter(pair, letters, meeting):
    return own_letter(pair, letters, meeting + 1)


@helper
def meet(pair, meeting):
    """Hand over one's letter and the squared errors of one's half, and wait for the other's."""
    come_to(pair, meeting)
    wait_until(other_line(pair), meeting)


@helper
def come_to(pair, meeting):
    """Tell the other thread that what was to be done before a meeting is done."""
    atomic_store(address(pair.told), HALF + pair.half, MEETING, meeting)


@helper
def other_line(pair):
    """Address of the line that begins with the other thread's meeting."""
    return address(pair.told) + (HALF + 1 - pair.half) * CACHE_LINE


@helper
def tell_errors(pair, number, errors):
    """Write down squared errors, to be told with what is come to next: those of two numbers in turn are kept."""
    as_float64(pair.told)[_errors(pair.half, number)] = errors


@helper
def both_errors(pair, number):
    return as_float64(pair.told)[_errors(0, number)] + as_float64(pair.told)[_errors(1, number)]


@helper
def _errors(half, number):
    return (HALF + half) * (CACHE_LINE // 8) + ERRORS + number % 2
