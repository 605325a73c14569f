# cython: language_level=3, boundscheck=True, wraparound=False
"""`counting.count_served` in C: the same numbers, added up for a whole batch before they go into the tables.

Owns nothing: what is counted is said there. It is built on request only (setup.py). Begin at `count_served`.
"""

from libc.string cimport memset

from sockproxy.recording.metrics.families import OVERHEAD_BUCKETS, REQUEST_BUCKETS

cdef enum:
    BUCKETS_MAX = 64  # of a histogram


cdef struct Tally:
    # What is to be added to a row of a histogram.
    int count
    double bounds[BUCKETS_MAX]
    long fell[BUCKETS_MAX + 1]
    double sum


cdef Tally requests, engine, overheads


cdef int prepare(Tally *tally, bounds) except -1:
    if len(bounds) > BUCKETS_MAX:
        raise ValueError("too many buckets")
    tally.count = len(bounds)
    for place, bound in enumerate(bounds):
        tally.bounds[place] = bound
    clear(tally)
    return 0


cdef inline void clear(Tally *tally) noexcept:
    memset(tally.fell, 0, sizeof(tally.fell))
    tally.sum = 0.0


cdef inline void add(Tally *tally, double seconds) noexcept:
    """As bisect_left and two additions."""
    cdef int low = 0, high = tally.count, middle
    while low < high:
        middle = (low + high) // 2
        if tally.bounds[middle] < seconds:
            low = middle + 1
        else:
            high = middle
    tally.fell[low] += 1
    tally.sum += seconds


cdef int pour(Tally *tally, list row) except -1:
    """Into a row of a table: how many fell into each bucket, those above all, and the sum."""
    cdef int place
    for place in range(tally.count + 1):
        if tally.fell[place]:
            row[place] += tally.fell[place]
    row[tally.count + 1] += tally.sum
    clear(tally)
    return 0


prepare(&requests, REQUEST_BUCKETS)
prepare(&engine, REQUEST_BUCKETS)
prepare(&overheads, OVERHEAD_BUCKETS)


def count_served(batch, list overhead):
    """As `counting.count_served`."""
    cdef double received, forwarded, answered, completed
    cdef object latest = None
    clear(&requests)
    clear(&engine)
    clear(&overheads)
    for served in batch:
        account = served[0][1]
        if account is not latest:
            if latest is not None:
                pour_out(latest)
            latest = account
        received, forwarded, answered, completed = served[3], served[4], served[5], served[6]
        status = served[7]
        account.statuses[status] = account.statuses.get(status, 0) + 1
        account.bytes[1] += served[8]
        add(&requests, completed - received)
        add(&engine, answered - forwarded)
        add(&overheads, (forwarded - received) + (completed - answered))
    if latest is not None:
        pour_out(latest)
    pour(&overheads, overhead)


cdef int pour_out(account) except -1:
    pour(&requests, account.request_seconds)
    pour(&engine, account.engine_seconds)
    return 0
