/* Avro datums to columns: each datum is checked to its last byte while it is read, and gives a row or none.
 *
 * A program is a tree of types. Every type that is kept has a builder: its values, and where it can be null its
 * validity, in the layout of an Arrow array. A datum that breaks the encoding at any point is taken back out of all
 * builders; nothing of it stays. Nothing is allocated for what a datum claims, only for what it has: an item takes a
 * byte or more on the wire, so a block of more items than bytes left is a lie, and what nulls of wide types add up to
 * is counted against a limit before they are added.
 *
 * The encoding is that of the Avro 1.12 specification, "Binary encoding".
 */
#include "bytes.h"

typedef enum { NULLS, BOOLEAN, INT, LONG, FLOAT, DOUBLE, BYTES, FIXED, ENUM, ARRAY, MAP, RECORD, OPTIONAL, UNION } Kind;

#define KINDS (UNION + 1)
/* Types nest no deeper than the reader of schemas lets them; this only keeps a wrong caller off the stack's end. */
#define MAX_DEPTH 1000

typedef struct Node {
    Kind kind;
    int keep;
    /* The bytes of a fixed type, the symbols of an enum, the branch of an optional type that is null. */
    int64_t size;
    /* The bytes of an item in memory, for arrays and maps. */
    int64_t slot;
    Py_ssize_t count;
    struct Node *children;

    int64_t length;
    int64_t nulls;
    Bytes values;
    Bytes offsets;
    /* A byte a value, made when the first null comes. */
    Bytes validity;
} Node;

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    int64_t memory;
    int64_t limit;
    int no_memory;
} Reader;

typedef struct {
    PyObject_HEAD
    Node root;
    int64_t row_memory;
    /* Set while a call works without Python's lock. */
    int busy;
} Decoder;

/* ---- builders ---- */

static size_t width_of(const Node *node) {
    switch (node->kind) {
    case FIXED:
        return (size_t)node->size;
    case BOOLEAN:
        return 1;
    case INT:
    case FLOAT:
    case ENUM:
        return 4;
    case LONG:
    case DOUBLE:
        return 8;
    default:
        return 0;
    }
}

/* How many values a type has; an optional type keeps them in what it may be. */
static int64_t length_of(const Node *node) {
    return node->kind == OPTIONAL ? length_of(&node->children[0]) : node->length;
}

static int64_t last_offset(const Node *node) {
    int64_t offset;
    memcpy(&offset, node->offsets.data + node->offsets.size - sizeof offset, sizeof offset);
    return offset;
}

static int mark(Node *node, uint8_t valid) {
    if (!node->validity.data) {
        if (valid)
            return 0;
        if (bytes_reserve(&node->validity, (size_t)node->length + 1) < 0)
            return -1;
        memset(node->validity.data, 1, (size_t)node->length);
        node->validity.size = (size_t)node->length;
    }
    node->nulls += !valid;
    return bytes_append(&node->validity, &valid, 1);
}

/* Counts a value that was added; of a kind without storage of its own that is all there is to add. */
static int added(Node *node) {
    if (mark(node, 1) < 0)
        return -1;
    node->length++;
    return 0;
}

static int add_zeros(Bytes *bytes, size_t count) {
    if (bytes_reserve(bytes, count) < 0)
        return -1;
    if (count)
        memset(bytes->data + bytes->size, 0, count);
    bytes->size += count;
    return 0;
}

static int add_null(Node *node) {
    int failed = 0;
    switch (node->kind) {
    case OPTIONAL:
        return add_null(&node->children[0]);
    case NULLS:
        node->length++;
        return 0;
    case BYTES:
    case ARRAY:
    case MAP:
        failed = bytes_append_int64(&node->offsets, last_offset(node));
        break;
    case RECORD:
        for (Py_ssize_t i = 0; i < node->count; i++)
            if (node->children[i].keep)
                failed |= add_null(&node->children[i]);
        break;
    default:
        failed = add_zeros(&node->values, width_of(node));
    }
    failed |= mark(node, 0);
    node->length++;
    return failed ? -1 : 0;
}

static int truncate_to(Node *node, int64_t length);

/* Fields are added in order, so behind one that nothing was added to there is nothing to take back. */
static int truncate_children(Node *node, int64_t length) {
    int any = 0;
    for (Py_ssize_t i = 0; i < node->count; i++) {
        if (!node->children[i].keep)
            continue;
        if (!truncate_to(&node->children[i], length))
            break;
        any = 1;
    }
    return any;
}

