"""Tasks shared among threads that stay together: one parallel region for a whole run of products.

A region costs 2 us under Numba's OpenMP layer and 100 us under its workqueue, a product of a small network 1 us. So the
first thread of a region leads: it runs a whole program (an epoch, say) and shares out the tasks of each product as it
comes to it; the others wait for such tasks and help. A thread that comes late, or never, is not waited for, so the
program ends under any threading layer, even one that runs the region on a single thread. Which thread computes what
changes no bit.
"""

import os
from collections import namedtuple

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import AFAR, ARGUMENT_LINES, CACHE_LINE, FAR, GRAIN, MOST_THREADS, PATIENCE, SHARE, TASKS_EACH
from .compiling import helper, internal, jit
from .simd import prefetch
from .tasks import ZERO, address, call_task, outlined, reference, task_address

Team = namedtuple("Team", "threads grain")
"""Who computes: `threads` threads, where each of them gets `grain` multiply-adds or more."""

Crew = namedtuple("Crew", "threads grain memory ahead known otherwise")
"""A Team, and addresses: of what its threads tell each other, 0 as long as they have not been called together; of rows
to fetch `ahead`, or 0; and of what computes products `otherwise` than by tiles in one task, as `gemm` has it, or 0.
What is `known` is 0, or a sum of these."""
FROM_AFAR = 1  # A may not be in a near cache, as the samples of which many are predicted
UNCHANGED = 2  # B, the weights of a layer, will not be stepped against

SERIAL = Team(1, GRAIN["omp"])
"""The team that never starts a thread: safe in a forked process, a signal handler, another thread or a prange."""

# What threads of a crew tell each other: 64-bit numbers in cache lines, those of each worker in a line of its own.
ARRIVED, JOB, WORKER = range(3)
ROUND, THREADS, FUNCTION, ARGUMENTS = range(4)  # in the line JOB
NEXT, DONE, KEPT = range(3)  # in the line WORKER + worker
# NEXT is the first task of a worker's share that nobody has taken, and above its SHIFT the one behind the last; DONE,
# how many tasks the worker has done in this round; KEPT, what those before this one left in the worker's own memory.
SHIFT = 32
OVER = -1  # the last ROUND


@intrinsic
def crew_memory(typingctx):
    """Address of the cache lines of a crew, on the stack of the function that asks."""

    def codegen(context, builder, signature, args):
        lines = ir.ArrayType(ir.IntType(8), CACHE_LINE)
        memory = cgutils.alloca_once(builder, lines, size=WORKER + MOST_THREADS)
        memory.align = CACHE_LINE
        return builder.ptrtoint(memory, context.get_value_type(types.intp))

    return types.intp(), codegen


def _slot(builder, crew, line, number=None):
    """Pointer to a number of a crew."""
    offset = builder.mul(line, ir.Constant(line.type, CACHE_LINE))
    if number is not None:
        offset = builder.add(offset, builder.mul(number, ir.Constant(line.type, 8)))
    return builder.inttoptr(builder.add(crew, offset), line.type.as_pointer())


@intrinsic
def write(typingctx, crew, line, number, value):
    """Write a number that no other thread reads or writes now."""

    def codegen(context, builder, signature, args):
        crew, line, number, value = args
        builder.store(value, _slot(builder, crew, line, number))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def read(typingctx, crew, line, number):
    def codegen(context, builder, signature, args):
        return builder.load(_slot(builder, *args))

    return types.intp(types.intp, types.intp, types.intp), codegen


