"""Sizes of tiles and blocks, and where one way becomes quicker than another: the only tuning numbers.

Each with its measurement; what is derived from the host's vectors is in `host`.
"""

MR = 12  # rows of A whose sums lie together, one or more tiles of them

# Multiply-adds that a thread must get for a product to be shared, by Numba's threading layer: a parallel region
# costs about 2 us under OpenMP and TBB and 100 us under workqueue.
GRAIN = {"omp": 1 << 18, "tbb": 1 << 18, "workqueue": 1 << 23}

# Multiply-adds that a thread of several already called together must get for a product to be shared: 16 us. A meeting
# costs 1 to 3 us and every cache line that another core wrote some 10 ns: with 2**18, a step of 128-128-10 by 64, which
# then shares two products of 2**20, takes 1.06 times as long.
SHARE = 1 << 20
# So many where a minibatch has fewer than HALVED samples, so that threads cannot take halves of it instead: of the time
# with 2**20 a step takes 0.67 on 18-138-1004-1 by 8, 0.77 on 11-304-331-1 by 7, 0.76 on 128-512-64 by 12 and
# 1000-100-100 by 8, 0.95 on 256-256-256 by 4, 1.0 to 1.1 on 300-300-10 by 8.
SHARE_FEW = 1 << 18
SIGMOID = 32  # multiply-adds that take as long as a σ
COPY = 64  # multiply-adds that take as long as copying an element that is in no near cache
# Or as adding it to others of its column. By columns two threads sum δ of both hidden layers of 784-512-512-10 by 256
# in 0.4 of one's time in float32, in 0.3 in float64.
SUMMED = 16

# Tasks for every thread that shares a product, the last of them small. With 4 a step by two threads takes 1.03 to 1.07
# times as long on 784-512-512-10 by 256 and 1024x4 by 1024, and 0.98 to 0.99 on 784-512-512-10 by 16; with 4 of the
# same size, 1.01 to 1.08 on the first two.
TASKS_EACH = 6
PATIENCE = 1024  # turns of waiting, some tens of us, after which a thread lets others have its core
ARGUMENT_LINES = 5  # cache lines of the arguments of tasks, which a thread asks for before it needs them
MOST_THREADS = 64  # of a crew, whose numbers lie on the stack
CACHE_LINE = 64  # bytes

