/* Avro datums to columns: each datum is checked to its last byte while it is read, and gives a row or none.
 *
 * Nothing is allocated for what a datum claims, only for what it has: an item takes a byte or more on the wire, so a
 * block of more items than bytes left is a lie, and what nulls of wide types add up to is counted against a limit before
 * they are added.
 *
 * The encoding is that of the Avro 1.12 specification, "Binary encoding".
 */
#include "columns.h"

/* So often a type may be used inside itself, in what is passed over. */
#define MAX_AGAIN 64

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    int64_t memory;
    int64_t limit;
    int no_memory;
    int again;
} Reader;

typedef struct {
    PyObject_HEAD
    Node root;
    int64_t row_memory;
} Decoder;

/* ---- reading; each gives -1 where the bytes are no value of the type ---- */

static int read_varint(Reader *reader, int64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift <= 63; shift += 7) {
        if (reader->at >= reader->end)
            return -1;
        uint64_t byte = *reader->at++;
        if (shift == 63 && byte > 1)
            return -1;
        value |= (byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
            return 0;
        }
    }
    return -1;
}

static int out_of_memory(Reader *reader) {
    reader->no_memory = 1;
    return -1;
}

static int read_value(Reader *reader, Node *node, int keep);

static int read_plain(Reader *reader, Node *node, int keep) {
    size_t width = width_of(node);
    if ((size_t)(reader->end - reader->at) < width)
        return -1;
    if (keep && (bytes_append(&node->values, reader->at, width) < 0 || added(node) < 0))
        return out_of_memory(reader);
    reader->at += width;
    return 0;
}

static int read_integer(Reader *reader, Node *node, int keep) {
    int64_t value;
    if (read_varint(reader, &value) < 0)
        return -1;
    if (node->kind == LONG)
        return keep && (bytes_append_int64(&node->values, value) < 0 || added(node) < 0) ? out_of_memory(reader) : 0;
    if (node->kind == ENUM ? value < 0 || value >= node->size : value != (int32_t)value)
        return -1;
    return keep && (bytes_append_int32(&node->values, (int32_t)value) < 0 || added(node) < 0) ? out_of_memory(reader)
                                                                                             : 0;
}

static int read_bytes(Reader *reader, Node *node, int keep) {
    int64_t length;
    if (read_varint(reader, &length) < 0 || length < 0 || length > reader->end - reader->at)
        return -1;
    if (keep && (bytes_append(&node->values, reader->at, (size_t)length) < 0 ||
                 bytes_append_int64(&node->offsets, (int64_t)node->values.size) < 0 || added(node) < 0))
        return out_of_memory(reader);
    reader->at += length;
    return 0;
}

static int read_items(Reader *reader, Node *node, int64_t count, int keep) {
    for (int64_t i = 0; i < count; i++)
        for (Py_ssize_t child = 0; child < node->count; child++)
            if (read_value(reader, &node->children[child], keep) < 0)
                return -1;
    return 0;
}

static int read_blocks(Reader *reader, Node *node, int keep) {
    for (;;) {
        int64_t count, size = -1;
        if (read_varint(reader, &count) < 0)
            return -1;
        if (count == 0)
            break;
        if (count < 0) {
            if (count == INT64_MIN || read_varint(reader, &size) < 0 || size < 0)
                return -1;
            count = -count;
        }
        if (count > reader->end - reader->at)
            return -1;
        reader->memory += count * node->slot;
        /* What takes too much is only walked to its end. */
        keep = keep && reader->memory <= reader->limit;
        const uint8_t *begin = reader->at;
        if (read_items(reader, node, count, keep) < 0 || (size >= 0 && reader->at - begin != size))
            return -1;
    }
    if (!keep)
        return 0;
    if (bytes_append_int64(&node->offsets, length_of(&node->children[0])) < 0 || added(node) < 0)
        return out_of_memory(reader);
    return 0;
}

