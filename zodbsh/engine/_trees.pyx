# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""BTrees that are sound for certain, natively.

The walk is that of ``zodbsh.analysis.treecheck``: keys, ranges, depth, first
buckets and the chain of next ones. It knows keys that are small numbers, texts
or bytes, and says nothing of what is wrong: a tree with any other key, of an
unusual form, or with a fault is a doubt, and the check in Python has the word.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memset

from zodbsh.engine._scan cimport (
    K_BYTES, K_FLOAT, K_INT, K_NONE, K_REF, K_STR2, K_TEXT, K_TUPLE, REF_FOREIGN, REF_WEAK, Scanner, Val, scan_whole,
    scanner_close, scanner_open,
)

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void* buffer, size_t size, long long offset)

cdef extern from *:
    """
    #define NONE 0xFFFFFFFFu
    #define DELETED 0xFFFFFFFEu
    #define WEAK 0x80000000u
    """
    uint32_t NONE, DELETED, WEAK

cdef enum:
    LEVELS = 32
    D_HEADER = 42
    MOST = 1 << 25
    BTREE = 1
    TREESET = 2
    BUCKET = 3
    SET = 4

cdef uint64_t POINTS_BACK = <uint64_t>1 << 63


cdef struct Key:
    # A number, or the bytes of a text.
    uint8_t kind
    int64_t number
    const uint8_t* at
    uint32_t size


cdef struct Level:
    Scanner scanner
    uint8_t* data
    int64_t room
    uint32_t number
    # The children and the keys between them, in the scanner's arena.
    int64_t children
    int64_t count
    int64_t next
    bint has_low, has_high
    Key low, high