# Blocks of a product, in elements; measured on AVX-512 in float32.
# Of k: a panel of B, 128 KB, stays in the second cache; a step of 1024x4 takes 4 % longer with 128 or 256. With 1024
# steps of 784-512-512-10 by 256, 1024-1024-1024 by 128 and 1000-1000-10 by 32 take 0.99 to 1.03 times as long (AVX2).
KC = 512
MC = 10  # tiles of rows that a slice of k goes through before the next, where there are several
# Bytes of sums that are there together, else: of 2 tiles on AVX-512, of 8 on AVX2, where with 2 a step of 2-32-32-1
# takes 1.1 times as long, and one of 17-64-64-6 or 64-64-10 1.03.
SUMS = 6144
# Rows of C, three times as many where those of B lie whole pages apart, or terms of each sum, up to which a product is
# streamed, if its largest operand has more than FAR elements: on 1024x4 a step by 2 takes 0.38 of the time, one by 8
# 0.64. With 16 rows on 784-512-512-10, 512x4 and 1000x4 one by 16 takes 1.1 times as long, with 8 on 1024x4 1.1 too.
# From afar products of 17 and 24 rows with 1024x1024, 512x1024 and 1000x2048 take 0.4 to 0.77 of the time.
# A B of more than MEMORY elements, which no cache holds, is streamed for up to FEW_FROM_MEMORY rows: `predict` of 13
# by 248-2327-2939 takes 0.65 to 0.7 of the time, but with 2^21, of 24 by 1500-2000-10, 1.15 times as long (AVX2). With
# AVX-512 0.95, of 20 by 3000-3000-3000 0.92, of 24 by 2048-4096 1.0 to 1.06, but of 30 by 3416-2916-3 1.2.
FEW_ROWS = 8
FEW_TERMS = 16
FAR = 1 << 17
FEW_FROM_MEMORY, MEMORY = 24, 1 << 22
AFAR = 8  # multiply-adds that take as long as an element of such an operand
# Columns at most of which a row of sums stays in the first cache, and sums of several rows, or of one by a B that comes
# from memory: with 4096 columns a prediction takes 0.9 of the time on 2000-3000-2000, but 1.03 on 1000-2000.
STREAMED, SUMS_STREAMED = 1024, 4096
# Bytes of a row that are fetched ahead. Of the time with next rows fetched instead, a prediction of one sample takes
# 0.85 on 1024x4, 0.95 on 784-1000 and 3000-1000-10, 1.0 to 1.03 on 784-300 and 300x4; in float64 0.75 on the first two.
# From memory more, into the second cache: 0.8 and 0.9 on 2000-3000-2000, by one thread and by two.
FETCHED_STREAM, FETCHED_FROM_MEMORY = 768, 2048
STREAMED_PART = 128  # columns, at least, of a thread
# Rows of C up to which two threads take halves of the rows of B, slice of k by slice, also where they will not step
# against them: by 1 a prediction takes 0.85 of the time on 784-1000 and 3000-1000-10, by 2 0.8 on 1024x4, but by 8 1.1
# there and 1.2 on 784-400-10 (on cores that are far, by 4 1.1 on 784-1000, by 8 1.6 on 784-400-10). A step takes 0.7 on
# 1024x4 and 784-512-512-10 by 2, 0.83 and 0.88 by 8, 0.93 on 784-1000-10 by 4.
FEW_SLICED = 2
# Rows of C from which on it pays to copy a panel of B whose rows lie apart, if all of B is more than L1; half as many
# where they lie whole pages apart, in few sets of the first cache: a step of 1024x4 by 36 or 48 takes 0.88 of the time.
# Rows no more than NEAR_ROWS bytes apart are read where they are: copied, a product with k = 784 takes 1.07 times as
# long for 128 rows of C and 128 or 256 columns, 1.15 for 64 rows and 128 or 200. But if they do not begin with cache
# lines, and there are several panels, they too are copied for more than twice as many rows of C: 0.92 for 128 and 100.
# Where k is more than two slices, a B of more than FAR elements is copied for more than twice as many rows: read where
# it is, `predict` takes 0.6 to 0.97 of the time on 1479-823-24 by 64 and 2000-500-10 by 84, but 1.02 to 1.2 on
# 1000-1000-10 by 90, 1.2 to 1.4 on 516-1926-10 by 64. While a panel of such a B is read, the next is fetched, row by
# row: from afar a product takes 0.3 to 0.8 of the time for 9 to 48 rows with 400x600, 784x512, 1000x1000 and 516x1926;
# where weights stay near, 0.98 to 1.05 in steps of 784-512-512-10, 400-600-10 and 1000-1000-10 by 12 (AVX2).
PACK_ROWS, NEAR_ROWS = 48, 1024
PAGE = 4096  # bytes
# Elements between the memory of threads that share a product. Processors fetch what lies behind a panel that is read,
# up to the end of a page: without, a step by two threads takes 1.0 to 1.01 times as long on 784-512-512-10 by 256, 1.04
# on 512-512-512 by 128.
BETWEEN = 1024
L1 = 8192  # elements that stay in the first cache
A_BLOCK = 1 << 18  # A is used in blocks of rows that stay in the second cache
# Or in blocks of so many bytes, or the weights', where it is copied or fetched ahead: then it may come from the third.
# With 2^23 a step takes 1.04 times as long in float64 on 1024x4 and 1500-1500-1500 by 1024, 1.08 on 2000-2000-500 by
# 1000; with 2^21 0.99 to 1.13 in float64 on these and 3000-1000-10 by 1000, 0.99 to 1.03 in float32 (AVX2). Of LONG
# sums more, since panels of B are copied anew for each: 0.91 of the time of 3000x2000 by 2000x1500 in float64.
A_PACKED, A_LONG = 1 << 22, 1 << 24
# Panels of C from which on an A of more than L1 is copied, unless its columns are adjacent: else every step of k reads
# from another page. Without copies steps of 784-512-512-10 by 256 and 1024x4 by 1024 take 1.06 and 1.15 times as long;
# with copies of a smaller A one of 64-64-10 takes 1.07 times as long on AVX2. Of panels of 2 vectors it takes as many
# as each has columns: on AVX2, with copies for 4 panels or more, one of 784-64-10 by 200 takes 1.06 times as long, of
# 784-128-10 by 128 1.03, of 300-100-100-5 by 300 1.05; in float64, without copies for less than 16, 1.04, 1.0 and 1.03.
# But an A of more than A_FAR elements is copied for 4 too: a step takes 0.96 and 0.92 of the time, by one thread and by
# two, on 5000-100-10 by 200, 0.97 and 1.0 on 3000-128-10 by 256, 0.97 and 0.98 on 2000-200-10 by 300, 0.9 and 0.93 on
# 5000-60-10 by 200 in float64; with half as many elements 0.98 to 1.09 on 1500-200-10 by 200 and 1200-240-10 by 256.
A_COLUMNS, A_FAR = 4, 1 << 19
# Panels of B that every few tiles of A meet in turn, where C has twice as many, and so many tiles that threads share it
# well; where A has more bytes than stay near, and the panels no more than do. Of the time that a step takes panel by
# panel it takes so 0.97 in float32 and 0.94 in float64 on 784-512-512-10 by 256, 0.94 and 0.87 on 512x4 by 64, 0.96 and
# 0.96 on 1024x4 by 256, 1.0 and 1.0 on 784-128-10 by 128 (AVX2); with 8 panels the same.
PANELS, MANY_TILES = 4, 256
BYTES_OF_A, BYTES_OF_PANELS = 1 << 15, 1 << 18
# Of more terms than LONG panels of so many bytes across, and of so many for all threads together, and rows of A of so
# many bytes a slice of k: panel by panel A comes from the third cache too often. By one thread a product takes 0.74 of
# the time in float64 and 0.86 in float32 on 1000x3000 by 3000x1500, 0.76 and 0.93 on 1000x2000 by 2000x1500; a step by
# two 0.92 and 0.95 on 3000-1500-10 by 1000. With sums of 1024 terms one of 1024x4 by 1024 takes 0.93 so by one thread,
# but 1.04 by two (AVX2).
LONG, BYTES_ACROSS, BYTES_OF_LONG, BYTES_OF_ROWS = 2 * KC, 768, 1 << 22, 1 << 18
# Or that all tiles meet, slice of k by slice, where few rows of A meet a B of several slices that is read from afar,
# where it is: adjacent cache lines of its rows come together, and fewer pages at a time. Of the time that it takes
# panel by panel, `predict` by one thread and by two takes 0.84 and 0.74 on 1479-823-24 by 39 in float64, 0.72 and 0.92
# in float32; 0.81 and 0.70, 0.65 and 0.77 on 1996-951-22 by 22; 0.72 and 0.84, 0.84 and 0.88 on 2000-500-10 by 24; 0.91
# to 0.98 on 1000-1000-10 by 16; 0.93 to 1.02 on 784-512-512-10 by 24 and 40 (AVX2). By one thread 4 gain half.
PANELS_AFAR = 12
# Minibatches that are trained in one go from which on large weights are stored in panels: by one thread and by two a
# step takes 0.93 and 0.93 of the time on 784-512-512-10 by 32, 0.95 and 0.94 by 64 (0.95 and 0.96 in float64), 0.98 and
# 0.99 by 256; 0.95 and 0.92 on 1000-1000-1000 by 64, 0.97 and 1.0 on 512x4 by 20 (AVX2). To copy them there and back
# takes half as long as such a step, or less.
STORED_FROM = 8
# Bytes of all parameters from which on that is done for few samples too, but more than FEW_ROWS, unless rows lie whole
# pages apart: every row of a panel is on another page, and a processor's second table of addresses has 2048. Of the
# time a step takes 0.6 to 0.9 on 516-1926-703 and 1000x4 by 12 and 2000-1000-10 by 16, but 1.05 to 1.2 on 1024x4 by 12,
# and on smaller networks, 784-512-512-10 and 1000-1000-10, by 12 (AVX2).
MANY_PAGES = 6 << 20
# Bytes of all samples, from which on the rows of the next minibatch are fetched beforehand, and of a minibatch, up to
# which they are: a step of 30-32-2 by 8 takes 0.84 of the time where there are 4 MB of samples, 1.02 where 0.6 MB; with
# 2**16 one of 784-30-10 by 32 takes 1.1 times as long, of 784-128-10 by 64 1.02 and 1.08 by two threads, of 30-10-5 by
# 900 1.33, with 2**19 one of 784-128-10 by 128 1.0 and 0.98.
BYTES_NEAR = 1 << 20
BYTES_AHEAD = 1 << 18
LINES_AHEAD = 12  # cache lines of the next minibatch that are fetched with every few tiles
# Numbers of a random order that are worked out at once, side by side: with 32 it takes 1.25 times as long, with 16 1.6,
# but of 4 samples half the time (AVX2). Its keys: by chi-squared tests of single places and of pairs in
# 400,000 orders of 257 to 5000 samples, 4 are too few, and 6 enough. Few samples take more: of the orders of 6, one is
# up to 1.7 times as likely as on the average by 8 keys, 1.05 by 16, and every 2 more halve what is beyond 1.
ENCIPHERED = 64
KEYS, KEYS_OF_FEW, FEW_SAMPLES = 8, 32, 256
# Numbers of an order that are worked out together, at least and at most, else half as many bytes as a network's
# parameters have; with twice as many a step takes 0.98 to 1.0 of the time, with half as many up to 1.03 times as long.
# They are taken by one call of a program, which, of large weights, may begin with copies.
STRETCH_LEAST, STRETCH_MOST = 1 << 10, 1 << 15
# Where a network is laid out in rows: samples, and inputs of an update, from one turn of fetching to the next, whole
# tiles of 6 rows. Of the time with half as many, a sample of a million takes 0.93 on 10-5-1 by 32, 0.96 on 30-10-5 by
# 900, 0.98 on 64-64-10 by 32 and 17-64-64-6 by 64; with all in one turn 0.97 on the first.
SAMPLES_FETCHING, INPUTS_FETCHING = 48, 96
# Terms of every sum in one turn of the loop over k, in large tiles. Beside another program's thread on its core a
# processor of AMD's issues 3.3 instructions a cycle in place of 6, but multiplies as before: 8 multiply-adds of a tile
# of 4 rows by 2 vectors with a term a turn take 1.45 times as long there as alone, of 6 rows by 2 vectors 1.32; with 4
# terms a turn 1.30 and 1.19, with 8 no less. Alone they all take the same.
UNROLLED = 4
SIDE_BY_SIDE = 8  # sums that keep the multipliers busy: two terms a cycle, each of which takes 4
# k from which on what comes next is fetched beforehand: of C, if that is more than L1; of A, for the first panel, if
# its columns are adjacent and it is more than FAR: without, `predict` of 10,000 takes 1.02 to 1.06 times as long on
# 784-64-10 and 784-128-10, on AVX2 1.04 and 1.01, 1.08 on 784-30-10; or, where it is samples to predict, more than L1:
# without, 1.06 to 1.36 on 200-100-10, 300-60-5 and 128-128-128-10; but so too, a step of 784-128-10 by 128 would take
# 1.03 times as long, as its samples have just been gathered. Later panels leave A to the processor: with as
# many instructions for it a product of 1024 cubed takes 1.06 times as long, one of 256x784 by 784x512 1.03. A C of more
# than FAR is fetched for any k: steps of 1000x4 and 3000-2000 by 32 take 0.85 of the time, gradients of 784-512 and
# 400-600 by 20 and 40 from afar 0.75 to 0.95, steps that stay near 0.98 to 1.02.
PREFETCH = 64
# Terms of each sum from which on it pays to transpose a C of few columns, twice: the update of 784-10 takes 0.6 of the
# time by 100, 0.85 by 32, 1.1 by 16; of 784-3 0.3, 0.55 and 0.9; of 300-5 by 500 0.3.
TERMS_TRANSPOSED = 32
# Rows fetched ahead where the loss goes down a few columns, page after page: 0.75 of its time on 1024x4; and where
# samples are taken one by one: 0.6 of a step of 7-1 by 1 among 200,000 of them. Of a tiny network both ends of a row,
# which may be in two cache lines: a sample of a million takes 0.72 of the time on 8-8-4 by 1000, 0.88 on 4-8-3 by 500.
ROWS_AHEAD = 16
# Elements of rows of X, at least one row, from one that is gathered to one that is fetched, into the second cache: of a
# million samples a step of 4-8-3 by 5000 takes 1.07 times as long with 128, 1.3 if these come to the first cache; of
# 30-10 by 5000 1.05 and 1.07, of 9-1 by 10,000 1.0 and 1.07, of 10-10-10 by 1500 1.0 and 0.98. Without the lines in
# which rows end 1.2 on 8-8-4 by 5000, 1.12 on 20-10-5 by 5000, 1.07 on 30-10-5 by 3000.
GATHERED_AHEAD = 512
# Tiles of A that are copied side by side, so that of every cache line more than a part is read at once: of the time of
# one by one the copy of x of 784-512-512-10 by 256 takes 0.8 in float32 and 0.7 in float64, of 1500 by 1000 0.7 and
# 0.5; with 4 the same, with 16 up to twice that.
TILES_COPIED = 8
# Cache lines of rows that are copied from one to one that is fetched, on AVX2, where rows of a panel are single lines,
# each perhaps on another page. Without, a step of 784-512-512-10 by 256 takes 1.03 times as long.
COPIED_AHEAD = 48

