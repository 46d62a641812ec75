/* A bounded read of Kafka's partitions into columns: messages never become Python objects.
 *
 * Everything goes through the public C API of the librdkafka that the Kafka client of the process has loaded already;
 * it is found at run time, so nothing is linked and no second copy is shipped. Types and functions are declared here as
 * that API documents them (librdkafka 2.1 or newer, rdkafka.h).
 */
#include "bytes.h"

#include <dlfcn.h>

#define LEAST_VERSION 0x020100ff
#define CONSUMER 1
#define CONF_OK 0
#define NO_TIMESTAMP 0
#define ERRORS_KEPT 16
#define REASON_BYTES 512
/* Messages taken at once: their pointers fit the nearest cache. */
#define TAKEN 512
/* Headers that hold the id of a value's schema: how many are looked for, and how much may stand for their first bytes. */
#define ID_HEADERS 8
#define FRONT_BYTES 8
/* How long a read that has messages waits for more. */
#define LINGER_MS 20

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_headers_s rd_kafka_headers_t;

typedef struct {
    int err;
    rd_kafka_topic_t *rkt;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *_private;
} rd_kafka_message_t;

typedef struct {
    char *topic;
    int32_t partition;
    int64_t offset;
    void *metadata;
    size_t metadata_size;
    void *opaque;
    int err;
    void *_private;
} rd_kafka_topic_partition_t;

typedef struct {
    int cnt;
    int size;
    rd_kafka_topic_partition_t *elems;
} rd_kafka_topic_partition_list_t;

#define FUNCTIONS(F)                                                                                                   \
    F(int, rd_kafka_version, (void))                                                                                   \
    F(rd_kafka_conf_t *, rd_kafka_conf_new, (void))                                                                    \
    F(void, rd_kafka_conf_destroy, (rd_kafka_conf_t *))                                                                \
    F(int, rd_kafka_conf_set, (rd_kafka_conf_t *, const char *, const char *, char *, size_t))                         \
    F(void, rd_kafka_conf_set_opaque, (rd_kafka_conf_t *, void *))                                                     \
    F(void, rd_kafka_conf_set_error_cb, (rd_kafka_conf_t *, void (*)(rd_kafka_t *, int, const char *, void *)))        \
    F(rd_kafka_t *, rd_kafka_new, (int, rd_kafka_conf_t *, char *, size_t))                                            \
    F(int, rd_kafka_poll_set_consumer, (rd_kafka_t *))                                                                 \
    F(int, rd_kafka_consumer_close, (rd_kafka_t *))                                                                    \
    F(void, rd_kafka_destroy, (rd_kafka_t *))                                                                          \
    F(rd_kafka_queue_t *, rd_kafka_queue_get_consumer, (rd_kafka_t *))                                                 \
    F(void, rd_kafka_queue_destroy, (rd_kafka_queue_t *))                                                              \
    F(size_t, rd_kafka_queue_length, (rd_kafka_queue_t *))                                                             \
    F(ssize_t, rd_kafka_consume_batch_queue, (rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t))                 \
    F(void, rd_kafka_message_destroy, (rd_kafka_message_t *))                                                          \
    F(int64_t, rd_kafka_message_timestamp, (const rd_kafka_message_t *, int *))                                        \
    F(int32_t, rd_kafka_message_leader_epoch, (const rd_kafka_message_t *))                                            \
    F(int, rd_kafka_message_headers, (const rd_kafka_message_t *, rd_kafka_headers_t **))                              \
    F(int, rd_kafka_header_get_last, (const rd_kafka_headers_t *, const char *, const void **, size_t *))              \
    F(rd_kafka_topic_partition_list_t *, rd_kafka_topic_partition_list_new, (int))                                     \
    F(rd_kafka_topic_partition_t *, rd_kafka_topic_partition_list_add,                                                 \
      (rd_kafka_topic_partition_list_t *, const char *, int32_t))                                                      \
    F(void, rd_kafka_topic_partition_list_destroy, (rd_kafka_topic_partition_list_t *))                                \
    F(void, rd_kafka_topic_partition_set_leader_epoch, (rd_kafka_topic_partition_t *, int32_t))                        \
    F(int, rd_kafka_assign, (rd_kafka_t *, const rd_kafka_topic_partition_list_t *))                                   \
    F(int, rd_kafka_pause_partitions, (rd_kafka_t *, rd_kafka_topic_partition_list_t *))                               \
    F(int, rd_kafka_position, (rd_kafka_t *, rd_kafka_topic_partition_list_t *))                                       \
    F(int, rd_kafka_oauthbearer_set_token,                                                                             \
      (rd_kafka_t *, const char *, int64_t, const char *, const char **, size_t, char *, size_t))                      \
    F(const char *, rd_kafka_err2str, (int))

