# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Graph questions over columns, natively: the functions of ``zodbsh.engine.graph``, with the same answers.

Columns are taken as they are, so their lengths are checked first, and each
number in them before it is used as a place: a buffer from elsewhere may hold
anything.
"""

from cpython cimport array
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import array as arrays

from zodbsh.engine.graph import Reach, Retained, Reverse, Sums

cdef extern from *:
    """
    #define NONE 0xFFFFFFFFu
    #define DELETED 0xFFFFFFFEu
    #define WEAK 0x80000000u
    """
    uint32_t NONE, DELETED, WEAK

ctypedef const uint32_t[::1] I
ctypedef const unsigned long long[::1] Q

cdef array.array _I = arrays.array("I")
cdef array.array _Q = arrays.array("Q")


cdef array.array column_i(int64_t size, bint none=False):
    cdef array.array made = array.clone(_I, size, False)
    if size:
        memset(made.data.as_voidptr, 0xFF if none else 0, size * 4)
    return made


cdef array.array column_q(int64_t size):
    return array.clone(_Q, size, True)


cdef int check(I classes, Q starts, I counts, I targets) except -1:
    """Raise ValueError for columns that do not fit together."""
    cdef int64_t n = classes.shape[0], i, m = targets.shape[0]
    cdef uint64_t size = targets.shape[0]
    cdef bint sound = counts.shape[0] >= n and starts.shape[0] >= n and n < WEAK
    if sound:
        with nogil:
            for i in range(n):
                if starts[i] > size or counts[i] > size - starts[i]:
                    sound = False
                    break
            for i in range(m):
                if (targets[i] & ~WEAK) >= n:
                    sound = False
                    break
    if not sound:
        raise ValueError("columns that do not fit together")
    return 0


def reach(I classes, Q starts, I counts, I targets, roots):
    """Return what can be reached from ``roots``, breadth first."""
    check(classes, starts, counts, targets)
    cdef int64_t n = classes.shape[0], done = 0, found = 0
    cdef array.array parents_ = column_i(n, True), order_ = column_i(n)
    cdef uint32_t* parents = parents_.data.as_uints
    cdef uint32_t* order = order_.data.as_uints
    cdef uint32_t number, target
    cdef uint64_t i
    for root in roots:
        if not 0 <= root < n:
            raise ValueError("columns that do not fit together")
        number = root
        if classes[number] < DELETED and parents[number] == NONE:
            parents[number] = number
            order[found] = number
            found += 1
    with nogil:
        while done < found:
            number = order[done]
            done += 1
            for i in range(starts[number], starts[number] + counts[number]):
                target = targets[i]
                if target < WEAK and parents[target] == NONE and classes[target] < DELETED:
                    parents[target] = number
                    order[found] = target
                    found += 1
    array.resize(order_, found)
    return Reach(order_, parents_)


def reverse(Q starts, I counts, I targets):
    """Return every reference turned around, sources in ascending order."""
    cdef int64_t n = counts.shape[0], number
    check(counts, starts, counts, targets)
    cdef array.array ends_ = column_q(n + 1), sources_
    cdef unsigned long long* ends = ends_.data.as_ulonglongs
    cdef uint32_t* sources
    cdef uint32_t target
    cdef uint64_t i
    with nogil:
        for number in range(n):
            for i in range(starts[number], starts[number] + counts[number]):
                ends[(targets[i] & ~WEAK) + 1] += 1
        for number in range(n):
            ends[number + 1] += ends[number]
    sources_ = column_i(ends[n])
    sources = sources_.data.as_uints
    with nogil:
        # From the end, so that each target's place goes down to its start, and no second column is needed.
        number = n - 1
        while number >= 0:
            i = starts[number] + counts[number]
            while i > starts[number]:
                i -= 1
                target = targets[i] & ~WEAK
                ends[target + 1] -= 1
                sources[ends[target + 1]] = <uint32_t>number | (targets[i] & WEAK)
            number -= 1
        # Now the place after each target is the start of its own sources.
        for number in range(n):
            ends[number] = ends[number + 1]
    ends[n] = len(sources_)
    return Reverse(ends_, sources_)


def referrers(Q starts, I counts, I targets, uint32_t target):
    """Return who refers to one object, ascending, each once for each reference; `WEAK` marks a weak one."""
    check(counts, starts, counts, targets)
    cdef int64_t number
    cdef uint64_t i
    cdef array.array found = arrays.array("I")
    for number in range(counts.shape[0]):
        for i in range(starts[number], starts[number] + counts[number]):
            if (targets[i] & ~WEAK) == target:
                found.append(<uint32_t>number | (targets[i] & WEAK))
    return found


def components(I classes, Q starts, I counts, I targets, I skip):
    """Return the strongly connected component of each object that exists and whose ``skip`` is `NONE`; else `NONE`."""
    check(classes, starts, counts, targets)
    cdef int64_t n = classes.shape[0], begin, depth, height
    if skip.shape[0] != n:
        raise ValueError("columns that do not fit together")
    cdef array.array component_ = column_i(n, True), low_ = column_i(n, True), entered_ = column_i(n)
    cdef array.array stack_ = column_i(n), way_ = column_i(n), next_ = column_q(n)
    cdef uint32_t* component = component_.data.as_uints
    cdef uint32_t* low = low_.data.as_uints
    cdef uint32_t* entered = entered_.data.as_uints
    cdef uint32_t* stack = stack_.data.as_uints
    cdef uint32_t* way = way_.data.as_uints
    cdef unsigned long long* next_ref = next_.data.as_ulonglongs
    cdef uint32_t found = 0, time = 0, number, target, member
    with nogil:
        height = 0
        for begin in range(n):
            if low[begin] != NONE or skip[begin] != NONE or classes[begin] >= DELETED:
                continue
            low[begin] = entered[begin] = time
            time += 1
            stack[height] = way[0] = <uint32_t>begin
            height += 1
            depth = 1
            next_ref[begin] = starts[begin]
            while depth:
                number = way[depth - 1]
                if next_ref[number] < starts[number] + counts[number]:
                    target = targets[next_ref[number]]
                    next_ref[number] += 1
                    if target >= WEAK or skip[target] != NONE or classes[target] >= DELETED:
                        continue
                    if low[target] == NONE:
                        low[target] = entered[target] = time
                        time += 1
                        next_ref[target] = starts[target]
                        way[depth] = stack[height] = target
                        depth += 1
                        height += 1
                    elif component[target] == NONE and low[target] < low[number]:
                        low[number] = low[target]
                    continue
                depth -= 1
                if low[number] == entered[number]:
                    while True:
                        height -= 1
                        member = stack[height]
                        component[member] = found
                        if member == number:
                            break
                    found += 1
                if depth and low[number] < low[way[depth - 1]]:
                    low[way[depth - 1]] = low[number]
    return component_


def dominators(I classes, Q starts, I counts, I targets, uint32_t root):
    """Return for each object the last one that every way from ``root`` to it passes (`NONE`: no way; root: itself).

    Source: the semi-NCA algorithm of Georgiadis and Tarjan (2005).
    """
    check(classes, starts, counts, targets)
    cdef int64_t n = classes.shape[0], depth = 0, count = 0
    if root >= n:
        raise ValueError("columns that do not fit together")
    cdef array.array numbers_ = column_i(n, True), vertices_ = column_i(n), parents_ = column_i(n)
    cdef array.array way_ = column_i(n)
    cdef uint32_t* numbers = numbers_.data.as_uints
    cdef uint32_t* vertices = vertices_.data.as_uints
    cdef uint32_t* parents = parents_.data.as_uints
    cdef uint32_t* way = way_.data.as_uints
    cdef uint32_t number, target
    # How far a vertex's references are walked, by its number of the walk: at most its count.
    cdef array.array walked_ = column_i(n)
    cdef uint32_t* walked = walked_.data.as_uints
    if classes[root] < DELETED:
        with nogil:
            numbers[root] = 0
            vertices[0] = root
            count = depth = 1
            way[0] = root
            while depth:
                number = way[depth - 1]
                if walked[number] == counts[number]:
                    depth -= 1
                    continue
                target = targets[starts[number] + walked[number]]
                walked[number] += 1
                if target < WEAK and numbers[target] == NONE and classes[target] < DELETED:
                    numbers[target] = <uint32_t>count
                    vertices[count] = target
                    parents[count] = numbers[number]
                    count += 1
                    way[depth] = target
                    depth += 1
    turned = reverse(starts, counts, targets)
    cdef Q came = turned.starts
    cdef I sources = turned.sources
    # The columns of the walk serve again: semi, ancestor, the way up.
    cdef array.array semi_ = way_, label_ = walked_, ancestor_ = column_i(count), idom_ = column_i(count)
    cdef array.array up_ = column_i(count)
    cdef uint32_t* semi = semi_.data.as_uints
    cdef uint32_t* label = label_.data.as_uints
    cdef uint32_t* ancestor = ancestor_.data.as_uints
    cdef uint32_t* idom = idom_.data.as_uints
    cdef uint32_t* up = up_.data.as_uints
    cdef int64_t vertex, height
    cdef uint32_t best, at, above
    cdef uint64_t i
    with nogil:
        for vertex in range(count):
            semi[vertex] = label[vertex] = <uint32_t>vertex
            idom[vertex] = ancestor[vertex] = parents[vertex]
        vertex = count - 1
        while vertex > 0:
            best = parents[vertex]
            for i in range(came[vertices[vertex]], came[vertices[vertex] + 1]):
                if sources[i] >= WEAK or numbers[sources[i]] == NONE:
                    continue
                at = numbers[sources[i]]
                if at > vertex:
                    height = 0
                    while ancestor[at] > vertex:
                        up[height] = at
                        height += 1
                        at = ancestor[at]
                    while height:
                        height -= 1
                        at = up[height]
                        above = ancestor[at]
                        if label[above] < label[at]:
                            label[at] = label[above]
                        ancestor[at] = ancestor[above]
                    at = label[at]
                if at < best:
                    best = at
            semi[vertex] = label[vertex] = best
            vertex -= 1
        for vertex in range(1, count):
            above = idom[vertex]
            while above > semi[vertex]:
                above = idom[above]
            idom[vertex] = above
        # Numbers of the walk serve for the result.
        for vertex in range(n):
            if numbers[vertex] != NONE:
                numbers[vertex] = vertices[idom[numbers[vertex]]]
    return numbers_


def retained(I order, I dominator, Q sizes):
    """Return what each object keeps alive alone."""
    cdef int64_t n = dominator.shape[0], i
    cdef array.array total_ = column_q(n), objects_ = column_i(n)
    cdef unsigned long long* total = total_.data.as_ulonglongs
    cdef uint32_t* objects = objects_.data.as_uints
    cdef uint32_t number, above
    if sizes.shape[0] != n:
        raise ValueError("columns that do not fit together")
    i = order.shape[0] - 1
    while i >= 0:
        number = order[i]
        if number >= n or dominator[number] >= n:
            raise ValueError("columns that do not fit together")
        total[number] += sizes[number]
        objects[number] += 1
        above = dominator[number]
        if above != number:
            total[above] += total[number]
            objects[above] += objects[number]
        i -= 1
    return Retained(total_, objects_)


def distances(I order, I parents):
    """Return how many references each object is away from the roots, `NONE` for what is not reached."""
    cdef int64_t n = parents.shape[0], i
    cdef array.array found_ = column_i(n, True)
    cdef uint32_t* found = found_.data.as_uints
    cdef uint32_t number
    for i in range(order.shape[0]):
        number = order[i]
        if number >= n or parents[number] >= n:
            raise ValueError("columns that do not fit together")
        found[number] = 0 if parents[number] == number else found[parents[number]] + 1
    return found_


def children(I dominator, wanted):
    """Return the objects (I, ascending) that each of the ``wanted`` ones is the dominator of; none has no entry."""
    cdef int64_t n = dominator.shape[0], number
    asked = frozenset(wanted)
    cdef array.array marks_ = arrays.array("B", bytes(n))
    cdef uint8_t* marks = marks_.data.as_uchars
    found = {}
    for one in asked:
        if 0 <= one < n:
            marks[<int64_t>one] = 1
    for number in range(n):
        if dominator[number] < n and marks[dominator[number]] and dominator[number] != number:
            above = dominator[number]
            if above not in found:
                found[above] = arrays.array("I")
            found[above].append(number)
    return found


def sums(I classes, Q sizes, parents, int64_t class_count):
    """Return objects and ``sizes`` summed up by class."""
    cdef int64_t n = classes.shape[0], number
    cdef array.array objects_ = column_q(class_count), bytes_ = column_q(class_count)
    cdef array.array lost_objects_ = column_q(class_count), lost_bytes_ = column_q(class_count)
    cdef unsigned long long* objects = objects_.data.as_ulonglongs
    cdef unsigned long long* total = bytes_.data.as_ulonglongs
    cdef unsigned long long* lost_objects = lost_objects_.data.as_ulonglongs
    cdef unsigned long long* lost_bytes = lost_bytes_.data.as_ulonglongs
    cdef bint known = parents is not None
    cdef I before = parents if known else column_i(0)
    cdef uint32_t class_
    if sizes.shape[0] != n or (known and before.shape[0] != n):
        raise ValueError("columns that do not fit together")
    for number in range(n):
        class_ = classes[number]
        if class_ >= DELETED:
            continue
        if class_ >= class_count:
            raise ValueError("columns that do not fit together")
        objects[class_] += 1
        total[class_] += sizes[number]
        if known and before[number] == NONE:
            lost_objects[class_] += 1
            lost_bytes[class_] += sizes[number]
    return Sums(objects_, bytes_, lost_objects_, lost_bytes_)


cdef const uint8_t[::1] flags_of(wanted):
    return wanted if len(wanted) else bytes(1)


def select(I classes, Q sizes, wanted, larger):
    """Return the objects that exist, whose class number is not 0 in ``wanted`` and whose size is more than ``larger``."""
    cdef const uint8_t[::1] flags = flags_of(wanted)
    # A user types it: it may be any number.
    cdef int64_t n = classes.shape[0], number, least = max(-1, min(larger, 0x7FFFFFFFFFFFFFFF))
    cdef array.array found = arrays.array("I")
    if sizes.shape[0] != n:
        raise ValueError("columns that do not fit together")
    for number in range(n):
        if classes[number] < DELETED and classes[number] < flags.shape[0] and flags[classes[number]]:
            if least < 0 or sizes[number] > <uint64_t>least:
                found.append(number)
    return found


def of_classes(I classes, wanted):
    """Return the objects that exist and whose class number ``wanted`` (a byte for each) marks, ascending."""
    cdef const uint8_t[::1] flags = flags_of(wanted)
    cdef int64_t number
    cdef array.array found = arrays.array("I")
    for number in range(classes.shape[0]):
        if classes[number] < flags.shape[0] and flags[classes[number]]:
            found.append(number)
    return found


def referring_to_classes(I classes, Q starts, I counts, I targets, sources, wanted):
    """Return the objects of classes in ``sources`` that have an edge to one of a class in ``wanted``, ascending."""
    check(classes, starts, counts, targets)
    cdef const uint8_t[::1] from_ = flags_of(sources)
    cdef const uint8_t[::1] to = flags_of(wanted)
    cdef int64_t number
    cdef uint64_t i
    cdef uint32_t target
    cdef array.array found = arrays.array("I")
    for number in range(classes.shape[0]):
        if classes[number] >= from_.shape[0] or not from_[classes[number]]:
            continue
        for i in range(starts[number], starts[number] + counts[number]):
            target = targets[i]
            if target < WEAK and classes[target] < to.shape[0] and to[classes[target]]:
                found.append(number)
                break
    return found


def within_groups(I classes, Q starts, I counts, I targets, I groups):
    """Return a byte for each object: 1 where an edge leads to it from an object (maybe itself) of its own group."""
    check(classes, starts, counts, targets)
    cdef int64_t number
    cdef uint64_t i
    cdef uint32_t target, group
    found_ = bytearray(classes.shape[0])
    if not found_:
        return found_
    cdef uint8_t[::1] found = found_
    for number in range(classes.shape[0]):
        if classes[number] >= groups.shape[0] or groups[classes[number]] == NONE:
            continue
        group = groups[classes[number]]
        for i in range(starts[number], starts[number] + counts[number]):
            target = targets[i]
            if target < WEAK and classes[target] < groups.shape[0] and groups[classes[target]] == group:
                found[target] = 1
    return found_


def dangling(I classes, Q starts, I counts, I targets):
    """Return each ordinary reference of an object to what does not exist, as (source, target), sources ascending."""
    check(classes, starts, counts, targets)
    cdef int64_t number
    cdef uint64_t i
    found = []
    for number in range(classes.shape[0]):
        if classes[number] >= DELETED:
            continue
        for i in range(starts[number], starts[number] + counts[number]):
            if targets[i] < WEAK and classes[targets[i]] >= DELETED:
                found.append((number, targets[i]))
    return found