static int read_record(Reader *reader, Node *node, int keep) {
    for (Py_ssize_t i = 0; i < node->count; i++) {
        keep = keep && reader->memory <= reader->limit;
        if (read_value(reader, &node->children[i], keep && node->children[i].keep) < 0)
            return -1;
    }
    return keep && added(node) < 0 ? out_of_memory(reader) : 0;
}

static int read_branch(Reader *reader, Node *node, int keep) {
    int64_t chosen;
    if (read_varint(reader, &chosen) < 0 || chosen < 0)
        return -1;
    if (node->kind == UNION) {
        if (chosen >= node->count)
            return -1;
        if (keep && add_branch(node, chosen) < 0)
            return out_of_memory(reader);
        return read_value(reader, &node->children[chosen], keep && node->children[chosen].keep);
    }
    if (chosen > 1)
        return -1;
    if (chosen != node->size)
        return read_value(reader, &node->children[0], keep);
    return keep && add_null(&node->children[0]) < 0 ? out_of_memory(reader) : 0;
}

static int read_again(Reader *reader, const Node *node) {
    if (reader->again == MAX_AGAIN)
        return -1;
    reader->again++;
    int result = read_value(reader, (Node *)again(node), 0);
    reader->again--;
    return result;
}

static int read_value(Reader *reader, Node *node, int keep) {
    switch (node->kind) {
    case NULLS:
        return keep && add_null(node) < 0 ? out_of_memory(reader) : 0;
    case BOOLEAN:
        return reader->at < reader->end && *reader->at <= 1 ? read_plain(reader, node, keep) : -1;
    case INT:
    case LONG:
    case ENUM:
        return read_integer(reader, node, keep);
    case FLOAT:
    case DOUBLE:
    case FIXED:
        return read_plain(reader, node, keep);
    case BYTES:
        return read_bytes(reader, node, keep);
    case ARRAY:
    case MAP:
        return read_blocks(reader, node, keep);
    case RECORD:
        return read_record(reader, node, keep);
    case AGAIN:
        return read_again(reader, node);
    default:
        return read_branch(reader, node, keep);
    }
}

static Outcome read_datum(Node *root, const uint8_t *at, const uint8_t *end, int64_t limit, int64_t *memory) {
    Reader reader = {.at = at, .end = end, .memory = *memory, .limit = limit};
    int good = read_record(&reader, root, 1) == 0 && reader.at == reader.end;
    *memory = reader.memory;
    if (reader.no_memory)
        return NO_MEMORY;
    if (!good)
        return REFUSED;
    return reader.memory > limit ? TOO_LARGE : READ;
}

/* ---- the decoder ---- */

static PyObject *decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"program", "row_memory", NULL};
    PyObject *program;
    long long row_memory;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OL", names, &program, &row_memory))
        return NULL;
    Decoder *self = (Decoder *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->row_memory = row_memory;
    if (build_node(&self->root, program) == 0) {
        if (self->root.kind == RECORD && self->root.keep)
            return (PyObject *)self;
        PyErr_SetString(PyExc_ValueError, "a program begins with a record that is kept");
    }
    Py_DECREF(self);
    return NULL;
}

static void decoder_dealloc(PyObject *self) {
    clear_node(&((Decoder *)self)->root);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *decode(PyObject *object, PyObject *args, PyObject *kwargs) {
    Decoder *self = (Decoder *)object;
    return read_batch(&self->root, read_datum, self->row_memory, args, kwargs);
}

static PyMethodDef decoder_methods[] = {
    {"decode", (PyCFunction)(void (*)(void))decode, METH_VARARGS | METH_KEYWORDS, READ_BATCH_DOC},
    {NULL},
};

PyTypeObject AvroDecoderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mesh_pipelines.native._native.AvroDecoder",
    .tp_basicsize = sizeof(Decoder),
    .tp_dealloc = decoder_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "AvroDecoder(program, row_memory): reads Avro datums of one schema to columns.",
    .tp_methods = decoder_methods,
    .tp_new = decoder_new,
};
