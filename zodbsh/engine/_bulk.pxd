# What the other native modules use of the bulk pass: reading, growing arrays, columns, and finding an oid's number.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef inline uint64_t big8(const uint8_t* p) noexcept nogil:
    return (
        <uint64_t>p[0] << 56 | <uint64_t>p[1] << 48 | <uint64_t>p[2] << 40 | <uint64_t>p[3] << 32
        | <uint64_t>p[4] << 24 | <uint64_t>p[5] << 16 | <uint64_t>p[6] << 8 | p[7]
    )


cdef inline uint32_t big2(const uint8_t* p) noexcept nogil:
    return <uint32_t>p[0] << 8 | p[1]


cdef int64_t read_at(int fd, uint8_t* buffer, int64_t size, int64_t position) noexcept nogil


# A growing array of one kind of thing.
cdef struct Array:
    uint8_t* at
    int64_t count
    int64_t room
    int64_t width


cdef int reserve(Array* array, int64_t more) noexcept nogil
cdef object column(Array* array)


cdef class Column:
    cdef void* at
    cdef Py_ssize_t count, width
    cdef char* format
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]


cdef class Finder:
    cdef uint32_t* table
    cdef uint64_t lines, multiplier
    cdef Column column
    cdef readonly object oids
    cdef object where, classes

    cdef int64_t number(self, uint64_t oid) noexcept nogil