#define MEMBER(result, name, arguments) result(*name) arguments;
static struct {
    FUNCTIONS(MEMBER)
} api;

typedef struct {
    int code;
    char reason[REASON_BYTES];
} Failure;

typedef struct {
    int32_t number;
    /* The leader epoch of the last message that was read, and the offset after it. */
    int32_t epoch;
    int64_t next;
    int64_t end;
    /* Whether this read gave messages of it. */
    int touched;
    /* Whether its end was seen, and whether it was paused for that. */
    int done;
    int paused;
} Partition;

/* A header whose value, with its first `skipped` bytes as `front`, goes in front of the message's. */
typedef struct {
    char *name;
    char front[FRONT_BYTES];
    size_t front_size;
    size_t skipped;
} IdHeader;

typedef struct {
    PyObject_HEAD
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;
    char *topic;
    Partition *partitions;
    int partitions_count;
    /* The one that the last message was of: messages come in runs. */
    int current;
    /* Set while a call works without Python's lock. */
    int busy;
    int id_headers_count;
    IdHeader id_headers[ID_HEADERS];
    int failures_count;
    Failure failures[ERRORS_KEPT];
} Consumer;

/* What one read has gathered. */
typedef struct {
    Bytes partitions;
    Bytes offsets;
    Bytes timestamps;
    Bytes timestamps_valid;
    Bytes key_offsets;
    Bytes keys;
    Bytes keys_valid;
    Bytes value_offsets;
    Bytes values;
    Bytes values_valid;
    /* (error, partition, offset) of what is no message, and their texts one after the other, each ended by a zero. */
    Bytes events;
    Bytes texts;
    int64_t rows;
    int64_t null_timestamps, null_keys, null_values;
    int no_memory;
} Read;

typedef struct {
    int32_t error;
    int32_t partition;
    int64_t offset;
} Event;

static int load_api(const char *path) {
    if (api.rd_kafka_version)
        return 0;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        PyErr_Format(PyExc_ImportError, "the Kafka client's library cannot be loaded: %s", dlerror());
        return -1;
    }