/* Takes back what was added behind the first `length` values; gives whether anything was. */
static int truncate_to(Node *node, int64_t length) {
    int inside = 0;
    switch (node->kind) {
    case OPTIONAL:
        return truncate_to(&node->children[0], length);
    case RECORD:
        inside = truncate_children(node, length);
        break;
    case ARRAY:
    case MAP:
        node->offsets.size = (size_t)(length + 1) * sizeof(int64_t);
        inside = truncate_children(node, last_offset(node));
        break;
    case BYTES:
        node->offsets.size = (size_t)(length + 1) * sizeof(int64_t);
        node->values.size = (size_t)last_offset(node);
        break;
    default:
        node->values.size = (size_t)length * width_of(node);
    }
    if (node->length <= length)
        return inside;
    if (node->validity.data) {
        for (size_t i = (size_t)length; i < node->validity.size; i++)
            node->nulls -= !node->validity.data[i];
        node->validity.size = (size_t)length;
    }
    node->length = length;
    return 1;
}

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
    if (node->kind == UNION)
        return chosen < node->count ? read_value(reader, &node->children[chosen], 0) : -1;
    if (chosen > 1)
        return -1;
    if (chosen != node->size)
        return read_value(reader, &node->children[0], keep);
    return keep && add_null(&node->children[0]) < 0 ? out_of_memory(reader) : 0;
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
    default:
        return read_branch(reader, node, keep);
    }
}

/* ---- programs: (kind, keep, size, slot, children) ---- */

static void clear_node(Node *node) {
    for (Py_ssize_t i = 0; i < node->count; i++)
        clear_node(&node->children[i]);
    PyMem_Free(node->children);
    bytes_clear(&node->values);
    bytes_clear(&node->offsets);
    bytes_clear(&node->validity);
}

static int check_node(const Node *node) {
    static const Py_ssize_t children[KINDS] = {[ARRAY] = 1, [MAP] = 2, [OPTIONAL] = 1};
    int any = node->kind == RECORD || node->kind == UNION;
    if (node->kind < 0 || node->kind >= KINDS || (!any && node->count != children[node->kind]) || node->slot < 0 ||
        node->size < 0 || (node->kind == FIXED && node->size == 0) || (node->kind == UNION && node->keep)) {
        PyErr_SetString(PyExc_ValueError, "no program of this decoder");
        return -1;
    }
    return 0;
}

static int start_column(Node *node) {
    bytes_clear(&node->values);
    bytes_clear(&node->offsets);
    bytes_clear(&node->validity);
    node->length = node->nulls = 0;
    int listed = node->kind == BYTES || node->kind == ARRAY || node->kind == MAP;
    if (node->keep && listed && bytes_append_int64(&node->offsets, 0) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < node->count; i++)
        if (start_column(&node->children[i]) < 0)
            return -1;
    return 0;
}