# A large minibatch of a small network is cut into shards, which threads take forward and back side by side, so many
# samples, or up to twice as many, at a time: then activations stay in the second cache, as a shard's gradient does.
# With 48 or 192 steps of 17-64-64-6 and 784-30-10 by 1000 and 150-150-10 by 512 take 0.92 to 1.04 times as long.
SHARDED_PARAMETERS = 1 << 18  # of a network, up to which that is done
MICROBATCH = 96
MOST_SHARDS = 32  # whose losses lie on the stack

# Samples of a network of a single output that go forward and back together, or fewer if their inputs would fill half of
# the first cache; vectors of inputs whose products are added up together: two of these a cycle, each of which takes 4.
# Of the time by products gradients by 10,000 take 0.8 on 2-1, 0.7 on 9-1, 0.6 on 20-1, 40-1 and 100-1.
SAMPLES_AT_ONCE, COLUMNS_ADDED = 64, 8

# Samples of a minibatch of a small network from which on its gradient is that of two halves: of one thread's time a
# step by 16 took 0.8 to 1.0 by two threads of an earlier version, on near cores; now, on far ones, it takes 1.3 to 1.6.
HALVED = 16
# Multiply-adds of a step from which on two threads take a half each, where that is the quicker: on cores that are far
# from each other a step takes 0.75 of the time on 17-64-64-6 by 64 and 30-64-2 by 64, 0.9 to 1.25 on 64-64-10 by 32 and
# 1.05 to 1.15 on 2-32-32-1 by 32.
TOGETHER = 1 << 15
# Samples from which on they do so where products are large enough to be shared, too, in a network of hidden layers that
# is trained in rows: of the time by shared tiles a step takes 0.77 and 0.95 on 20-200-200-20 by 64 (0.94 in float64),
# 0.80 on 10-300-100-3 by 70 (0.83), 0.88 on 256-128-64-10 by 100, 0.86 on 128-128-128-10 by 128 (0.88), 0.92 on
# 300-150-20 by 100 (0.98), 0.91 to 1.01 on four networks by 40 to 48, 1.01 on 100-256-256-10 by 32, 1.01 on 500-100 by
# 150 (1.13); by one thread up to 1.05 times as long, as sums over it are of two halves then.
HALVED_LARGE = 64
# Multiply-adds of a step from which on two threads take a half each in single steps and gradients too, with gradients
# of their own: called from Python gradients take 0.6 to 0.7 of the time of one thread on 131-84-90-21-4 by 147 and
# 49-128-27-94 by 179, 0.7 on 490-11 by 185 and 1-4-52-341 by 53, 0.8 on 47-583 by 30, 0.9 on 1-56-235-121-1 by 18.
HALVES_ALONE = 1 << 21
# Times the parameters that these may take beyond the memory that is promised: each has weights and a letter. With
# shared weights, or letters in place of W, a step of 17-64-64-6 by 64 takes 1.15 times as long on far cores.
LETTERS = 4
# Bytes between the memory of two threads that divide a layer. Processors fetch so far ahead of strided reads, and take
# lines that the other thread then has to take back.
APART = 1 << 14