#define RESOLVE(result, name, arguments)                                                                               \
    *(void **)&api.name = dlsym(library, #name);                                                                       \
    if (!api.name) {                                                                                                   \
        PyErr_Format(PyExc_ImportError, "the Kafka client's library has no %s", #name);                                \
        goto failed;                                                                                                   \
    }
    FUNCTIONS(RESOLVE)
    if (api.rd_kafka_version() < LEAST_VERSION) {
        PyErr_Format(PyExc_ImportError, "the Kafka client's library is too old (%x)", api.rd_kafka_version());
        goto failed;
    }
    return 0;
failed:
    api.rd_kafka_version = NULL;
    return -1;
}

PyObject *check_library(PyObject *module, PyObject *path) {
    (void)module;
    const char *text = PyUnicode_AsUTF8(path);
    return text && load_api(text) == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- the client ---- */

static void on_error(rd_kafka_t *client, int code, const char *reason, void *opaque) {
    (void)client;
    Consumer *self = opaque;
    if (self->failures_count == ERRORS_KEPT) {
        memmove(self->failures, self->failures + 1, sizeof(Failure) * (ERRORS_KEPT - 1));
        self->failures_count--;
    }
    Failure *failure = &self->failures[self->failures_count++];
    failure->code = code;
    snprintf(failure->reason, sizeof failure->reason, "%s", reason ? reason : "");
}

static int configure(rd_kafka_conf_t *conf, PyObject *config) {
    char reason[REASON_BYTES];
    Py_ssize_t at = 0;
    PyObject *name, *value;
    while (PyDict_Next(config, &at, &name, &value)) {
        const char *name_text = PyUnicode_AsUTF8(name), *value_text = PyUnicode_AsUTF8(value);
        if (!name_text || !value_text)
            return -1;
        if (api.rd_kafka_conf_set(conf, name_text, value_text, reason, sizeof reason) != CONF_OK) {
            PyErr_SetString(PyExc_ValueError, reason);
            return -1;
        }
    }
    return 0;
}

static int start_client(Consumer *self, PyObject *config) {
    char reason[REASON_BYTES];
    rd_kafka_conf_t *conf = api.rd_kafka_conf_new();
    if (configure(conf, config) < 0) {
        api.rd_kafka_conf_destroy(conf);
        return -1;
    }
    api.rd_kafka_conf_set_opaque(conf, self);
    api.rd_kafka_conf_set_error_cb(conf, on_error);
    self->client = api.rd_kafka_new(CONSUMER, conf, reason, sizeof reason);
    if (!self->client) {
        api.rd_kafka_conf_destroy(conf);
        PyErr_SetString(PyExc_ValueError, reason);
        return -1;
    }
    api.rd_kafka_poll_set_consumer(self->client);
    self->queue = api.rd_kafka_queue_get_consumer(self->client);
    return 0;
}

static int know_id_headers(Consumer *self, PyObject *wanted) {
    Py_ssize_t count = PyTuple_GET_SIZE(wanted);
    if (count > ID_HEADERS) {
        PyErr_Format(PyExc_ValueError, "at most %d headers", ID_HEADERS);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        const char *name, *front;
        Py_ssize_t front_size, skipped;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(wanted, i), "sy#n", &name, &front, &front_size, &skipped))
            return -1;
        if (front_size > FRONT_BYTES || skipped < 0) {
            PyErr_SetString(PyExc_ValueError, "a header's front is too long, or less than nothing is skipped");
            return -1;
        }
        IdHeader *header = &self->id_headers[i];
        header->name = strdup(name);
        if (!header->name)
            return PyErr_NoMemory(), -1;
        memcpy(header->front, front, (size_t)front_size);
        header->front_size = (size_t)front_size;
        header->skipped = (size_t)skipped;
        self->id_headers_count++;
    }
    return 0;
}

static PyObject *consumer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"library", "topic", "config", "id_headers", NULL};
    const char *library, *topic;
    PyObject *config, *id_headers = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ssO!|O!", names, &library, &topic, &PyDict_Type, &config,
                                     &PyTuple_Type, &id_headers))
        return NULL;
    if (load_api(library) < 0)
        return NULL;
    Consumer *self = (Consumer *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->topic = strdup(topic);
    if (self->topic && (!id_headers || know_id_headers(self, id_headers) == 0) && start_client(self, config) == 0)
        return (PyObject *)self;
    if (!self->topic)
        PyErr_NoMemory();
    Py_DECREF(self);
    return NULL;
}

static void close_client(Consumer *self) {
    rd_kafka_t *client = self->client;
    rd_kafka_queue_t *queue = self->queue;
    self->client = NULL;
    self->queue = NULL;
    if (!client)
        return;
    Py_BEGIN_ALLOW_THREADS
    api.rd_kafka_consumer_close(client);
    if (queue)
        api.rd_kafka_queue_destroy(queue);
    api.rd_kafka_destroy(client);
    Py_END_ALLOW_THREADS
}

static void consumer_dealloc(PyObject *object) {
    Consumer *self = (Consumer *)object;
    close_client(self);
    for (int i = 0; i < self->id_headers_count; i++)
        free(self->id_headers[i].name);
    free(self->topic);
    free(self->partitions);
    Py_TYPE(object)->tp_free(object);
}

static int check_open(Consumer *self) {
    if (self->client && !self->busy)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, self->busy ? "the consumer is in use" : "the consumer is closed");
    return -1;
}

static PyObject *consumer_close(PyObject *object, PyObject *unused) {
    (void)unused;
    Consumer *self = (Consumer *)object;
    if (self->busy)
        return check_open(self), NULL;
    close_client(self);
    Py_RETURN_NONE;
}

