/* Growable bytes that become read-only Python buffers without a copy. */
#ifndef MESH_BYTES_H
#define MESH_BYTES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t size;
    size_t capacity;
} Bytes;

/* Makes room for `more` bytes behind the end; -1 where there is no memory, and nothing has changed then. */
int bytes_reserve(Bytes *bytes, size_t more);

/* Frees what is held. */
void bytes_clear(Bytes *bytes);

/* A new Python object that owns the bytes (`bytes` is empty afterwards); NULL with an exception set. */
PyObject *bytes_release(Bytes *bytes);

/* The same of one bit for each byte of 0 or 1, the lowest first. */
PyObject *bytes_pack_bits(const Bytes *flags);

/* The type of those objects, to be made ready once. */
extern PyTypeObject BufferType;

static inline int bytes_append(Bytes *bytes, const void *from, size_t count) {
    if (bytes->capacity - bytes->size < count && bytes_reserve(bytes, count) < 0)
        return -1;
    if (count)
        memcpy(bytes->data + bytes->size, from, count);
    bytes->size += count;
    return 0;
}

static inline int bytes_append_int64(Bytes *bytes, int64_t value) { return bytes_append(bytes, &value, sizeof value); }

static inline int bytes_append_int32(Bytes *bytes, int32_t value) { return bytes_append(bytes, &value, sizeof value); }

#endif