# The sum over many inputs is of two halves, of so many inputs or more, where a layer has few weights: for more of them,
# rows or columns can be shared. Two threads that divide such a layer gain from so many multiply-adds on, if their cores
# are near to each other: by 2 a step of 784-30-10 takes 0.6 of the time, by 10 too; on cores that are far 0.96 and
# 0.74, one of 784-128-10 by 4 0.89, of 784-10 by 3 0.7.
SLICE = 128
SLICED_WEIGHTS = 1 << 18
DIVIDED = 1 << 14
# So is that over the units of a hidden layer below few outputs, of which two threads may have a half each (`units`),
# where that is quicker: of the time by halves of minibatches a step takes 0.86 on 64-64-10 by 32, 0.85 on 100-100-10 by
# 30, 0.9 on 20-200-5 by 50, but 1.13 on 8-64-16 by 100, where more would be handed over than half of a gradient; by
# halves of inputs 0.88 on 784-30-10 by 10 and 784-128-10 by 4, 0.78 on 784-30-10 by 2, but 1.12 on 784-24-10 by 20 and
# 1.04 on 784-40-10 by 10, where every pair of vectors would be partly empty (AVX2, near cores). With AVX-512, on cores
# that are far, it takes 0.68, 0.64, 0.86 and 1.04 on the first four, 0.88 on 784-128-10 by 4, 1.2 on 784-30-10 by 10.
SLICED_UNITS, SLICED_OUTPUTS = 24, 16
UNITS_HANDED, UNITS_EMPTY = 2, 6
# Where so many threads gain from sharing the product of a first layer, two do not divide that: of the time of two, a
# step by 16 threads takes 1.4 times on 784-128-10 by 32, 1.0 on 784-256-10 by 32, 0.89 on 784-128-10 by 64 and 0.54 by
# 128, 0.55 on 784-256-10 by 64; by 4 threads 1.3 times, 1.3, 1.04, 1.0 and 1.15 (AVX-512, far cores).
MANY_THREADS = 6
RUN = 8  # minibatches from which on it pays to call threads together for that, and that are timed together
RUNS = 8  # such runs at most as one: two threads begin one by copying weights
# Multiply-adds of a minibatch up to which threads are timed at all: a ms. On cores far from each other two of them take
# 1.0 of the time of one on 784-512-512-10 by 16, 1.08 on 600-600-600-10 by 20, 0.95 on 1024x4 by 28; on near ones 0.57
# and 0.53 on the first and the last. More, of up to 2 FEW_ROWS samples: few need each weight, and on far cores it comes
# from the other one. There two take 1.46 of the time of one on 7-215-2088-1060 by 10 and 1.16 on 1212-553-1957-1030 by
# 8, on near ones 0.5 to 0.57, of which trials are 0.01 to 0.03.
PACED, PACED_FEW = 1 << 26, 1 << 28
# Runs from one trial of the slower, all threads or one, to the next: more and more, as long as it is the slower.
TRIED_FIRST, TRIED_LAST = 4.0, 128.0