static int know_partition(PyObject *item, Partition *partition) {
    long long next, end;
    int number, epoch;
    if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "iLLi", &number, &next, &end, &epoch)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a partition is a tuple");
        return -1;
    }
    *partition = (Partition){.number = number, .epoch = epoch, .next = next, .end = end};
    return 0;
}

static int know_partitions(Consumer *self, PyObject *wanted) {
    PyObject *items = PySequence_Fast(wanted, "partitions are a sequence");
    if (!items)
        return -1;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    Partition *partitions = calloc((size_t)count + 1, sizeof(Partition));
    int failed = partitions == NULL || count > INT32_MAX;
    if (failed)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; !failed && i < count; i++)
        failed = know_partition(PySequence_Fast_GET_ITEM(items, i), &partitions[i]) < 0;
    Py_DECREF(items);
    if (failed) {
        free(partitions);
        return -1;
    }
    free(self->partitions);
    self->partitions = partitions;
    self->partitions_count = (int)count;
    self->current = 0;
    return 0;
}

/* The assigned partitions as the library's list: all of them, or those to be paused. */
static rd_kafka_topic_partition_list_t *partition_list(const Consumer *self, int to_pause) {
    rd_kafka_topic_partition_list_t *list = api.rd_kafka_topic_partition_list_new(self->partitions_count);
    for (int i = 0; i < self->partitions_count; i++) {
        const Partition *partition = &self->partitions[i];
        if (to_pause && (!partition->done || partition->paused))
            continue;
        rd_kafka_topic_partition_t *added = api.rd_kafka_topic_partition_list_add(list, self->topic, partition->number);
        added->offset = partition->next;
        if (partition->epoch >= 0)
            api.rd_kafka_topic_partition_set_leader_epoch(added, partition->epoch);
    }
    return list;
}

static int call_with(Consumer *self, rd_kafka_topic_partition_list_t *list,
                     int (*call)(rd_kafka_t *, rd_kafka_topic_partition_list_t *)) {
    int error;
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    error = call(self->client, list);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    if (error)
        PyErr_SetString(PyExc_RuntimeError, api.rd_kafka_err2str(error));
    return error ? -1 : 0;
}

static int assign_list(rd_kafka_t *client, rd_kafka_topic_partition_list_t *list) {
    return api.rd_kafka_assign(client, list);
}

static PyObject *consumer_assign(PyObject *object, PyObject *wanted) {
    Consumer *self = (Consumer *)object;
    if (check_open(self) < 0 || know_partitions(self, wanted) < 0)
        return NULL;
    rd_kafka_topic_partition_list_t *list = partition_list(self, 0);
    int failed = call_with(self, list, assign_list);
    api.rd_kafka_topic_partition_list_destroy(list);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *offsets_of(const rd_kafka_topic_partition_list_t *list) {
    PyObject *offsets = PyDict_New();
    for (int i = 0; offsets && i < list->cnt; i++) {
        PyObject *number = PyLong_FromLong(list->elems[i].partition);
        PyObject *offset = PyLong_FromLongLong(list->elems[i].offset);
        if (!number || !offset || PyDict_SetItem(offsets, number, offset) < 0)
            Py_CLEAR(offsets);
        Py_XDECREF(number);
        Py_XDECREF(offset);
    }
    return offsets;
}

static PyObject *consumer_position(PyObject *object, PyObject *unused) {
    (void)unused;
    Consumer *self = (Consumer *)object;
    if (check_open(self) < 0)
        return NULL;
    rd_kafka_topic_partition_list_t *list = partition_list(self, 0);
    PyObject *offsets = call_with(self, list, api.rd_kafka_position) < 0 ? NULL : offsets_of(list);
    api.rd_kafka_topic_partition_list_destroy(list);
    return offsets;
}

static PyObject *consumer_failures(PyObject *object, PyObject *unused) {
    (void)unused;
    Consumer *self = (Consumer *)object;
    PyObject *list = PyList_New(self->failures_count);
    for (int i = 0; list && i < self->failures_count; i++) {
        const char *reason = self->failures[i].reason;
        PyObject *text = PyUnicode_DecodeUTF8(reason, (Py_ssize_t)strlen(reason), "replace");
        PyObject *pair = text ? Py_BuildValue("iN", self->failures[i].code, text) : NULL;
        if (!pair)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, pair);
    }
    self->failures_count = 0;
    return list;
}

