# The record scanner, for the other native modules.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    # Scalars come first: what is below K_TUPLE holds nothing.
    K_NONE = 0
    K_BOOL = 1
    K_INT = 2
    K_BIGINT = 3
    K_FLOAT = 4
    K_TEXT = 5
    K_STR2 = 6
    K_BYTES = 7
    K_GLOBAL = 8
    K_STACK_GLOBAL = 9
    K_REF = 10
    K_TUPLE = 11
    K_LIST = 12
    K_DICT = 13
    K_SET = 14
    K_FROZENSET = 15
    K_INSTANCE = 16
    K_KNOWN = 17
    K_KNOWN_DICT = 18

cdef enum:
    REF_WEAK = 1
    REF_FOREIGN = 2
    REF_NO_OFFSET = 4


cdef struct Val:
    # One value. A string's v and n are its place in the record, a tuple's its place in the arena;
    # a container's v is its node. flag tells that a string's bytes stand in the record as they are.
    uint8_t kind
    uint8_t flag
    uint16_t depth
    uint32_t n
    int64_t v


cdef struct Node:
    # What can change after it was made: a list, a dict, a set, an instance.
    uint16_t depth
    uint8_t captured
    uint8_t state
    uint32_t n
    int64_t class_at
    Val first
    Val second


cdef struct ScanRef:
    uint64_t oid
    uint32_t offset
    uint32_t flags


cdef struct Scanner:
    const uint8_t* data
    int64_t size
    Val* stack
    int64_t stack_room
    Val* arena
    int64_t arena_size, arena_room
    Node* nodes
    int64_t node_count, node_room
    int64_t* marks
    Val* memo
    uint32_t* memo_age
    int64_t memo_room, memo_count
    uint32_t age
    ScanRef* refs
    int64_t ref_count, ref_room
    int64_t containers, copied, steps
    uint32_t deepest
    bint cyclic
    Val value
    # The class: module and name as places in the record.
    int64_t module_at, name_at
    uint32_t module_size, name_size


cdef int scanner_open(Scanner* s) noexcept nogil
cdef void scanner_close(Scanner* s) noexcept nogil
cdef int scan_class(Scanner* s, const uint8_t* data, int64_t size, int64_t* middle) noexcept nogil
cdef int scan_whole(Scanner* s, const uint8_t* data, int64_t size) noexcept nogil