# Elements of weights that are kept, in one array or two, by one sample and by several, of no more multiply-adds in a
# pass through the layers, up to which a network is laid out in rows of whole vectors, without tiles. By 1 a step
# takes 0.2 to 0.6 of the time on 7-1, 784-10, 64-64-10, 784-30-10, 784-100-10 and 3000-50, 0.7 to 0.95 on 784-128-10,
# 784-400-10, 600-600-10, 784-700-10, in float64 1.2 on 300x5; by several 0.3 on 4-3 and 4-8-3 by 16 or 32, 0.6 on
# 2-32-32-1 by 32, 0.4 to 0.9 by 2 and 4 on 784-400-10, 600-600-10, 1500-200-10, 3000-120-10, 300x5 and 784-700-10, but
# 0.9 to 1.6 on 500-500-500 and 400x4-10; 0.65 to 0.85 on 784-300-10 and 784-200-10 by 8, 784-128-10 by 16, 784-64-10
# by 16, 0.85 to 0.95 on 784-64-10, 128-128-10 and 300-64-10 by 32, 30-300-10 and 64x4-10 by 128.
ONLINE_ONE, ONLINE_SOME, ONLINE = 9 << 16, 5 << 17, 1 << 21
# The same by several of more. By one thread and by two a step takes 0.88 and 0.76 of the time on 784-100-10 and
# 300-300-10 by 64, 0.85 and 0.86 on 300-100-10 by 100, 0.83 and 0.72 on 784-200-100-10 by 32, 0.71 and 0.74 on
# 10-2000-10 by 100, 0.88 and 0.65 on 128-512-64 by 64, 0.96 and 0.92 to 1.05 on 784-128-10 by 64, 0.91 and 0.99 on
# 784-64-10 by 128; in float64 0.98 and 0.99, 0.84 and 0.88, 0.92 and 0.89 on the second, fifth and last. For more
# weights 0.80 and 0.77 on 512-512-10 by 32, but 1.16 and 1.04 in float64, 0.93 and 1.24 on 784-400-10 by 64; for more
# multiply-adds 0.89 and 0.75 to 1.3 on 784-128-10 by 128, 0.99 and 0.8 on 256-256-10 by 128 (AVX2).
ONLINE_MUCH, MOST_ONLINE = 1 << 18, 1 << 23
# Multiply-adds up to which two threads train so by `units`, while one is quicker with tiles: of the time by halves of
# inputs or shared tiles a step takes 0.73 to 0.94 on 784-128-10 by 128, 0.84 on 256-256-10 by 128 and 784-256-10 by 64,
# 0.85 on 784-200-10 by 100, 0.89 on 512-256-10 by 64, 0.91 on 300-300-10 and 128-512-16 by 128, 1.0 on 1000-200-10 by
# 64; in float64 0.75, 0.90 and 0.90, 1.03, 1.09 on the last but one, 0.94 on the last. With 2^25 0.74 to 0.84 on the
# wide ones by 128, but 1.14 on 300-300-10 by 256 (AVX2).
MOST_BY_UNITS = 1 << 24
# Parameters, and ONLINE for multiply-adds, up to which two threads train by `units` also where there are MANY_THREADS:
# for more it is not measured.
ONLINE_BY_ALL = 1 << 18
# Bytes of which no distance from row to row of weights is to be a multiple, there: the first cache would have places
# for few rows. With 2^11 a step takes 1.1 to 1.15 times as long on 784-128-10 by 2, 4 and 8 and 256-256-10 by 8, 1.4 on
# 784-128-10 by 8 in float64, 10,000 predictions of 784-128-10 1.2 and of 256-256-10 1.1; but a step by 1 0.95 of the
# time on 784-128-10; with 2^8 the same (AVX2).
CLASHING = 1 << 9
# Multiply-adds of a pass through the layers from which on larger minibatches are cut into shards. Where no layer is
# wider than NARROW_WIDTH tiles are mostly empty, and that is later: of the time in shards a step in rows, by one thread
# and by two, takes 0.5 and 0.55 on 4-8-3 by 30,000, 0.7 and 0.7 on 10-10-10 by 5000, 0.65 on 12-12-4 by 9000, but 0.96
# to 1.15 on 16-16-16-16 by 2000 and 4000.
SHARDED, SHARDED_NARROW, NARROW_WIDTH = 1 << 19, 1 << 21, 12
PADDING = 1 << 12  # elements that these rows may take beyond what is promised
# Samples, vectors of a minibatch's widest layer and of samples x parameters, and parameters, up to which there is code
# for a network alone; of larger minibatches for a piece of so many samples, half as wide. Of the time without, a step
# takes 0.12 on 20 layers of 2 by 4, 0.26 on 1-2 by 16, 0.3 on 2-2-1 by 4, 0.5 on 4-8-3 by 16, 2-8-1 by 32 and 4-4 by
# 64, 0.6 on 30-1 by 1, 4-8-3 by 32 and 6-3 by 200, 0.8 on 2-1 by 1000, 0.9 on 20-10-1 by 1; but 1.0 on 4-16-16-3 by 8,
# 1.2 on 16-16-16 by 1, and in pieces 1.2 on 2-16-1 by 100. More than that takes up to 3 s to compile.
TINY_BATCH, TINY_WIDEST, TINY_WORK, TINY_PARAMETERS, TINY_PIECE = 64, 16, 128, 256, 16
# Inputs of a single output up to which there is: by 1 a step takes as long without on 40-1, 0.8 of the time on 63-1.
TINY_DOT = 48
# Multiply-adds of a pass up to which one thread with such code is about as quick as two without: of the time of two a
# step takes 0.7 on 2-4-1 by 4000, 0.85 to 0.95 on 3-2-1 and 2-2-2-2 by 5000, 1-8-1 by 3000 and 2-1 by 10,000, 1.15 on
# 1-1 and 4-1 by 10,000, 1.25 on 5-3 by 3000, but 1.2 on 4-4 by 10,000 and 1.9 on 8-8 by 2000; of that of one without
# 0.4 to 0.75. So few are never cut into shards.
TINY_PASS = 1 << 17
# Samples and parameters up to which their rows lie apart: a step of 5-1 by 2 takes 0.85 of the time, one of 2-4-1 by 4
# 1.15, of 2-32-32-1 by 4 1.2.
APART_SAMPLES, APART_PARAMETERS = 2, 1 << 11
# Rows of sums of one vector, and of several, that are computed at once where a network is laid out in rows. With 4 rows
# of 2 vectors, and a term a turn, a step by two threads takes 1.25 times as long on 784-30-10 by 10 and 17-64-64-6 by
# 64, 1.15 on 64-64-10 by 32, 1.1 on 2-32-32-1 by 32 (AVX2, beside other programs' threads), alone 1.04 to 1.1 times.
# Up to 3 rows that are left take 4 vectors at once: with 2, whose sums wait for each other, a step takes 1.2 times as
# long on 784-30-10 by 3, 1.09 on 64-64-10 by 7 and 30-100 by 3.
ROWS_OF_ONE, ROWS_OF_SEVERAL = 8, 6
# Terms of sums that are computed row by row, and vectors of a row at once: of the time by tiles, which have much to do
# besides so few terms, a step takes 0.88 on 784-30-10 by 2 and by 3, 0.87 by 4, 1.02 by 5 and 6; and those of layers
# of few inputs or outputs 0.98 on 2-32-32-1 by 32 and 3-64-64-2 by 64, 0.96 on 1-20-1 by 200.
VECTORS_OF_TERMS = {1: 4, 2: 4, 3: 2, 4: 2}
# Vectors of a single sample's layer that are computed together, so that their sums need not wait for each other, and no
# cache line of W is asked for twice: one by one a step by 1 takes 1.4 times as long on 784-30-10, 1.3 on 64-64-10 and
# 784-10; two by two 1.05, 1.1 and 1.0.
VECTORS_OF_SINGLE = 4
# Samples from which on only one of Wᵀ and W is updated, and the other copied from it: by 32 a step of 2-32-32-1 takes
# 0.90 of the time, by 4 1.03. It is W where that has fewer vectors: 0.95 of a step of 64-64-10 by 32.
RECOPIED = 6
# Outputs of a layer of many inputs for each, up to which vectors are of samples and not of outputs: of the time 10,000
# predictions take 0.7 on 100-2, 0.95 on 100-4 and 20-3; 1.07 on 20-4, 1.06 on 100-5.
FEW_SUMS, INPUTS_OF_FEW = 4, 6
# Cache lines that are fetched at once, and bytes of a sample's inputs, from which on those of later samples are fetched
# no further than the second cache: of the time 10,000 predictions take 0.5 on 200-4, 0.8 on 64-3 and 100-2, but 1.15 on
# 50-2 and 1.4 on 40-3; with the fewer lines of AVX2 1.2 on 200-4 and 100-2.
LINES_FAR, FETCHED_FAR = 8, 1 << 8
# Outputs up to which their squared errors are added up one by one, not in vectors: with vectors a step of 1-2 by 16
# takes 1.03 times as long, one of 4-3 by 10 0.97, one of 1-100 by 16 0.55.
FEW_OUTPUTS = 2
# Outputs from which on they are added up in so many sums side by side, since each addition waits for the last: a step
# by 1 takes 0.56 of the time on 1-1752, 0.68 on 2-300, 0.91 on 100-2000. Code for a tiny network alone has fewer.
MANY_OUTPUTS, OUTPUT_SUMS = 256, 8
DOTS = 0  # for the length of slices, where there are none: sums are dot products
DOT = 16  # sums that one of a single output is of: as many as the lanes of the widest vector
# Bytes of all samples, more than caches hold, from which on their rows are fetched before dot products take them: of
# the time 10,000 predictions of 784-1 take 0.6, gradients 0.7; 3000 predictions of 784-2 would take 1.2.
BYTES_FAR = 1 << 24
# Inputs of all samples together, up to which dot products of them are trained without tiles: of the time by tiles a
# step of 9-1 by 1024 takes 0.80, of 64-1 by 200 0.93, of 500-1 by 100 1.0, of 200-1 by 500 1.04, of 800-1 by 600 1.2.
# Of any number where that is no wider than NARROW_WIDTH: 0.84 on 9-1 by 10,000.
DOTTED = 1 << 16