/* ---- reading ---- */

/* Puts the id in front that a header of the message holds, if one does. Headers are kept unparsed until they are asked
 * for, so a message without any costs one look at a length. */
static int add_id(const Consumer *self, Read *read, const rd_kafka_message_t *message) {
    rd_kafka_headers_t *headers;
    if (!self->id_headers_count || !message->payload || api.rd_kafka_message_headers(message, &headers))
        return 0;
    for (int i = 0; i < self->id_headers_count; i++) {
        const IdHeader *wanted = &self->id_headers[i];
        const char *value;
        size_t size;
        if (api.rd_kafka_header_get_last(headers, wanted->name, (const void **)&value, &size) || !value ||
            size < wanted->skipped)
            continue;
        return bytes_append(&read->values, wanted->front, wanted->front_size) |
               bytes_append(&read->values, value + wanted->skipped, size - wanted->skipped);
    }
    return 0;
}

static int add_bytes(Bytes *offsets, Bytes *data, Bytes *valid, int64_t *nulls, const void *from, size_t size) {
    uint8_t is_valid = from != NULL;
    *nulls += !is_valid;
    return bytes_append(data, from, is_valid ? size : 0) | bytes_append_int64(offsets, (int64_t)data->size) |
           bytes_append(valid, &is_valid, 1);
}

/* The partition a message is of; NULL for one that was not assigned. */
static Partition *partition_of(Consumer *self, const rd_kafka_message_t *message) {
    if (self->current < self->partitions_count && self->partitions[self->current].number == message->partition)
        return &self->partitions[self->current];
    for (int i = 0; i < self->partitions_count; i++)
        if (self->partitions[i].number == message->partition) {
            self->current = i;
            return &self->partitions[i];
        }
    return NULL;
}

/* Whether a message lies before its partition's end; what lies behind is for another read. */
static int reach(Consumer *self, const rd_kafka_message_t *message) {
    Partition *partition = partition_of(self, message);
    if (!partition)
        return 0;
    if (message->offset + 1 >= partition->end)
        partition->done = 1;
    if (message->offset >= partition->end)
        return 0;
    partition->touched = 1;
    partition->next = message->offset + 1;
    partition->epoch = api.rd_kafka_message_leader_epoch(message);
    return 1;
}

static int add_message(const Consumer *self, Read *read, const rd_kafka_message_t *message) {
    int type = NO_TIMESTAMP;
    int64_t timestamp = api.rd_kafka_message_timestamp(message, &type);
    uint8_t known = type != NO_TIMESTAMP;
    read->null_timestamps += !known;
    read->rows++;
    if (add_id(self, read, message) < 0)
        return -1;
    return bytes_append_int32(&read->partitions, message->partition) |
           bytes_append_int64(&read->offsets, message->offset) |
           bytes_append_int64(&read->timestamps, known ? timestamp : 0) |
           bytes_append(&read->timestamps_valid, &known, 1) |
           add_bytes(&read->key_offsets, &read->keys, &read->keys_valid, &read->null_keys, message->key,
                     message->key_len) |
           add_bytes(&read->value_offsets, &read->values, &read->values_valid, &read->null_values, message->payload,
                     message->len);
}

static int add_event(Read *read, const rd_kafka_message_t *message) {
    Event event = {message->err, message->partition, message->offset};
    /* The payload of an error is its text. */
    const char *text = message->payload ? message->payload : api.rd_kafka_err2str(message->err);
    return bytes_append(&read->events, &event, sizeof event) | bytes_append(&read->texts, text, strlen(text) + 1);
}

static int take_one(Consumer *self, Read *read, const rd_kafka_message_t *message) {
    if (message->err)
        return add_event(read, message);
    return reach(self, message) ? add_message(self, read, message) : 0;
}

static void take(Consumer *self, Read *read, rd_kafka_message_t **messages, ssize_t count) {
    for (ssize_t i = 0; i < count; i++) {
        if (!read->no_memory && take_one(self, read, messages[i]) < 0)
            read->no_memory = 1;
        api.rd_kafka_message_destroy(messages[i]);
    }
}

