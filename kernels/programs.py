"""Which of the programs trains a network, whether threads may gain from it, and what memory it takes."""

import math

from .blocking import SHARE
from .divided import divided_size, is_divided
from .entry import LAID_OUT
from .matrix import Vector
from .network import training_size, work
from .online import is_online
from .plan import is_apart, small_size, together_size
from .together import is_together


def program_for(sizes, batch_size, samples, threads):
    """The name in `entry` of what is the quickest to train such a network on samples in an order."""
    if is_divided(sizes, batch_size, samples, threads):
        return "train_divided"
    if is_together(sizes, batch_size, samples, threads):
        return "train_together"
    shared = threads > 1 and work(Vector(sizes, len(sizes)), batch_size, batch_size, SHARE) > 0
    if shared or not is_online(sizes, batch_size):
        return "train_in_turn"
    return "train_apart" if is_apart(sizes, batch_size) else "train_online"


def may_share(sizes, batch_size, samples=math.inf):
    """Whether threads, however soon they come, may gain from sharing the work on a batch, or on so many samples."""
    if is_divided(sizes, batch_size, samples, 2) or is_together(sizes, batch_size, samples, 2):
        return True
    return work(Vector(sizes, len(sizes)), batch_size, batch_size, SHARE) > 0


def fit_size(sizes, batch_size, itemsize, threads, samples):
    """Elements of workspace for the program that trains so."""
    program = program_for(sizes, batch_size, samples, threads)
    if program in LAID_OUT:
        size = small_size(sizes, batch_size, itemsize)
        return max(size, together_size(sizes, batch_size, itemsize)) if program == "train_together" else size
    size = training_size(sizes, batch_size, itemsize, threads)
    return max(size, divided_size(sizes, batch_size, itemsize)) if program == "train_divided" else size