@intrinsic
def atomic_add(typingctx, crew, line, number, value):
    """Add to a number and return what it was: one step for all threads.

    Here and in the next two, what a thread wrote before it changes a number is seen by those that see it changed.
    """

    def codegen(context, builder, signature, args):
        crew, line, number, value = args
        return builder.atomic_rmw("add", _slot(builder, crew, line, number), value, "acq_rel")

    return types.intp(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def atomic_load(typingctx, crew, line, number):
    def codegen(context, builder, signature, args):
        return builder.load_atomic(_slot(builder, *args), "acquire", 8)

    return types.intp(types.intp, types.intp, types.intp), codegen


@intrinsic
def atomic_store(typingctx, crew, line, number, value):
    def codegen(context, builder, signature, args):
        crew, line, number, value = args
        builder.store_atomic(value, _slot(builder, crew, line, number), "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def pause(typingctx):
    """Tell the processor that this thread waits for another."""

    def codegen(context, builder, signature, args):
        triple = context.codegen().magic_tuple()[0]
        if triple.startswith(("x86_64", "i686")):
            name, arguments = "llvm.x86.sse2.pause", []
        elif triple.startswith(("aarch64", "arm64")):
            name, arguments = "llvm.aarch64.hint", [ir.Constant(ir.IntType(32), 1)]
        else:
            return context.get_dummy_value()
        function = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def give_way(typingctx):
    """Let the system run another thread on this core, where there is one."""

    def codegen(context, builder, signature, args):
        if os.name == "posix":
            function = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@helper
def wait(turns):
    """One of so many turns of a loop that waits: where cores are short, the thread waited for may need this one."""
    if turns % PATIENCE == 0:
        give_way()
    else:
        pause()


@helper
def wait_until(line, least):
    """Wait until the number that a cache line begins with, which another thread adds to, is `least` or more."""
    turns = 0
    while atomic_load(line, 0, 0) < least:
        turns += 1
        wait(turns)


def run_tasks(function, arguments, tasks):
    for task in prange(tasks):
        call_task(function, arguments, task, 0)


run_tasks_parallel = jit(run_tasks, name="run_tasks_parallel", parallel=True)


@helper
def at_most(threads, crew):
    """A Crew without those of its threads that would find nothing to do, and look for it."""
    return Crew(min(crew.threads, threads), crew.grain, crew.memory, crew.ahead, crew.known, crew.otherwise)


@outlined
def lead(program, arguments, crew, work) -> None:
    """Call program(arguments, memory, 0), with a crew to share its tasks if `work` multiply-adds are enough for one."""
    threads = min(crew.threads, MOST_THREADS, work // crew.grain)
    if crew.memory != 0 or threads < 2:
        call_task(program, arguments, crew.memory, 0)
        return
    memory = crew_memory()
    write(memory, ARRIVED, 0, 0)
    write(memory, JOB, ROUND, 0)
    write(memory, JOB, THREADS, threads)
    members = reference((program, arguments, memory))
    run_tasks_parallel(task_address(join, members), address(members), threads)


@internal
def join(members, task, _):
    """The first thread to come leads, the others help."""
    program, arguments, memory = members[0]
    worker = atomic_add(memory, ARRIVED, 0, 1)
    if worker == 0:
        call_task(program, arguments, memory, 0)
        atomic_store(memory, JOB, ROUND, OVER)
    else:
        help_out(memory, worker)


@outlined
def help_out(memory, worker) -> None:
    """Take tasks of every round, until the leader is done."""
    seen, turns = 0, 0
    while True:
        number = atomic_load(memory, JOB, ROUND)
        if number == OVER:
            return
        if number == seen:
            turns += 1
            wait(turns)
        else:
            seen, turns = number, 0
            for line in range(ARGUMENT_LINES):
                prefetch(read(memory, JOB, ARGUMENTS) + line * CACHE_LINE)
            take_tasks(memory, worker)


@outlined
def take_tasks(memory, worker) -> None:
    """Call tasks until none is left: of one's own share, so that data stay in one core's cache, then of the others'.

    A task that has been taken is of the round that is open now: the leader waits for it before the next.
    """
    threads = read(memory, JOB, THREADS)
    for t in range(threads):
        line = WORKER + (worker + t) % threads
        while has_task(atomic_load(memory, line, NEXT)):
            taken = atomic_add(memory, line, NEXT, 1)
            if has_task(taken):
                task = taken & ((1 << SHIFT) - 1)
                call_task(read(memory, JOB, FUNCTION), read(memory, JOB, ARGUMENTS), task, worker)
                atomic_store(memory, WORKER + worker, DONE, read(memory, WORKER + worker, DONE) + 1)


@helper
def has_task(numbers):
    """Whether a worker's NEXT is below the end of its share."""
    return numbers & ((1 << SHIFT) - 1) < numbers >> SHIFT


@outlined
def share(function, arguments, tasks, memory) -> None:
    """Call function(arguments, task, worker) for every task, by all threads of a crew; memory 0 has only this one."""
    if memory == 0 or tasks == 1:
        for task in range(tasks):
            call_task(function, arguments, task, 0)
        return
    threads = read(memory, JOB, THREADS)
    write(memory, JOB, FUNCTION, function)
    write(memory, JOB, ARGUMENTS, arguments)
    for worker in range(threads):
        write(memory, WORKER + worker, DONE, 0)
        write(memory, WORKER + worker, KEPT, -1)
    for worker in range(threads):  # from the first NEXT on, others may begin
        first, end = worker * tasks // threads, (worker + 1) * tasks // threads
        atomic_store(memory, WORKER + worker, NEXT, (end << SHIFT) + first)
    atomic_store(memory, JOB, ROUND, read(memory, JOB, ROUND) + 1)
    take_tasks(memory, ZERO)
    turns = 0
    while done(memory, threads) < tasks:
        turns += 1
        wait(turns)


@helper
def done(memory, threads):
    """Tasks that have been done in this round."""
    tasks = 0
    for worker in range(threads):
        tasks += atomic_load(memory, WORKER + worker, DONE)
    return tasks


@helper
def columns_of(task, parts, columns):
    """Where a task's share of so many columns begins and ends: whole cache lines, in either dtype."""
    start, end = task * columns // parts, (task + 1) * columns // parts
    return start // 16 * 16, end // 16 * 16 if task + 1 < parts else columns


@helper
def worth_sharing(work, grain):
    """Whether two threads that have been called together, for `grain` each, gain from sharing so many multiply-adds."""
    return work >= 2 * min(grain, SHARE)


@helper
def product_work(m, n, k):
    """Multiply-adds of a product, or as many as take as long as its largest operand takes to come from afar."""
    largest = max(m * n, n * k, m * k)
    return max(m * n * k, AFAR * largest) if largest > FAR else m * n * k


@helper
def sharers(work, grain):
    """How many threads that have been called together, for `grain` each, gain from sharing so many multiply-adds."""
    return work // min(grain, SHARE) if worth_sharing(work, grain) else 1


@helper
def sharers_of(work, crew):
    """How many threads of a crew gain from that."""
    return min(read(crew.memory, JOB, THREADS), sharers(work, crew.grain)) if crew.memory != 0 else 1


@jit(inline=True)
def tasks_for(work, crew):
    """Into how many tasks to cut so many multiply-adds: several a thread, so that one who is late finds less to do."""
    threads = sharers_of(work, crew)
    return TASKS_EACH * threads if threads > 1 else 1


@helper
def first_of(task, tasks, n):
    """Where a task's part of n begins, for `tasks` from `tasks_for` of which each thread's get smaller and smaller.

    So in the end nobody waits for long: behind the first t of a thread's there is (1 - t/TASKS_EACH)^2 of its share.
    """
    thread = task // TASKS_EACH
    t = task - thread * TASKS_EACH
    return (thread * TASKS_EACH * TASKS_EACH + t * (2 * TASKS_EACH - t)) * n // (tasks * TASKS_EACH)