/* Reads until there is enough, or nothing more comes; without Python's lock. */
static void gather(Consumer *self, Read *read, int64_t max_rows, int64_t max_bytes, int timeout_ms) {
    rd_kafka_message_t *messages[TAKEN];
    if (bytes_append_int64(&read->key_offsets, 0) < 0 || bytes_append_int64(&read->value_offsets, 0) < 0)
        read->no_memory = 1;
    int wait_ms = timeout_ms;
    while (!read->no_memory && read->rows < max_rows && (int64_t)(read->keys.size + read->values.size) < max_bytes) {
        size_t ready = api.rd_kafka_queue_length(self->queue);
        if (!ready && read->events.size)
            return;
        size_t most = (size_t)(max_rows - read->rows);
        most = most < TAKEN ? most : TAKEN;
        /* One message is waited for; what is there already is taken together. */
        ssize_t count = api.rd_kafka_consume_batch_queue(self->queue, ready ? 0 : wait_ms, messages,
                                                         ready ? (ready < most ? ready : most) : 1);
        take(self, read, messages, count);
        if (count <= 0 && !ready)
            return;
        wait_ms = LINGER_MS;
    }
}

static void clear(Read *read) {
    Bytes *all[] = {&read->partitions, &read->offsets,       &read->timestamps, &read->timestamps_valid,
                    &read->key_offsets, &read->keys,         &read->keys_valid, &read->value_offsets,
                    &read->values,      &read->values_valid, &read->events,     &read->texts};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        bytes_clear(all[i]);
}

/* The columns' buffers in the order of a record batch: of each its validity, or None where nothing is null, then its
 * offsets where it has some, and its values. */
static PyObject *columns(Read *read) {
    PyObject *buffers[] = {
        bytes_release(&read->partitions),
        bytes_release(&read->offsets),
        read->null_timestamps ? bytes_pack_bits(&read->timestamps_valid) : Py_NewRef(Py_None),
        bytes_release(&read->timestamps),
        read->null_keys ? bytes_pack_bits(&read->keys_valid) : Py_NewRef(Py_None),
        bytes_release(&read->key_offsets),
        bytes_release(&read->keys),
        read->null_values ? bytes_pack_bits(&read->values_valid) : Py_NewRef(Py_None),
        bytes_release(&read->value_offsets),
        bytes_release(&read->values),
    };
    const size_t count = sizeof buffers / sizeof *buffers;
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    for (size_t i = 0; i < count; i++) {
        if (!buffers[i])
            Py_CLEAR(tuple);
        if (tuple)
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, buffers[i]);
        else
            Py_XDECREF(buffers[i]);
    }
    return tuple;
}