# Outputs of a layer up to which W is stored and not Wᵀ: a step of 17-64-64-6 by 64 takes 0.96 of the time, one of
# 64-64-10 by 32 0.93, a prediction of one sample by 64-64-10 0.03 us more. And up to which sums of a first layer of
# 2 * SLICE inputs or more are dot products: of the time by vectors of outputs a step takes 0.09 on 784-2 by 1, 0.5 on
# 3000-6 by 30, 0.7 on 784-8 by 5, 0.8 on 784-10 by 1, by 10, by 30, 0.87 on 3000-12 by 30 (AVX-512); with AVX2 0.7 to
# 1.15. 100 predictions of 784-10 take 0.73.
NARROW = 12

# Parameters up to which many samples are predicted with the network laid out in rows, so many elements of the widest
# layer at a time. Of the time that tiles take, 10,000 samples by one thread and by two take 0.4 on 1-1 and 2-1, 0.55 on
# 4-8-3, 0.84 and 0.87 on 64-64-10, 0.86 and 0.81 on 784-30-10, 0.82 and 0.9 on 128-30, 0.88 and 0.9 on 784-128-10, 0.84
# and 0.82 on 30-300-10, 0.9 and 0.86 on 128-128-128-10, 0.66 and 0.75 on 2-1000-1, 0.93 on 512-512-10, 1.0 on
# 784-512-512-10, 1.9 on 1024x4; in float64 0.8 on 64-64-10, 0.81 and 0.72 on 784-30-10, 0.96 and 1.0 on 512-512-10, 1.2
# on 300x6 (AVX2). With two or four times as many elements at a time small networks take 0.94 to 1.08.
PREDICTED_IN_ROWS, PREDICTED_ELEMENTS = 3 << 17, 1 << 11
# Samples that go through the first layer together where all are more than BYTES_NEAR, while as many that lie behind
# them are fetched, a cache line a turn: 10,000 predictions take 0.8 of the time that they take with what tiles do ahead
# on 784-30-10 and 256-30, and 0.5 to 0.7 of that without fetching; with 24 at once 0.95 to 1.05 times as long, with 6
# up to 1.4, with two lines a turn 1.1 (AVX2).
ROWS_AFAR = 12
# Samples from which on that is done, and parameters for each of them: to lay out more takes longer than it gains.
LAID_OUT_FROM, LAID_OUT_FOR_EACH = 64, 1 << 9
# Multiply-adds up to which one thread then predicts PREDICT_ROWS samples or fewer: two take 0.66 of its time for 100 on
# 784-30-10, 0.6 for 128 on 550-50-23-5, and 0.7 for 250 on 64-64-10, which are fewer; but more if cores sleep between
# calls.
PREDICTED_ALONE = 1 << 21
# Rows of which batches of several threads are whole numbers: of the time with batches of the most, 300 predictions by
# two take 0.6 on 550-50-23-5 and 784-30-10 and 0.7 on 64-64-10, on cores that are far, whose threads have weights of
# their own, too.
ROWS_EVEN = 4
# Parameters up to which few samples are predicted so too: a call of Network.predict for one takes 0.94 of the time on
# 2-32-32-1, 1.09 on 64-64-10, 1.5 on 784-10, for 64 on these 1.04 and 1.05.
PREDICTED_ONE = 1 << 11
# Inputs up to which it is quicker to see whether they are finite than whether their first output tells: the other way
# 10,000 predictions take 1.25 times as long on 9-1, 1.0 on 20-1, 0.88 on 50-1, gradients 1.1 on 9-1, 1.15 on 2-1.
FEW_INPUTS = 20
PREDICT_ROWS = 256  # samples that go through all layers together, so that activations stay in the L2 cache
