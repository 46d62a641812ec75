#include "bytes.h"

#define LEAST 4096

typedef struct {
    PyObject_HEAD
    uint8_t *data;
    Py_ssize_t size;
} Buffer;

int bytes_reserve(Bytes *bytes, size_t more) {
    if (more > (size_t)PY_SSIZE_T_MAX - bytes->size)
        return -1;
    size_t needed = bytes->size + more;
    if (needed <= bytes->capacity)
        return 0;
    size_t capacity = bytes->capacity < LEAST ? LEAST : bytes->capacity + bytes->capacity / 2;
    if (capacity < needed)
        capacity = needed;
    uint8_t *data = realloc(bytes->data, capacity);
    if (!data)
        return -1;
    bytes->data = data;
    bytes->capacity = capacity;
    return 0;
}

void bytes_clear(Bytes *bytes) {
    free(bytes->data);
    *bytes = (Bytes){0};
}

PyObject *bytes_release(Bytes *bytes) {
    Buffer *buffer = PyObject_New(Buffer, &BufferType);
    if (!buffer)
        return NULL;
    /* What was reserved ahead is given back; shrinking cannot fail in a way that matters. */
    uint8_t *fitting = bytes->size ? realloc(bytes->data, bytes->size) : NULL;
    buffer->data = fitting ? fitting : bytes->data;
    buffer->size = (Py_ssize_t)bytes->size;
    *bytes = (Bytes){0};
    return (PyObject *)buffer;
}

PyObject *bytes_pack_bits(const Bytes *flags) {
    Bytes bits = {0};
    size_t size = (flags->size + 7) / 8;
    if (bytes_reserve(&bits, size + 1) < 0)
        return PyErr_NoMemory();
    bits.size = size;
    memset(bits.data, 0, size);
    for (size_t i = 0; i < flags->size; i++)
        bits.data[i >> 3] |= (uint8_t)(flags->data[i] << (i & 7));
    PyObject *released = bytes_release(&bits);
    bytes_clear(&bits);
    return released;
}

static void buffer_dealloc(PyObject *self) {
    free(((Buffer *)self)->data);
    PyObject_Free(self);
}

static int buffer_get(PyObject *self, Py_buffer *view, int flags) {
    static uint8_t nothing;
    Buffer *buffer = (Buffer *)self;
    return PyBuffer_FillInfo(view, self, buffer->data ? buffer->data : &nothing, buffer->size, 1, flags);
}

static PyBufferProcs buffer_procs = {.bf_getbuffer = buffer_get};

PyTypeObject BufferType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mesh_pipelines.native._native.Buffer",
    .tp_basicsize = sizeof(Buffer),
    .tp_dealloc = buffer_dealloc,
    .tp_as_buffer = &buffer_procs,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Bytes filled by native code; read-only.",
};
