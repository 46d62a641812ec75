#include "columns.h"

/* Types nest no deeper than the reader of schemas lets them; this only keeps a wrong caller off the stack's end. */
#define MAX_DEPTH 1000

/* ---- builders ---- */

size_t width_of(const Node *node) {
    switch (node->kind) {
    case FIXED:
        return (size_t)node->size;
    case BOOLEAN:
        return 1;
    case INT:
    case FLOAT:
    case ENUM:
    case UNION:
        return 4;
    case LONG:
    case DOUBLE:
        return 8;
    default:
        return 0;
    }
}

int64_t length_of(const Node *node) {
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

int added(Node *node) {
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

int add_null(Node *node) {
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
    case UNION:
        failed = bytes_append_int32(&node->values, NO_BRANCH) | bytes_append_int64(&node->offsets, 0);
        break;
    default:
        failed = add_zeros(&node->values, width_of(node));
    }
    failed |= mark(node, 0);
    node->length++;
    return failed ? -1 : 0;
}

int add_branch(Node *node, int64_t chosen) {
    int64_t place = length_of(&node->children[chosen]);
    if (bytes_append_int32(&node->values, (int32_t)chosen) < 0 || bytes_append_int64(&node->offsets, place) < 0)
        return -1;
    return added(node);
}

/* Takes back the values of the branches that were chosen behind the first `length` values of a union. */
static void truncate_branches(Node *node, int64_t length) {
    for (int64_t row = node->length; row-- > length;) {
        int32_t chosen;
        int64_t place;
        memcpy(&chosen, node->values.data + (size_t)row * sizeof chosen, sizeof chosen);
        memcpy(&place, node->offsets.data + (size_t)row * sizeof place, sizeof place);
        if (chosen != NO_BRANCH && node->children[chosen].keep)
            truncate_to(&node->children[chosen], place);
    }
    node->offsets.size = (size_t)length * sizeof(int64_t);
}

void truncate_to(Node *node, int64_t length) {
    int64_t inside = length;
    if (node->kind == UNION && node->length > length)
        truncate_branches(node, length);
    switch (node->kind) {
    case BYTES:
        node->offsets.size = (size_t)(length + 1) * sizeof(int64_t);
        node->values.size = (size_t)last_offset(node);
        break;
    case ARRAY:
    case MAP:
        node->offsets.size = (size_t)(length + 1) * sizeof(int64_t);
        inside = last_offset(node);
        break;
    default:
        node->values.size = (size_t)length * width_of(node);
    }
    for (Py_ssize_t i = 0; node->kind != UNION && i < node->count; i++)
        if (node->children[i].keep)
            truncate_to(&node->children[i], inside);
    if (node->length <= length)
        return;
    node->length = length;
    if (!node->validity.data)
        return;
    for (size_t i = (size_t)length; i < node->validity.size; i++)
        node->nulls -= !node->validity.data[i];
    node->validity.size = (size_t)length;
}

/* ---- programs ---- */

void clear_node(Node *node) {
    for (Py_ssize_t i = 0; i < node->count; i++)
        clear_node(&node->children[i]);
    PyMem_Free(node->children);
    bytes_clear(&node->values);
    bytes_clear(&node->offsets);
    bytes_clear(&node->validity);
}

const Node *again(const Node *node) {
    const Node *found = node;
    for (int64_t up = 0; found && up < node->size; up++)
        found = found->around;
    return found == node ? NULL : found;
}

static int check_node(const Node *node) {
    static const Py_ssize_t children[(AGAIN + 1)] = {[ARRAY] = 1, [MAP] = 2, [OPTIONAL] = 1};
    int any = node->kind == RECORD || node->kind == UNION;
    if (node->kind < 0 || node->kind >= (AGAIN + 1) || (!any && node->count != children[node->kind]) || node->slot < 0 ||
        node->size < 0 || (node->kind == FIXED && node->size == 0) ||
        (node->kind == AGAIN && (node->keep || !again(node)))) {
        PyErr_SetString(PyExc_ValueError, "no program of this decoder");
        return -1;
    }
    return 0;
}

static int build(Node *node, PyObject *program, int depth) {
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
    for (Py_ssize_t i = 0; i < count; i++) {
        node->children[i].around = node;
        if (build(&node->children[i], PyTuple_GET_ITEM(children, i), depth + 1) < 0)
            return -1;
    }
    return check_node(node);
}

int build_node(Node *node, PyObject *program) { return build(node, program, 0); }

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

/* ---- what was built ---- */

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

/* ---- batches ---- */

typedef struct {
    int64_t index;
    int64_t memory;
} Refused;

/* Reads datums from `first` until their memory adds up to the limit; gives the index after them, or -1. */
static int64_t read_datums(Node *root, ReadDatum read, int64_t row_memory, const Batch *batch, int64_t first,
                           int64_t count, Bytes *refused) {
    const int64_t *bounds = batch->bounds.buf;
    const uint8_t *data = batch->data.buf, *present = batch->present.buf;
    int64_t total = 0, index = first;
    for (; index < count && total <= batch->limit; index++) {
        int64_t rows = root->length, memory = row_memory, size = bounds[index + 1] - bounds[index];
        Outcome outcome = READ;
        if (present[index])
            outcome = read(root, data + bounds[index] + (size < batch->skip ? size : batch->skip),
                           data + bounds[index + 1], batch->limit, &memory);
        else if (add_null(root) < 0)
            outcome = NO_MEMORY;
        if (outcome == READ) {
            total += memory;
            continue;
        }
        truncate_to(root, rows);
        Refused one = {index, outcome == TOO_LARGE ? memory : -1};
        if (outcome == NO_MEMORY || bytes_append(refused, &one, sizeof one) < 0)
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

static PyObject *run(Node *root, ReadDatum read, int64_t row_memory, const Batch *batch, int64_t first) {
    int64_t count = batch->bounds.len / (Py_ssize_t)sizeof(int64_t) - 1, after = -1;
    if (check_batch(batch, first, count) < 0) {
        PyErr_SetString(PyExc_ValueError, "the bounds are not those of the data");
        return NULL;
    }
    Bytes refused = {0};
    Py_BEGIN_ALLOW_THREADS
    if (start_column(root) == 0)
        after = read_datums(root, read, row_memory, batch, first, count, &refused);
    Py_END_ALLOW_THREADS
    PyObject *rows = after < 0 ? PyErr_NoMemory() : built(root);
    PyObject *faults = rows ? refusals(&refused) : NULL;
    bytes_clear(&refused);
    if (faults)
        return Py_BuildValue("LNN", (long long)after, faults, rows);
    Py_XDECREF(rows);
    return NULL;
}

PyObject *read_batch(Node *root, ReadDatum read, int64_t row_memory, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"data", "bounds", "present", "first", "skip", "memory_limit", NULL};
    Batch batch;
    long long first;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*y*LLL", names, &batch.data, &batch.bounds, &batch.present,
                                     &first, &batch.skip, &batch.limit))
        return NULL;
    PyObject *result = NULL;
    if (root->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the decoder is in use");
    } else {
        root->busy = 1;
        result = run(root, read, row_memory, &batch, first);
        root->busy = 0;
    }
    PyBuffer_Release(&batch.data);
    PyBuffer_Release(&batch.bounds);
    PyBuffer_Release(&batch.present);
    return result;
}