/* {partition: (next offset, leader epoch, whether it is done)} of those that this read has moved or ended. */
static PyObject *reached(Consumer *self) {
    PyObject *dict = PyDict_New();
    for (int i = 0; dict && i < self->partitions_count; i++) {
        const Partition *partition = &self->partitions[i];
        if (!partition->touched && (!partition->done || partition->paused))
            continue;
        PyObject *number = PyLong_FromLong(partition->number);
        PyObject *place = Py_BuildValue("LiO", (long long)partition->next, (int)partition->epoch,
                                        partition->done ? Py_True : Py_False);
        if (!number || !place || PyDict_SetItem(dict, number, place) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(number);
        Py_XDECREF(place);
    }
    return dict;
}

/* Stops fetching what lies behind the ends. */
static int pause_done(Consumer *self) {
    rd_kafka_topic_partition_list_t *list = partition_list(self, 1);
    int failed = list->cnt ? call_with(self, list, api.rd_kafka_pause_partitions) : 0;
    api.rd_kafka_topic_partition_list_destroy(list);
    for (int i = 0; i < self->partitions_count; i++)
        self->partitions[i].paused = self->partitions[i].done;
    return failed;
}

static PyObject *events(const Read *read) {
    Py_ssize_t count = (Py_ssize_t)(read->events.size / sizeof(Event));
    PyObject *list = PyList_New(count);
    const char *text = (const char *)read->texts.data;
    for (Py_ssize_t i = 0; list && i < count; i++, text += strlen(text) + 1) {
        Event event;
        memcpy(&event, read->events.data + (size_t)i * sizeof event, sizeof event);
        PyObject *words = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
        PyObject *item = words ? Py_BuildValue("iiLN", (int)event.error, (int)event.partition, (long long)event.offset,
                                               words)
                               : NULL;
        if (!item)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static PyObject *consumer_read(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"max_rows", "max_bytes", "timeout_ms", NULL};
    Consumer *self = (Consumer *)object;
    long long max_rows, max_bytes;
    int timeout_ms;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "LLi", names, &max_rows, &max_bytes, &timeout_ms))
        return NULL;
    if (check_open(self) < 0)
        return NULL;
    Read read = {0};
    for (int i = 0; i < self->partitions_count; i++)
        self->partitions[i].touched = 0;
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    gather(self, &read, max_rows, max_bytes, timeout_ms);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    PyObject *result = NULL;
    if (read.no_memory) {
        PyErr_NoMemory();
    } else {
        PyObject *places = reached(self), *others = places && pause_done(self) == 0 ? events(&read) : NULL;
        PyObject *buffers = others ? columns(&read) : NULL;
        if (buffers) {
            result = Py_BuildValue("LNNN", (long long)read.rows, buffers, places, others);
        } else {
            Py_XDECREF(places);
            Py_XDECREF(others);
        }
    }
    clear(&read);
    return result;
}

/* Broker threads wait with signing in until there is a token, and take the newest one. */
static PyObject *consumer_set_token(PyObject *object, PyObject *args) {
    Consumer *self = (Consumer *)object;
    const char *value, *principal;
    const char **extensions = NULL;
    long long expires_ms;
    PyObject *pairs;
    char reason[REASON_BYTES];
    if (!PyArg_ParseTuple(args, "sLsO!", &value, &expires_ms, &principal, &PyTuple_Type, &pairs))
        return NULL;
    if (check_open(self) < 0)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(pairs);
    extensions = calloc((size_t)count + 1, sizeof *extensions);
    if (!extensions)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++)
        if (!(extensions[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(pairs, i)))) {
            free(extensions);
            return NULL;
        }
    int error = api.rd_kafka_oauthbearer_set_token(self->client, value, expires_ms, principal, extensions,
                                                   (size_t)count, reason, sizeof reason);
    free(extensions);
    if (error) {
        PyErr_SetString(PyExc_ValueError, reason);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef consumer_methods[] = {
    {"set_token", consumer_set_token, METH_VARARGS,
     "set_token(token, expires in ms since 1970, principal, (key, value, ...)): what the client signs in with from now"
     " on"},
    {"assign", consumer_assign, METH_O, "assign([(partition, next offset, end offset, leader epoch or -1)])"},
    {"position", consumer_position, METH_NOARGS, "position() -> {partition: next offset}; -1001 for one not known yet"},
    {"read", (PyCFunction)(void (*)(void))consumer_read, METH_VARARGS | METH_KEYWORDS,
     "read(max_rows, max_bytes, timeout_ms) -> (rows, buffers, reached, events)\n\n"
     "Waits for a message or an event, then takes what is there and lies before the ends. `buffers` are those of\n"
     "partition, offset, timestamp (milliseconds), key and value; `reached` is {partition: (next offset, leader epoch,\n"
     "done)}; `events` are (error, partition, offset, text) of what is no message, an end of a partition among them."},
    {"failures", consumer_failures, METH_NOARGS, "failures() -> [(error, text)], the client's own, since the last call"},
    {"close", consumer_close, METH_NOARGS, "close()"},
    {NULL},
};

PyTypeObject ConsumerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mesh_pipelines.native._native.Consumer",
    .tp_basicsize = sizeof(Consumer),
    .tp_dealloc = consumer_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Consumer(library, topic, config, id_headers=()): reads partitions of a topic to columns\n\n"
              "`library` is librdkafka's path. `id_headers` are (name, front, skipped): the first of these headers that a\n"
              "message has goes in front of its value, with `front` in place of its first `skipped` bytes.",
    .tp_methods = consumer_methods,
    .tp_new = consumer_new,
};
