/* Columns that are built value by value, in the layout of Arrow arrays, and can be taken back to any length.
 *
 * Every type that is kept has a builder: its values, and where some are null its validity. What was added for a value
 * that turns out to be none is taken out of all builders again; nothing of it stays.
 */
#ifndef MESH_COLUMNS_H
#define MESH_COLUMNS_H

#include "bytes.h"

typedef enum { NULLS, BOOLEAN, INT, LONG, FLOAT, DOUBLE, BYTES, FIXED, ENUM, ARRAY, MAP, RECORD, OPTIONAL, UNION, AGAIN } Kind;


typedef struct Node {
    Kind kind;
    int keep;
    /* The bytes of a fixed type, the symbols of an enum, the branch of an optional type that is null; of a type that is
     * used again inside itself, how many levels up it lies. */
    int64_t size;
    /* The bytes of an item in memory, for arrays and maps. */
    int64_t slot;
    Py_ssize_t count;
    struct Node *children;
    /* The type around this one; NULL of the root. */
    struct Node *around;

    int64_t length;
    int64_t nulls;
    Bytes values;
    Bytes offsets;
    /* A byte a value, made when the first null comes. */
    Bytes validity;
    /* Of the root: set while a batch is read without Python's lock. */
    int busy;
} Node;

/* The bytes of a value in memory, of types that have a fixed number of them. */
size_t width_of(const Node *node);

/* How many values a type has; an optional type keeps them in what it may be. */
int64_t length_of(const Node *node);

/* In place of the branch of a union's value where that is null. */
#define NO_BRANCH (-1)

/* Begins a value of a union: notes its branch, and where its value will be among those of the branch. */
int add_branch(Node *node, int64_t chosen);

/* The type around this one that is used again here; NULL where there is none. */
const Node *again(const Node *node);

/* Counts a value that was added to the values; of a kind without storage of its own that is all there is to add. */
int added(Node *node);

/* Adds a null to a type and to all that it holds. Like the others, -1 where there is no memory. */
int add_null(Node *node);

/* Takes back what was added behind the first `length` values of a type that is kept. */
void truncate_to(Node *node, int64_t length);

/* A tree of types from a tuple (kind, keep, size, slot, children); -1 with an exception set. */
int build_node(Node *node, PyObject *program);

/* Frees what a tree holds. */
void clear_node(Node *node);

/* A batch of datums in one block of bytes, and what is to be done with it. */
typedef struct {
    Py_buffer data;
    /* Where each datum begins and the last one ends. */
    Py_buffer bounds;
    /* A byte for each datum: whether there is one. */
    Py_buffer present;
    /* The bytes in front of each datum that are not its own. */
    long long skip;
    /* The memory that one datum may take, and those of one call together (bytes). */
    long long limit;
} Batch;

typedef enum { READ, REFUSED, TOO_LARGE, NO_MEMORY } Outcome;

/* Reads one datum into the tree; `memory` begins as that of a row of nulls, and grows by what the datum adds. */
typedef Outcome (*ReadDatum)(Node *root, const uint8_t *at, const uint8_t *end, int64_t limit, int64_t *memory);

/* Reads a batch without Python's lock: (after, refused, rows), or NULL with an exception set. `args` are data, bounds,
 * present, first, skip, memory_limit. */
PyObject *read_batch(Node *root, ReadDatum read, int64_t row_memory, PyObject *args, PyObject *kwargs);

#define READ_BATCH_DOC                                                                                                 \
    "decode(data, bounds, present, first, skip, memory_limit) -> (after, refused, rows)\n\n"                           \
    "Reads the datums data[bounds[i] + skip : bounds[i + 1]] from `first` on, until their memory adds up to the limit;\n" \
    "those that are not present give a row of nulls. `refused` are pairs of the index of a datum without a row and -1,\n" \
    "or the memory that it would take. `rows` is (length, nulls, validity, offsets, values, children) of the record,\n" \
    "and so on of its children."

#endif
