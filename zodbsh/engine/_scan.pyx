# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""One record, natively: its class and its references, where nothing about it is out of the ordinary.

An abstract run of the pickle machine (``zodbsh.record``): values are kinds and
places, nothing is built. The scanner accepts a record only where the decoder
accepts it for certain, with the same class and the same references; on any
doubt (damage, a limit that may be passed, a rare form) it returns 0 and the
decoder has the word. So whatever is wrong with a record is said in one voice,
and a hostile record meets the same limits. Every read is checked against the
record's size, every place against what was written.
"""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

cdef extern from *:
    """
    #define LITTLE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
    """
    int LITTLE

cdef enum:
    MAX_MARKS = 1990
    MAX_DEPTH = 990
    MAX_MEMO = 1 << 20
    MAX_STEPS = 9999000
    FREE_COPIES = 65536
    NO_CLASS = -1
    ANY_CLASS = -2
    HAS_STATE = 1
    IS_KNOWN = 2


cdef int scanner_open(Scanner* s) noexcept nogil:
    """Make a scanner ready; 0 where there is no memory."""
    memset(s, 0, sizeof(Scanner))
    s.stack_room, s.arena_room, s.node_room, s.memo_room, s.ref_room = 1024, 4096, 1024, 256, 256
    s.stack = <Val*>malloc(s.stack_room * sizeof(Val))
    s.arena = <Val*>malloc(s.arena_room * sizeof(Val))
    s.nodes = <Node*>malloc(s.node_room * sizeof(Node))
    s.marks = <int64_t*>malloc((MAX_MARKS + 2) * sizeof(int64_t))
    s.memo = <Val*>malloc(s.memo_room * sizeof(Val))
    s.memo_age = <uint32_t*>calloc(s.memo_room, sizeof(uint32_t))
    s.refs = <ScanRef*>malloc(s.ref_room * sizeof(ScanRef))
    if not (s.stack and s.arena and s.nodes and s.marks and s.memo and s.memo_age and s.refs):
        scanner_close(s)
        return 0
    return 1


cdef void scanner_close(Scanner* s) noexcept nogil:
    free(s.stack)
    free(s.arena)
    free(s.nodes)
    free(s.marks)
    free(s.memo)
    free(s.memo_age)
    free(s.refs)
    memset(s, 0, sizeof(Scanner))


cdef int scan_class(Scanner* s, const uint8_t* data, int64_t size, int64_t* middle) noexcept nogil:
    """Read the class part, which ends before ``middle``; 0 for doubt."""
    s.data, s.size = data, size
    s.arena_size = s.node_count = s.ref_count = s.memo_count = 0
    s.containers = s.copied = s.steps = 0
    s.deepest, s.cyclic = 0, False
    s.age += 1
    if s.age == 0:
        memset(s.memo_age, 0, s.memo_room * sizeof(uint32_t))
        s.age = 1
    return run(s, 0, middle) and take_class(s) and shallow(s)


cdef int scan_whole(Scanner* s, const uint8_t* data, int64_t size) noexcept nogil:
    """Read a record; afterwards ``refs`` and ``value`` (the state) hold. 0 for doubt."""
    cdef int64_t middle, end
    return scan_class(s, data, size, &middle) and run(s, middle, &end) and shallow(s)


cdef inline int shallow(Scanner* s) noexcept nogil:
    return s.containers < MAX_DEPTH or (s.deepest < MAX_DEPTH and not s.cyclic)


# The class part.


cdef int take_class(Scanner* s) noexcept nogil:
    cdef Val part = s.value
    cdef Val class_, args
    if part.kind == K_TUPLE and part.n == 2:
        class_, args = s.arena[part.v], s.arena[part.v + 1]
        if names_class(s, &class_, &args):
            return 1
        if args.kind != K_NONE and args.kind != K_TUPLE and args.kind != K_LIST:
            return 0
        part = class_
    if part.kind == K_TUPLE and part.n == 2:
        class_, args = s.arena[part.v], s.arena[part.v + 1]
        return names_class(s, &class_, &args)
    return place_class(s, &part)


cdef int names_class(Scanner* s, Val* module, Val* name) noexcept nogil:
    """Take a class that two texts name."""
    if not (plain_text(s, module) and plain_text(s, name)) or module.n == 0 or name.n == 0:
        return 0
    s.module_at, s.module_size, s.name_at, s.name_size = module.v, module.n, name.v, name.n
    return 1


cdef int place_class(Scanner* s, Val* class_) noexcept nogil:
    """Take a class that a GLOBAL names; its lines are known to be ASCII."""
    cdef const uint8_t* start
    cdef const uint8_t* middle
    if class_.kind == K_STACK_GLOBAL:
        return names_class(s, &s.arena[class_.v], &s.arena[class_.v + 1])
    if class_.kind != K_GLOBAL:
        return 0
    start = s.data + class_.v
    middle = <const uint8_t*>memchr(start, c"\n", class_.n)
    s.module_at, s.module_size = class_.v, <uint32_t>(middle - start)
    s.name_at, s.name_size = class_.v + s.module_size + 1, class_.n - s.module_size - 1
    return s.module_size > 0 and s.name_size > 0


cdef inline int plain_text(Scanner* s, Val* value) noexcept nogil:
    """Tell whether a value is a text of ASCII characters."""
    return (value.kind == K_TEXT or value.kind == K_STR2) and is_ascii(s.data + value.v, value.n)


cdef inline int is_ascii(const uint8_t* p, int64_t n) noexcept nogil:
    cdef uint64_t word, all_ = 0
    cdef int64_t i
    if n < 8:
        for i in range(n):
            all_ |= p[i]
        return not all_ & 0x80
    for i in range(0, n - 7, 8):
        memcpy(&word, p + i, 8)
        all_ |= word
    memcpy(&word, p + n - 8, 8)
    return not (all_ | word) & 0x8080808080808080ULL


cdef inline int is_short_ascii(const uint8_t* p, int64_t n, int64_t room) noexcept nogil:
    """Tell quickly whether at most 8 bytes are ASCII, where ``room`` bytes can be read; 0 where it cannot be told."""
    cdef uint64_t word
    if n > 8 or room < 8:
        return 0
    memcpy(&word, p, 8)
    # The first byte is the lowest of the word. On a big-endian machine the slower way tells.
    return n == 0 or (LITTLE and not word & (0x8080808080808080ULL >> (64 - 8 * n)))


cdef inline int64_t put_follows(
    Scanner* s, const uint8_t* d, int64_t n, int64_t at, Val* value, uint32_t age
) noexcept nogil:
    """Do the BINPUT that stands at ``at`` mostly; returns what comes after it."""
    cdef uint8_t number
    if n - at < 2 or d[at] != 0x71:
        return at
    number = d[at + 1]
    copy_val(&s.memo[number], value)
    if s.memo_age[number] != age:
        s.memo_age[number] = age
        s.memo_count += 1
    return at + 2


cdef int is_utf8(const uint8_t* p, int64_t n) noexcept nogil:
    """Tell whether bytes are UTF-8, lone surrogates allowed (Python's ``surrogatepass``)."""
    cdef int64_t i = 0
    cdef uint8_t c
    cdef uint64_t word
    while i < n:
        c = p[i]
        if c < 0x80:
            if i + 8 <= n:
                memcpy(&word, p + i, 8)
                if not word & 0x8080808080808080ULL:
                    i += 8
                    continue
            i += 1
        elif c < 0xC2:
            return 0
        elif c < 0xE0:
            if i + 2 > n or p[i + 1] & 0xC0 != 0x80:
                return 0
            i += 2
        elif c < 0xF0:
            if i + 3 > n or p[i + 1] & 0xC0 != 0x80 or p[i + 2] & 0xC0 != 0x80 or (c == 0xE0 and p[i + 1] < 0xA0):
                return 0
            i += 3
        elif c < 0xF5:
            if i + 4 > n or p[i + 1] & 0xC0 != 0x80 or p[i + 2] & 0xC0 != 0x80 or p[i + 3] & 0xC0 != 0x80:
                return 0
            if (c == 0xF0 and p[i + 1] < 0x90) or (c == 0xF4 and p[i + 1] > 0x8F):
                return 0
            i += 4
        else:
            return 0
    return 1


# A value is written and copied as two words: a load that spans two fresh stores would wait for both.


cdef inline void set_val(Val* to, uint64_t kind, uint64_t flag, uint64_t depth, uint64_t n, int64_t v) noexcept nogil:
    cdef uint64_t head = kind | flag << 8 | depth << 16 | n << 32
    memcpy(to, &head, 8)
    to.v = v


cdef inline void copy_val(Val* to, const Val* value) noexcept nogil:
    cdef uint64_t head
    cdef int64_t v = value.v
    memcpy(&head, value, 8)
    memcpy(to, &head, 8)
    to.v = v


# Room. Each returns 0 where there is no memory, which is a doubt like any other.


cdef int more_stack(Scanner* s) noexcept nogil:
    cdef void* found = realloc(s.stack, 2 * s.stack_room * sizeof(Val))
    if found == NULL:
        return 0
    s.stack, s.stack_room = <Val*>found, 2 * s.stack_room
    return 1


cdef int more_arena(Scanner* s, int64_t wanted) noexcept nogil:
    cdef int64_t room = 2 * s.arena_room + wanted
    cdef void* found = realloc(s.arena, room * sizeof(Val))
    if found == NULL:
        return 0
    s.arena, s.arena_room = <Val*>found, room
    return 1


cdef int64_t new_node(Scanner* s) noexcept nogil:
    """Return a fresh node's number, -1 where there is no memory."""
    cdef void* found
    if s.node_count == s.node_room:
        found = realloc(s.nodes, 2 * s.node_room * sizeof(Node))
        if found == NULL:
            return -1
        s.nodes, s.node_room = <Node*>found, 2 * s.node_room
    cdef Node* node = &s.nodes[s.node_count]
    node.depth, node.captured, node.state, node.n, node.class_at = 1, 0, 0, 0, NO_CLASS
    s.node_count += 1
    s.containers += 1
    return s.node_count - 1


cdef int remember(Scanner* s, int64_t index, Val* value) noexcept nogil:
    """Put a value into the memo."""
    cdef int64_t room
    cdef void* found
    if index >= s.memo_room:
        if index >= MAX_MEMO:
            return 0
        room = 2 * s.memo_room
        while room <= index:
            room *= 2
        found = realloc(s.memo, room * sizeof(Val))
        if found == NULL:
            return 0
        s.memo = <Val*>found
        found = realloc(s.memo_age, room * sizeof(uint32_t))
        if found == NULL:
            return 0
        s.memo_age = <uint32_t*>found
        memset(s.memo_age + s.memo_room, 0, (room - s.memo_room) * sizeof(uint32_t))
        s.memo_room = room
    if s.memo_age[index] != s.age:
        s.memo_age[index] = s.age
        s.memo_count += 1
    copy_val(&s.memo[index], value)
    return 1


# Containers.


cdef inline uint32_t enter(Scanner* s, Val* value) noexcept nogil:
    """Return how deep a value is that goes into a container."""
    if value.kind < K_TUPLE:
        return 0
    if value.kind == K_TUPLE:
        return value.depth
    s.nodes[value.v].captured = 1
    return s.nodes[value.v].depth


cdef uint32_t enter_all(Scanner* s, Val* values, int64_t count) noexcept nogil:
    cdef uint32_t deepest = 0, depth
    cdef int64_t i
    for i in range(count):
        if values[i].kind >= K_TUPLE:
            depth = enter(s, &values[i])
            if depth > deepest:
                deepest = depth
    return deepest


cdef inline uint16_t deeper(Scanner* s, uint32_t depth) noexcept nogil:
    """Return the depth of what holds something so deep."""
    depth = depth + 1 if depth < 60000 else 60000
    if depth > s.deepest:
        s.deepest = depth
    return <uint16_t>depth


cdef int extend(Scanner* s, Val* target, Val* items, int64_t count) noexcept nogil:
    """Put items into a container that exists."""
    cdef Node* node = &s.nodes[target.v]
    cdef uint16_t depth = deeper(s, enter_all(s, items, count))
    if node.state & IS_KNOWN:
        return 0
    if depth > node.depth:
        node.depth = depth
        # Whoever holds it already does not know that it is deeper now.
        s.cyclic = s.cyclic or node.captured
    if target.kind == K_LIST and count:
        if node.n == 0:
            node.first = items[0]
            if count > 1:
                node.second = items[1]
        elif node.n == 1:
            node.second = items[0]
    node.n = <uint32_t>(node.n + count)
    return 1


cdef int make_tuple(Scanner* s, Val* result, Val* items, int64_t count) noexcept nogil:
    """Make a tuple; ``result`` may be where the items stand."""
    cdef uint16_t depth
    cdef int64_t i
    if s.arena_size + count > s.arena_room and not more_arena(s, count):
        return 0
    for i in range(count):
        copy_val(&s.arena[s.arena_size + i], &items[i])
    depth = deeper(s, enter_all(s, items, count))
    set_val(result, K_TUPLE, 0, depth, <uint32_t>count, s.arena_size)
    s.arena_size += count
    s.containers += 1
    return 1


cdef int make_node(Scanner* s, Val* result, int kind, Val* items, int64_t count) noexcept nogil:
    """Make a container of ``items``; ``result`` may be where they stand."""
    cdef int64_t number = new_node(s)
    cdef Val made
    if number < 0:
        return 0
    if count:
        set_val(&made, kind, 0, 0, 0, number)
        if not extend(s, &made, items, count):
            return 0
    set_val(result, kind, 0, 0, 0, number)
    return 1


cdef int make_instance(Scanner* s, Val* class_, Val* args, int64_t count, Val* result) noexcept nogil:
    """Make an object; ``args`` are its arguments one by one; ``result`` may be where ``class_`` stands."""
    cdef int64_t class_at = NO_CLASS
    cdef Val held = class_[0]
    if held.kind == K_GLOBAL or held.kind == K_STACK_GLOBAL:
        class_at = held.v if held.kind == K_GLOBAL else ANY_CLASS
    elif held.kind == K_INSTANCE:
        if s.nodes[held.v].state & IS_KNOWN:
            return 0
    elif held.kind != K_REF:
        return 0
    s.copied += count
    if s.copied > 4 * s.size + FREE_COPIES or not make_node(s, result, K_INSTANCE, args, count):
        return 0
    s.nodes[result.v].class_at = class_at
    if held.kind == K_INSTANCE:
        return extend(s, result, &held, 1)
    return 1


cdef inline int same(Scanner* s, Val* global_, const char* text, uint32_t size) noexcept nogil:
    return global_.n == size and memcmp(s.data + global_.v, text, size) == 0


cdef int known_kind(Scanner* s, Val* global_) noexcept nogil:
    """Return what a call of this name makes: K_INSTANCE, K_KNOWN (some type that we rebuild), K_KNOWN_DICT."""
    cdef uint8_t c
    if global_.kind != K_GLOBAL:
        # By two texts: no need to be exact, what follows may only be more careful.
        return K_KNOWN
    c = s.data[global_.v]
    if c == c"d":
        if (
            same(s, global_, b"datetime\ndatetime", 17) or same(s, global_, b"datetime\ndate", 13)
            or same(s, global_, b"datetime\ntime", 13) or same(s, global_, b"datetime\ntimedelta", 18)
            or same(s, global_, b"decimal\nDecimal", 15)
        ):
            return K_KNOWN
    elif c == c"c":
        if (
            same(s, global_, b"collections\nOrderedDict", 23) or same(s, global_, b"collections\nCounter", 19)
            or same(s, global_, b"collections\ndefaultdict", 23)
        ):
            return K_KNOWN_DICT
        if global_.n > 8 and memcmp(s.data + global_.v, b"copy", 4) == 0:
            return K_DICT  # some instance, of a class that its arguments name
    elif c == c"_":
        if same(s, global_, b"_codecs\nencode", 14):
            return K_KNOWN
        if global_.n > 12 and memcmp(s.data + global_.v, b"__builtin__\n", 12) == 0:
            return K_KNOWN
    elif c == c"b":
        if global_.n > 9 and memcmp(s.data + global_.v, b"builtins\n", 9) == 0:
            return K_KNOWN
    elif c == c"Z" and same(s, global_, b"ZODB.broken\nrebuild", 19):
        return K_DICT
    return K_INSTANCE


cdef int reduce_(Scanner* s, Val* func, Val* args) noexcept nogil:
    """Take the place of a call; the result stands where ``func`` stood."""
    cdef int kind
    cdef int64_t i, more
    cdef Val* arg
    cdef Val held = args[0]
    if (func.kind != K_GLOBAL and func.kind != K_STACK_GLOBAL) or held.kind != K_TUPLE:
        if held.kind == K_NONE:
            return make_instance(s, func, NULL, 0, func)
        return held.kind == K_TUPLE and make_instance(s, func, s.arena + held.v, held.n, func)
    kind = known_kind(s, func)
    if kind == K_INSTANCE:
        return make_instance(s, func, s.arena + held.v, held.n, func)
    # What such a call may copy, or more.
    more = held.n
    for i in range(held.n):
        arg = &s.arena[held.v + i]
        if arg.kind >= K_LIST:
            more += s.nodes[arg.v].n
        elif arg.kind == K_TUPLE or arg.kind == K_TEXT or arg.kind == K_STR2 or arg.kind == K_BYTES:
            more += arg.n
        elif arg.kind == K_GLOBAL or arg.kind == K_STACK_GLOBAL:
            more += arg.n + 1024
    s.copied += more
    if s.copied > 4 * s.size + FREE_COPIES:
        return 0
    if not make_node(s, func, K_INSTANCE if kind == K_DICT else kind, &held, 1):
        return 0
    s.nodes[func.v].class_at = ANY_CLASS
    return 1


cdef int build(Scanner* s, Val* target, Val* state) noexcept nogil:
    cdef Node* node
    if target.kind != K_INSTANCE:
        return 0
    node = &s.nodes[target.v]
    if node.state:
        return 0
    if not extend(s, target, state, 1):
        return 0
    node.state = HAS_STATE
    if node.class_at == ANY_CLASS or (
        node.class_at >= 0 and node.class_at + 9 <= s.size and memcmp(s.data + node.class_at, b"uuid\nUUID", 9) == 0
    ):
        # It may be a UUID from now on, which nothing can be put into.
        node.state |= IS_KNOWN
    return 1


# References.


cdef int take_oid(Scanner* s, Val* value, ScanRef* ref) noexcept nogil:
    cdef const uint8_t* p
    cdef int i
    if value.n != 8:
        return 0
    if value.kind == K_TEXT:
        if not is_ascii(s.data + value.v, 8):
            return 0
    elif value.kind != K_BYTES and value.kind != K_STR2:
        return 0
    p = s.data + value.v
    ref.oid = 0
    for i in range(8):
        ref.oid = ref.oid << 8 | p[i]
    if value.kind != K_TEXT and value.flag:
        ref.offset = <uint32_t>value.v
    else:
        ref.offset, ref.flags = 0, ref.flags | REF_NO_OFFSET
    return 1


cdef int is_class(Scanner* s, Val* value) noexcept nogil:
    """Tell whether a value can be the class of a reference; a persistent class is a doubt."""
    if value.kind == K_NONE or value.kind == K_GLOBAL or value.kind == K_STACK_GLOBAL:
        return 1
    if value.kind != K_TUPLE or value.n != 2:
        return 0
    return plain_text(s, &s.arena[value.v]) and plain_text(s, &s.arena[value.v + 1])


cdef int take_database(Val* value, ScanRef* ref) noexcept nogil:
    if value.kind == K_TEXT or value.kind == K_STR2 or value.kind == K_BYTES:
        ref.flags |= REF_FOREIGN
        return 1
    return value.kind == K_NONE


cdef int take_listed(Scanner* s, Val* pid, ScanRef* ref) noexcept nogil:
    """Take a reference of a list's form: weak, or into another database."""
    cdef Node* node = &s.nodes[pid.v]
    cdef Val* parts
    cdef uint8_t form
    if node.n == 1:
        ref.flags |= REF_WEAK
        return take_oid(s, &node.first, ref)
    if node.n != 2 or node.first.n != 1 or node.second.kind != K_TUPLE:
        return 0
    if node.first.kind != K_TEXT and node.first.kind != K_STR2 and node.first.kind != K_BYTES:
        return 0
    form, parts = s.data[node.first.v], s.arena + node.second.v
    if form == c"w" and (node.second.n == 1 or node.second.n == 2):
        ref.flags |= REF_WEAK
        return take_oid(s, &parts[0], ref) and (node.second.n == 1 or take_database(&parts[1], ref))
    if form == c"n" and node.second.n == 2:
        return take_oid(s, &parts[1], ref) and take_database(&parts[0], ref)
    if form == c"m" and node.second.n == 3:
        return take_oid(s, &parts[1], ref) and take_database(&parts[0], ref) and is_class(s, &parts[2])
    return 0


cdef int refer(Scanner* s, Val* pid) noexcept nogil:
    """Take a reference; it stands where ``pid`` stood."""
    cdef ScanRef* ref
    cdef void* found
    cdef int taken
    if s.ref_count == s.ref_room:
        found = realloc(s.refs, 2 * s.ref_room * sizeof(ScanRef))
        if found == NULL:
            return 0
        s.refs, s.ref_room = <ScanRef*>found, 2 * s.ref_room
    ref = &s.refs[s.ref_count]
    ref.flags = 0
    if pid.kind == K_TUPLE:
        taken = pid.n == 2 and take_oid(s, &s.arena[pid.v], ref) and is_class(s, &s.arena[pid.v + 1])
    elif pid.kind == K_LIST:
        taken = take_listed(s, pid, ref)
    else:
        taken = take_oid(s, pid, ref)
    set_val(pid, K_REF, 0, 0, 0, s.ref_count)
    s.ref_count += 1
    return taken


# The machine.


cdef inline uint32_t little4(const uint8_t* p) noexcept nogil:
    return p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef inline uint64_t little8(const uint8_t* p) noexcept nogil:
    return little4(p) | <uint64_t>little4(p + 4) << 32


cdef int decimal(const uint8_t* p, int64_t n, int64_t* value) noexcept nogil:
    """Read a short decimal number."""
    cdef int64_t i = 0, number = 0
    cdef bint negative = False
    if n > 0 and (p[0] == c"-" or p[0] == c"+"):
        negative = p[0] == c"-"
        i = 1
    if i >= n or n - i > 18:
        return 0
    while i < n:
        if p[i] < c"0" or p[i] > c"9":
            return 0
        number = number * 10 + (p[i] - c"0")
        i += 1
    value[0] = -number if negative else number
    return 1


cdef int run(Scanner* s, int64_t start, int64_t* end) noexcept nogil:
    """Run one pickle; its value is ``s.value`` afterwards, ``end`` what follows its STOP. 0 for doubt."""
    cdef const uint8_t* d = s.data
    cdef const uint8_t* p
    cdef int64_t n = s.size, at = start, size, number, count
    # The stack above the topmost mark begins at base.
    cdef int64_t sp = 0, base = 0, mark_count = 0, room = s.stack_room, steps = s.steps
    cdef uint32_t age = s.age
    cdef Val* stack = s.stack
    cdef Val* top
    cdef uint8_t op
    while at < n:
        op = d[at]
        steps += 1
        # Each instruction pushes one value at most.
        if sp + 1 >= room:
            if not more_stack(s):
                return 0
            stack, room = s.stack, s.stack_room
        top = stack + sp
        if op == 0x71:  # BINPUT
            if n - at < 2 or sp == base:
                return 0
            # The memo has room for these always.
            number = d[at + 1]
            copy_val(&s.memo[number], top - 1)
            if s.memo_age[number] != age:
                s.memo_age[number] = age
                s.memo_count += 1
            at += 2
            continue
        # By itself, for it is every third instruction: one branch less that nobody can predict.
        if op == 0x68:  # BINGET
            if n - at < 2:
                return 0
            number = d[at + 1]
            if s.memo_age[number] != age:
                return 0
            copy_val(top, &s.memo[number])
            sp += 1
            at += 2
        elif op == 0x58 or op == 0x8C or op == 0x8D:  # BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            if op == 0x58:
                if n - at < 5:
                    return 0
                size = little4(d + at + 1)
                at += 5
            elif op == 0x8C:
                if n - at < 2:
                    return 0
                size = d[at + 1]
                at += 2
            else:
                if n - at < 9 or little8(d + at + 1) > <uint64_t>n:
                    return 0
                size = <int64_t>little8(d + at + 1)
                at += 9
            if size > n - at:
                return 0
            if not is_short_ascii(d + at, size, n - at) and not is_ascii(d + at, size) and not is_utf8(d + at, size):
                return 0
            set_val(top, K_TEXT, 0, 0, <uint32_t>size, at)
            sp += 1
            at = put_follows(s, d, n, at + size, top, age)
        elif op == 0x4B:  # BININT1
            if n - at < 2:
                return 0
            set_val(top, K_INT, 0, 0, 0, d[at + 1])
            sp += 1
            at += 2
        elif op == 0x4D:  # BININT2
            if n - at < 3:
                return 0
            set_val(top, K_INT, 0, 0, 0, d[at + 1] | <int64_t>d[at + 2] << 8)
            sp += 1
            at += 3
        elif op == 0x4A:  # BININT
            if n - at < 5:
                return 0
            set_val(top, K_INT, 0, 0, 0, <int>little4(d + at + 1))
            sp += 1
            at += 5
        elif op == 0x43 or op == 0x42 or op == 0x8E:  # SHORT_BINBYTES, BINBYTES, BINBYTES8
            if op == 0x43:
                if n - at < 2:
                    return 0
                size = d[at + 1]
                at += 2
            elif op == 0x42:
                if n - at < 5:
                    return 0
                size = little4(d + at + 1)
                at += 5
            else:
                if n - at < 9 or little8(d + at + 1) > <uint64_t>n:
                    return 0
                size = <int64_t>little8(d + at + 1)
                at += 9
            if size > n - at:
                return 0
            set_val(top, K_BYTES, 1, 0, <uint32_t>size, at)
            sp += 1
            at = put_follows(s, d, n, at + size, top, age)
        elif op == 0x55 or op == 0x54:  # SHORT_BINSTRING, BINSTRING
            if op == 0x55:
                if n - at < 2:
                    return 0
                size = d[at + 1]
                at += 2
            else:
                if n - at < 5:
                    return 0
                size = <int>little4(d + at + 1)
                at += 5
            if size < 0 or size > n - at:
                return 0
            set_val(top, K_STR2, 1, 0, <uint32_t>size, at)
            sp += 1
            at = put_follows(s, d, n, at + size, top, age)
        elif op == 0x28:  # MARK
            if mark_count >= MAX_MARKS:
                return 0
            s.marks[mark_count] = base
            s.marks[mark_count + 1] = 0
            mark_count += 1
            base = sp
            at += 1
        elif op == 0x75 or op == 0x65 or op == 0x90:  # SETITEMS, APPENDS, ADDITEMS
            if mark_count == 0:
                return 0
            count = sp - base
            sp = base
            mark_count -= 1
            base = s.marks[mark_count]
            if sp == base:
                return 0
            top = stack + sp - 1
            if op == 0x75:
                if count & 1 or (top.kind != K_DICT and top.kind != K_INSTANCE and top.kind != K_KNOWN_DICT):
                    return 0
            elif op == 0x65:
                if top.kind != K_LIST and top.kind != K_INSTANCE:
                    return 0
            elif top.kind != K_SET and top.kind != K_INSTANCE:
                return 0
            if not extend(s, top, stack + sp, count):
                return 0
            at += 1
        elif op == 0x73:  # SETITEM
            if sp - base < 3:
                return 0
            sp -= 2
            top = stack + sp - 1
            if top.kind != K_DICT and top.kind != K_INSTANCE and top.kind != K_KNOWN_DICT:
                return 0
            if not extend(s, top, stack + sp, 2):
                return 0
            at += 1
        elif op == 0x61:  # APPEND
            if sp - base < 2:
                return 0
            sp -= 1
            top = stack + sp - 1
            if (top.kind != K_LIST and top.kind != K_INSTANCE) or not extend(s, top, stack + sp, 1):
                return 0
            at += 1
        elif op == 0x74 or op == 0x6C or op == 0x64 or op == 0x91:  # TUPLE, LIST, DICT, FROZENSET
            if mark_count == 0:
                return 0
            count = sp - base
            sp = base
            mark_count -= 1
            base = s.marks[mark_count]
            top = stack + sp
            if op == 0x74:
                if not make_tuple(s, top, top, count):
                    return 0
            elif op == 0x64:
                if count & 1 or not make_node(s, top, K_DICT, top, count):
                    return 0
            elif not make_node(s, top, K_LIST if op == 0x6C else K_FROZENSET, top, count):
                return 0
            sp += 1
            at = put_follows(s, d, n, at + 1, top, age)
        elif op == 0x85 or op == 0x86 or op == 0x87:  # TUPLE1, TUPLE2, TUPLE3
            count = op - 0x84
            if sp - base < count:
                return 0
            sp -= count
            if not make_tuple(s, stack + sp, stack + sp, count):
                return 0
            at = put_follows(s, d, n, at + 1, stack + sp, age)
            sp += 1
        elif op == 0x7D or op == 0x5D or op == 0x8F:  # EMPTY_DICT, EMPTY_LIST, EMPTY_SET
            if not make_node(s, top, K_DICT if op == 0x7D else K_LIST if op == 0x5D else K_SET, NULL, 0):
                return 0
            sp += 1
            at = put_follows(s, d, n, at + 1, top, age)
        elif op == 0x51:  # BINPERSID
            if sp == base or not refer(s, top - 1):
                return 0
            at += 1
        elif op == 0x63 or op == 0x69:  # GLOBAL, INST
            p = <const uint8_t*>memchr(d + at + 1, c"\n", n - at - 1)
            if p != NULL:
                p = <const uint8_t*>memchr(p + 1, c"\n", d + n - p - 1)
            if p == NULL or not is_ascii(d + at + 1, p - d - at - 1):
                return 0
            if op == 0x69:
                if mark_count == 0:
                    return 0
                count = sp - base
                sp = base
                mark_count -= 1
                base = s.marks[mark_count]
                # The class is not among the items: it takes the place above them for a moment.
                top = stack + sp + count
            set_val(top, K_GLOBAL, 0, 0, <uint32_t>(p - d - at - 1), at + 1)
            if op == 0x69 and not make_instance(s, top, stack + sp, count, stack + sp):
                return 0
            sp += 1
            at = p - d + 1
        elif op == 0x4E:  # NONE
            set_val(top, K_NONE, 0, 0, 0, 0)
            sp += 1
            at += 1
        elif op == 0x88 or op == 0x89:  # NEWTRUE, NEWFALSE
            set_val(top, K_BOOL, 0, 0, 0, op == 0x88)
            sp += 1
            at += 1
        elif op == 0x47:  # BINFLOAT
            if n - at < 9:
                return 0
            set_val(top, K_FLOAT, 0, 0, 0, at + 1)
            sp += 1
            at += 9
        elif op == 0x29:  # EMPTY_TUPLE
            set_val(top, K_TUPLE, 0, 1, 0, s.arena_size)
            sp += 1
            at += 1
        elif op == 0x72:  # LONG_BINPUT
            if n - at < 5 or sp == base or not remember(s, little4(d + at + 1), top - 1):
                return 0
            at += 5
        elif op == 0x6A:  # LONG_BINGET
            if n - at < 5:
                return 0
            number = little4(d + at + 1)
            if number >= s.memo_room or s.memo_age[number] != s.age:
                return 0
            copy_val(top, &s.memo[number])
            sp += 1
            at += 5
        elif op == 0x94:  # MEMOIZE
            if sp == base or not remember(s, s.memo_count, top - 1):
                return 0
            at += 1
        elif op == 0x2E:  # STOP
            s.steps = steps
            if sp == base or steps > MAX_STEPS:
                return 0
            s.value = stack[sp - 1]
            end[0] = at + 1
            return 1
        elif op == 0x80:  # PROTO
            if n - at < 2 or d[at + 1] > 5:
                return 0
            at += 2
        elif op == 0x81:  # NEWOBJ
            if sp - base < 2:
                return 0
            sp -= 1
            top = stack + sp
            if top.kind != K_TUPLE or not make_instance(s, top - 1, s.arena + top.v, top.n, top - 1):
                return 0
            at += 1
        elif op == 0x52:  # REDUCE
            if sp - base < 2:
                return 0
            sp -= 1
            if not reduce_(s, stack + sp - 1, stack + sp):
                return 0
            at += 1
        elif op == 0x62:  # BUILD
            if sp - base < 2:
                return 0
            sp -= 1
            if not build(s, stack + sp - 1, stack + sp):
                return 0
            at += 1
        elif op == 0x8A or op == 0x8B:  # LONG1, LONG4
            if op == 0x8A:
                if n - at < 2:
                    return 0
                size = d[at + 1]
                at += 2
            else:
                if n - at < 5:
                    return 0
                size = <int>little4(d + at + 1)
                at += 5
            if size < 0 or size > 255 or size > n - at:
                return 0
            if size <= 8:
                number = 0
                if size > 0:
                    number = -1 if d[at + size - 1] & 0x80 else 0
                    memcpy(&number, d + at, size)
                set_val(top, K_INT, 0, 0, 0, number)
            else:
                set_val(top, K_BIGINT, 0, 0, <uint32_t>size, at)
            sp += 1
            at += size
        elif op == 0x49 or op == 0x4C:  # INT, LONG
            p = <const uint8_t*>memchr(d + at + 1, c"\n", n - at - 1)
            if p == NULL:
                return 0
            size = p - d - at - 1
            if op == 0x49 and size == 2 and d[at + 1] == c"0" and (d[at + 2] == c"0" or d[at + 2] == c"1"):
                set_val(top, K_BOOL, 0, 0, 0, d[at + 2] == c"1")
            else:
                if op == 0x4C and size > 0 and p[-1] == c"L":
                    size -= 1
                if not decimal(d + at + 1, size, &number):
                    return 0
                set_val(top, K_INT, 0, 0, 0, number)
            sp += 1
            at = p - d + 1
        elif op == 0x67 or op == 0x70:  # GET, PUT
            p = <const uint8_t*>memchr(d + at + 1, c"\n", n - at - 1)
            if p == NULL:
                return 0
            size = p - d - at - 1
            if size < 1 or d[at + 1] == c"-" or d[at + 1] == c"+" or not decimal(d + at + 1, size, &number):
                return 0
            if op == 0x70:
                if sp == base or not remember(s, number, top - 1):
                    return 0
            else:
                if number >= s.memo_room or s.memo_age[number] != s.age:
                    return 0
                copy_val(top, &s.memo[number])
                sp += 1
            at = p - d + 1
        elif op == 0x53 or op == 0x56:  # STRING, UNICODE
            p = <const uint8_t*>memchr(d + at + 1, c"\n", n - at - 1)
            if p == NULL:
                return 0
            size = p - d - at - 1
            if memchr(d + at + 1, c"\\", size) != NULL:
                return 0
            if op == 0x53:
                if size < 2 or d[at + 1] != p[-1] or (p[-1] != c"'" and p[-1] != c'"'):
                    return 0
                set_val(top, K_STR2, 0, 0, <uint32_t>(size - 2), at + 2)
            else:
                if not is_ascii(d + at + 1, size):
                    return 0
                set_val(top, K_TEXT, 0, 0, <uint32_t>size, at + 1)
            sp += 1
            at = p - d + 1
        elif op == 0x6F:  # OBJ
            if mark_count == 0 or sp == base:
                return 0
            count = sp - base
            sp = base
            mark_count -= 1
            base = s.marks[mark_count]
            if not make_instance(s, stack + sp, stack + sp + 1, count - 1, stack + sp):
                return 0
            sp += 1
            at += 1
        elif op == 0x93:  # STACK_GLOBAL
            if sp - base < 2 or not plain_text(s, top - 2) or not plain_text(s, top - 1):
                return 0
            sp -= 1
            if not make_tuple(s, stack + sp - 1, stack + sp - 1, 2):
                return 0
            stack[sp - 1].kind = K_STACK_GLOBAL
            at += 1
        elif op == 0x30:  # POP
            if sp > base:
                sp -= 1
            else:
                if mark_count == 0:
                    return 0
                mark_count -= 1
                base = s.marks[mark_count]
            at += 1
        elif op == 0x31:  # POP_MARK
            if mark_count == 0:
                return 0
            sp = base
            mark_count -= 1
            base = s.marks[mark_count]
            at += 1
        elif op == 0x32:  # DUP
            if sp == base:
                return 0
            copy_val(top, top - 1)
            sp += 1
            at += 1
        elif op == 0x95:  # FRAME
            if n - at < 9 or little8(d + at + 1) > <uint64_t>(n - at - 9):
                return 0
            at += 9
        else:
            # EXT, PERSID, FLOAT, NEWOBJ_EX, BYTEARRAY8, buffers, and what is no instruction.
            return 0
    return 0


def scan_record(data: bytes):
    """Return class and references of one record (see ``twin.scan_record``)."""
    from zodbsh.engine import twin
    from zodbsh.engine.columns import Reference, Scanned

    cdef Scanner s
    cdef int64_t i
    cdef ScanRef* ref
    cdef bytes raw = data
    if len(raw) >= 1 << 30 or not scanner_open(&s):
        return twin.scan_record(data)
    try:
        if not scan_whole(&s, raw, len(raw)):
            return twin.scan_record(data)
        found = []
        for i in range(s.ref_count):
            ref = &s.refs[i]
            offset = None if ref.flags & REF_NO_OFFSET else ref.offset
            found.append(Reference(ref.oid, offset, bool(ref.flags & REF_WEAK), bool(ref.flags & REF_FOREIGN)))
        module = raw[s.module_at : s.module_at + s.module_size]
        name = raw[s.name_at : s.name_at + s.name_size]
        return Scanned((module + b"." + name).decode(), tuple(found))
    finally:
        scanner_close(&s)