static int build_node(Node *node, PyObject *program, int depth) {
    int kind;
    long long size, slot;
    PyObject *children;
    if (depth > MAX_DEPTH) {
        PyErr_SetString(PyExc_ValueError, "the program nests too deep");
        return -1;
    }
    if (!PyTuple_Check(program)) {
        PyErr_SetString(PyExc_TypeError, "a program is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(program, "ipLLO!", &kind, &node->keep, &size, &slot, &PyTuple_Type, &children))
        return -1;
    node->kind = (Kind)kind;
    node->size = size;
    node->slot = slot;
    Py_ssize_t count = PyTuple_GET_SIZE(children);
    node->children = PyMem_Calloc((size_t)count + 1, sizeof(Node));
    if (!node->children) {
        PyErr_NoMemory();
        return -1;
    }
    node->count = count;
    for (Py_ssize_t i = 0; i < count; i++)
        if (build_node(&node->children[i], PyTuple_GET_ITEM(children, i), depth + 1) < 0)
            return -1;
    return check_node(node);
}

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
    if (build_node(&self->root, program, 0) == 0) {
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

/* ---- what was built: (length, nulls, validity, offsets, values, children) ---- */

static PyObject *built(Node *node) {
    PyObject *validity = NULL, *values = NULL, *offsets = NULL, *children = NULL;
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; i < node->count; i++)
        kept += node->children[i].keep;
    children = PyTuple_New(kept);
    if (!children)
        return NULL;
    kept = 0;
    for (Py_ssize_t i = 0; i < node->count; i++) {
        if (!node->children[i].keep)
            continue;
        PyObject *child = built(&node->children[i]);
        if (!child)
            goto failed;
        PyTuple_SET_ITEM(children, kept++, child);
    }
    validity = node->nulls ? bytes_pack_bits(&node->validity) : Py_NewRef(Py_None);
    offsets = bytes_release(&node->offsets);
    values = node->kind == BOOLEAN ? bytes_pack_bits(&node->values) : bytes_release(&node->values);
    if (validity && offsets && values)
        return Py_BuildValue("LLNNNN", (long long)node->length, (long long)node->nulls, validity, offsets, values,
                             children);
failed:
    Py_XDECREF(validity);
    Py_XDECREF(offsets);
    Py_XDECREF(values);
    Py_DECREF(children);
    return NULL;
}

/* ---- decoding ---- */

typedef struct {
    int64_t index;
    int64_t memory;
} Refused;

typedef struct {
    Py_buffer data;
    /* Where each datum begins and the last one ends. */
    Py_buffer bounds;
    /* A byte for each datum: whether there is one. */
    Py_buffer present;
    long long skip;
    long long limit;
} Batch;

/* Reads one datum: 1 where it gave a row, 0 where it was refused, -1 where there is no memory. */
static int read_datum(Decoder *self, const Batch *batch, int64_t index, Refused *refused, int64_t *total) {
    const int64_t *bounds = batch->bounds.buf;
    const uint8_t *data = batch->data.buf;
    int64_t rows = self->root.length, size = bounds[index + 1] - bounds[index];
    Reader reader = {
        .at = data + bounds[index] + (size < batch->skip ? size : batch->skip),
        .end = data + bounds[index + 1],
        .memory = self->row_memory,
        .limit = batch->limit,
    };
    int good = read_record(&reader, &self->root, 1) == 0 && reader.at == reader.end;
    if (reader.no_memory)
        return -1;
    if (good && reader.memory <= batch->limit) {
        *total += reader.memory;
        return 1;
    }
    truncate_to(&self->root, rows);
    *refused = (Refused){index, good ? reader.memory : -1};
    return 0;
}

/* Reads datums from `first` until their memory adds up to the limit; gives the index after them, or -1. */
static int64_t read_datums(Decoder *self, const Batch *batch, int64_t first, int64_t count, Bytes *refused) {
    const uint8_t *present = batch->present.buf;
    int64_t total = 0, index = first;
    for (; index < count && total <= batch->limit; index++) {
        if (!present[index]) {
            if (add_null(&self->root) < 0)
                return -1;
            total += self->row_memory;
            continue;
        }
        Refused one;
        int rows = read_datum(self, batch, index, &one, &total);
        if (rows < 0 || (rows == 0 && bytes_append(refused, &one, sizeof one) < 0))
            return -1;
    }
    return index;
}

/* Checks, once for all, that no datum lies outside the data. */
static int check_batch(const Batch *batch, int64_t first, int64_t count) {
    const int64_t *bounds = batch->bounds.buf;
    if (count < 0 || first < 0 || first > count || batch->skip < 0 || batch->limit < 0 ||
        batch->present.len < (Py_ssize_t)count || (uintptr_t)bounds % sizeof(int64_t) != 0 || bounds[0] < 0 ||
        bounds[count] > batch->data.len)
        return -1;
    for (int64_t i = 0; i < count; i++)
        if (bounds[i] > bounds[i + 1])
            return -1;
    return 0;
}

static PyObject *refusals(const Bytes *refused) {
    Py_ssize_t count = (Py_ssize_t)(refused->size / sizeof(Refused));
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        Refused one;
        memcpy(&one, refused->data + (size_t)i * sizeof one, sizeof one);
        PyObject *pair = Py_BuildValue("LL", (long long)one.index, (long long)one.memory);
        if (!pair)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

static PyObject *decode_batch(Decoder *self, const Batch *batch, int64_t first) {
    int64_t count = batch->bounds.len / (Py_ssize_t)sizeof(int64_t) - 1, after = -1;
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the decoder is in use");
        return NULL;
    }
    if (check_batch(batch, first, count) < 0) {
        PyErr_SetString(PyExc_ValueError, "the bounds are not those of the data");
        return NULL;
    }
    Bytes refused = {0};
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    if (start_column(&self->root) == 0)
        after = read_datums(self, batch, first, count, &refused);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    PyObject *rows = after < 0 ? PyErr_NoMemory() : built(&self->root);
    PyObject *faults = rows ? refusals(&refused) : NULL;
    bytes_clear(&refused);
    if (faults)
        return Py_BuildValue("LNN", (long long)after, faults, rows);
    Py_XDECREF(rows);
    return NULL;
}

static PyObject *decode(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"data", "bounds", "present", "first", "skip", "memory_limit", NULL};
    Batch batch;
    long long first;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*y*LLL", names, &batch.data, &batch.bounds, &batch.present,
                                     &first, &batch.skip, &batch.limit))
        return NULL;
    PyObject *result = decode_batch((Decoder *)self, &batch, first);
    PyBuffer_Release(&batch.data);
    PyBuffer_Release(&batch.bounds);
    PyBuffer_Release(&batch.present);
    return result;
}

static PyMethodDef decoder_methods[] = {
    {"decode", (PyCFunction)(void (*)(void))decode, METH_VARARGS | METH_KEYWORDS,
     "decode(data, bounds, present, first, skip, memory_limit) -> (after, refused, rows)\n\n"
     "Reads the datums data[bounds[i] + skip : bounds[i + 1]] from `first` on, until their memory adds up to the limit;\n"
     "those that are not present give a row of nulls. `refused` are pairs of the index of a datum without a row and -1,\n"
     "or the memory that it would take. `rows` is (length, nulls, validity, offsets, values, children) of the record,\n"
     "and so on of its children."},
    {NULL},
};

PyTypeObject DecoderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mesh_pipelines.native._native.Decoder",
    .tp_basicsize = sizeof(Decoder),
    .tp_dealloc = decoder_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Decoder(program, row_memory): reads Avro datums of one schema to columns.",
    .tp_methods = decoder_methods,
    .tp_new = decoder_new,
};