cdef class Certifier:
    """Certifies the trees of one snapshot of a Data.fs.

    ``forms``, ``key_letters``, ``value_letters`` have a byte for each class number: 0, or 1 BTree, 2 TreeSet, 3 Bucket,
    4 Set; and the family's letters. ``owners`` (I, writable) has the top of each node that was certified.
    """

    cdef int fd
    cdef const unsigned long long[::1] where, sizes, starts
    cdef const uint32_t[::1] classes, counts, targets
    cdef uint32_t[::1] owners
    cdef const uint8_t[::1] forms, key_letters, value_letters
    cdef Level* levels
    cdef int64_t opened
    # Of the tree that is walked.
    cdef uint32_t top
    cdef list taken
    cdef uint8_t form, key_letter, value_letter
    cdef uint8_t key_kind
    cdef int64_t leaf_depth
    cdef uint32_t expected
    cdef uint32_t waiting[LEVELS]
    cdef int64_t waiting_count
    cdef bint met_leaf

    def __cinit__(self, int fd, columns, bytes forms, bytes key_letters, bytes value_letters, owners):
        self.fd = fd
        self.where, self.sizes, self.starts = columns.where, columns.sizes, columns.starts
        self.classes, self.counts, self.targets = columns.classes, columns.counts, columns.targets
        self.owners, self.forms = owners, forms
        self.key_letters, self.value_letters = key_letters, value_letters
        if self.owners.shape[0] != self.classes.shape[0]:
            raise ValueError("columns that do not fit together")
        self.levels = <Level*>realloc(NULL, LEVELS * sizeof(Level))
        if self.levels == NULL:
            raise MemoryError
        memset(self.levels, 0, LEVELS * sizeof(Level))

    def __dealloc__(self):
        cdef int64_t i
        if self.levels != NULL:
            for i in range(self.opened):
                scanner_close(&self.levels[i].scanner)
                free(self.levels[i].data)
            free(self.levels)

    def certify(self, uint32_t top):
        """Return how many nodes the tree of this top has where it is sound for certain, 0 otherwise."""
        cdef uint32_t class_
        if top >= self.classes.shape[0] or self.owners[top] != NONE:
            return 0
        class_ = self.classes[top]
        if class_ >= self.forms.shape[0] or not (self.forms[class_] == BTREE or self.forms[class_] == TREESET):
            return 0
        self.form = self.forms[class_]
        self.key_letter, self.value_letter = self.key_letters[class_], self.value_letters[class_]
        self.top, self.taken = top, []
        self.key_kind, self.leaf_depth, self.expected, self.waiting_count = K_NONE, -1, NONE, 0
        self.met_leaf = False
        if self.walk():
            return len(self.taken)
        for number in self.taken:
            self.owners[<uint32_t>number] = NONE
        return 0

    cdef int take(self, uint32_t number) except -1:
        """Take a node for this tree; 0 where some tree has it."""
        if self.owners[number] != NONE:
            return 0
        self.owners[number] = self.top
        self.taken.append(number)
        if len(self.taken) % 1024 == 0:
            PyErr_CheckSignals()
        return 1

    cdef int walk(self) except -1:
        cdef int64_t depth = 0
        cdef Level* level
        cdef Level* below
        cdef uint32_t child
        cdef uint8_t form
        if not self.take(self.top) or not self.load(0, self.top):
            return 0
        self.levels[0].has_low = self.levels[0].has_high = False
        if not self.enter(0):
            return 0
        while depth >= 0:
            level = &self.levels[depth]
            if level.next == level.count:
                depth -= 1
                continue
            if depth + 1 >= LEVELS:
                return 0
            child = self.target(level, &level.scanner.arena[level.children + 2 * level.next])
            if child == NONE or not self.take(child):
                return 0
            below = &self.levels[depth + 1]
            if not self.load(depth + 1, child):
                return 0
            # The keys on both sides bound the child's.
            below.has_low, below.low = level.has_low, level.low
            below.has_high, below.high = level.has_high, level.high
            if level.next > 0:
                below.has_low = True
                if not self.read_key(level, &level.scanner.arena[level.children + 2 * level.next - 1], &below.low):
                    return 0
            if level.next + 1 < level.count:
                below.has_high = True
                if not self.read_key(level, &level.scanner.arena[level.children + 2 * level.next + 1], &below.high):
                    return 0
            level.next += 1
            form = self.forms[self.classes[child]]
            if form == self.form:
                if self.classes[child] != self.classes[self.top] or not self.enter(depth + 1) or below.count == 0:
                    return 0
                depth += 1
            elif form == self.form + 2:
                if (
                    self.key_letters[self.classes[child]] != self.key_letter
                    or self.value_letters[self.classes[child]] != self.value_letter
                    or not self.leaf(depth + 1)
                ):
                    return 0
            else:
                return 0
        return self.expected == NONE and self.waiting_count == 0

    cdef int load(self, int64_t depth, uint32_t number) noexcept:
        """Read and scan a node's record."""
        cdef Level* level = &self.levels[depth]
        cdef int64_t size, done = 0
        cdef ssize_t got
        cdef void* found
        if depth == self.opened:
            if not scanner_open(&level.scanner):
                return 0
            self.opened += 1
        if self.classes[number] >= <uint32_t>self.forms.shape[0] or self.where[number] >= POINTS_BACK:
            return 0
        if self.sizes[number] > MOST:
            return 0
        size = <int64_t>self.sizes[number]
        if size > level.room:
            found = realloc(level.data, size + 4096)
            if found == NULL:
                return 0
            level.data, level.room = <uint8_t*>found, size + 4096
        while done < size:
            got = pread(self.fd, level.data + done, size - done, self.where[number] + D_HEADER + done)
            if got <= 0:
                if got < 0 and errno == EINTR:
                    continue
                return 0
            done += got
        level.number = number
        # References are told by their places in the columns, so there must be as many.
        return scan_whole(&level.scanner, level.data, size) and level.scanner.ref_count == self.counts[number]

    cdef uint32_t target(self, Level* level, Val* value) noexcept:
        """Return the number of the object that a value refers to, NONE for doubt."""
        cdef uint32_t found
        if value.kind != K_REF or level.scanner.refs[value.v].flags & (REF_FOREIGN | REF_WEAK):
            return NONE
        found = self.targets[self.starts[level.number] + value.v]
        return found if found < WEAK and self.classes[found] < DELETED else NONE

    cdef int enter(self, int64_t depth) noexcept:
        """Take a node that may have children."""
        cdef Level* level = &self.levels[depth]
        cdef Scanner* s = &level.scanner
        cdef Val* state = &s.value
        cdef Val* inside
        cdef uint32_t first
        cdef int64_t i
        cdef Key key, before
        cdef bint known = level.has_low
        level.next = level.count = 0
        if state.kind == K_NONE:
            return depth == 0
        if state.kind != K_TUPLE or state.n < 1 or state.n > 2:
            return 0
        inside = &s.arena[state.v]
        if inside.kind != K_TUPLE:
            return 0
        if state.n == 1:
            # The only bucket, within the tree's own record.
            if depth or inside.n != 1 or s.arena[inside.v].kind != K_TUPLE or s.arena[inside.v].n != 1:
                return 0
            return self.items(level, &s.arena[s.arena[inside.v].v])
        first = self.target(level, &s.arena[state.v + 1])
        if not inside.n & 1 or first == NONE or self.waiting_count >= LEVELS:
            return 0
        level.children, level.count = inside.v, (inside.n + 1) // 2
        before = level.low
        for i in range(1, inside.n, 2):
            if not self.read_key(level, &s.arena[inside.v + i], &key):
                return 0
            # The first key may be the bound itself, as the keys of its child may.
            if known and (compare(&key, &before) < 0 or (i > 1 and compare(&key, &before) == 0)):
                return 0
            if level.has_high and compare(&key, &level.high) >= 0:
                return 0
            before, known = key, True
        self.waiting[self.waiting_count] = first
        self.waiting_count += 1
        return 1

    cdef int leaf(self, int64_t depth) noexcept:
        """Take a bucket or a set."""
        cdef Level* level = &self.levels[depth]
        cdef Scanner* s = &level.scanner
        cdef Val* state = &s.value
        cdef int64_t i
        if state.kind != K_TUPLE or state.n < 1 or state.n > 2:
            return 0
        if self.leaf_depth >= 0 and self.leaf_depth != depth:
            return 0
        self.leaf_depth = depth
        for i in range(self.waiting_count):
            if self.waiting[i] != level.number:
                return 0
        self.waiting_count = 0
        if self.met_leaf and self.expected != level.number:
            return 0
        self.met_leaf = True
        self.expected = NONE
        if state.n == 2:
            self.expected = self.target(level, &s.arena[state.v + 1])
            if self.expected == NONE:
                return 0
        return self.items(level, &s.arena[state.v])

    cdef int items(self, Level* level, Val* content) noexcept:
        """Check the keys and values of a bucket."""
        cdef int64_t i, step = 1 if self.form == TREESET else 2
        cdef Key key, before
        cdef bint known = False
        cdef Val* values = level.scanner.arena + content.v
        if content.kind != K_TUPLE or content.n == 0 or content.n % step:
            return 0
        for i in range(0, content.n, step):
            if not self.read_key(level, &values[i], &key):
                return 0
            if known and compare(&key, &before) <= 0:
                return 0
            if not known and level.has_low and compare(&key, &level.low) < 0:
                return 0
            before, known = key, True
            if step == 2 and not fits(self.value_letter, &values[i + 1]):
                return 0
        return not level.has_high or compare(&before, &level.high) < 0

    cdef int read_key(self, Level* level, Val* value, Key* key) noexcept:
        """Read a key of a kind that can be compared here, the same throughout the tree."""
        cdef const uint8_t* p
        cdef uint32_t i
        key.kind, key.number, key.at, key.size = value.kind, value.v, NULL, value.n
        if value.kind == K_INT:
            if self.key_letter != c"O" and not fits(self.key_letter, value):
                return 0
        elif self.key_letter != c"O":
            return 0
        else:
            p = level.data + value.v
            if value.kind == K_STR2:
                for i in range(value.n):
                    if p[i] & 0x80:
                        return 0
                key.kind = K_TEXT
            elif value.kind != K_TEXT and value.kind != K_BYTES:
                return 0
            key.at = p
        if self.key_kind == K_NONE:
            self.key_kind = key.kind
        return self.key_kind == key.kind


cdef inline int compare(const Key* one, const Key* other) noexcept:
    """Compare keys of one kind. The order of UTF-8 is that of its characters."""
    cdef int found
    if one.kind == K_INT:
        return (one.number > other.number) - (one.number < other.number)
    found = memcmp(one.at, other.at, min(one.size, other.size))
    return found if found else (one.size > other.size) - (one.size < other.size)


cdef inline int fits(uint8_t letter, const Val* value) noexcept:
    """Tell whether a value is of a family's type for certain."""
    if letter == c"O":
        return 1
    if letter == c"F":
        return value.kind == K_FLOAT
    if value.kind != K_INT:
        return 0
    if letter == c"I":
        return -0x80000000LL <= value.v <= 0x7FFFFFFFLL
    if letter == c"L":
        return 1
    if letter == c"U":
        return 0 <= value.v <= 0xFFFFFFFFLL
    if letter == c"Q":
        return value.v >= 0
    return 0
