/* A bare drain of a topic in C: the limit that landing is measured against. Messages are counted and let go.
 *
 *     drain <librdkafka> <topic> <partitions> <messages> <property=value>...
 *
 * It loads the librdkafka of confluent-kafka's wheel at run time, so both drains run the same code and no headers are
 * needed; what it uses of the library is declared here. It ends by the number of messages, since the broker answers
 * a read at a partition's end, from which the client would know it, only after half a second. Prints a line of JSON.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { CONSUMER = 1, BATCH = 10000, WAIT_MS = 10 };

typedef struct {
    int err;
    void *topic;
    int32_t partition;
    void *payload;
    size_t length;
    void *key;
    size_t key_length;
    int64_t offset;
    void *opaque;
} message_t;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void *library;

static void *function(const char *name) {
    void *found = dlsym(library, name);
    if (!found) fail(name, dlerror());
    return found;
}

static double now(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* The process's own high-water mark where the system keeps one: rusage's is at least that of who started it. */
static double peak_mb(void) {
    char line[256];
    long kb = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &kb) == 1) return (double)kb / 1024;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

int main(int count, char **words) {
    if (count < 5) fail(words[0], "librdkafka, topic, partitions and messages are needed");
    library = dlopen(words[1], RTLD_NOW);
    if (!library) fail(words[1], dlerror());
    void *(*conf_new)(void) = function("rd_kafka_conf_new");
    int (*conf_set)(void *, const char *, const char *, char *, size_t) = function("rd_kafka_conf_set");
    void *(*client_new)(int, void *, char *, size_t) = function("rd_kafka_new");
    int (*join)(void *) = function("rd_kafka_poll_set_consumer");
    void *(*list_new)(int) = function("rd_kafka_topic_partition_list_new");
    void *(*list_add)(void *, const char *, int32_t) = function("rd_kafka_topic_partition_list_add");
    int (*set_offset)(void *, const char *, int32_t, int64_t) =
        function("rd_kafka_topic_partition_list_set_offset");
    int (*assign)(void *, void *) = function("rd_kafka_assign");
    void *(*queue_of)(void *) = function("rd_kafka_queue_get_consumer");
    long (*take)(void *, int, message_t **, size_t) = function("rd_kafka_consume_batch_queue");
    void (*let_go)(message_t *) = function("rd_kafka_message_destroy");

    double began = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
    char error[512];
    void *conf = conf_new();
    for (int at = 5; at < count; at++) {
        char *value = strchr(words[at], '=');
        if (!value) fail(words[at], "not property=value");
        *value = 0;
        if (conf_set(conf, words[at], value + 1, error, sizeof error)) fail(words[at], error);
    }
    void *client = client_new(CONSUMER, conf, error, sizeof error);
    if (!client) fail("client", error);
    int partitions = atoi(words[3]);
    void *list = list_new(partitions);
    for (int partition = 0; partition < partitions; partition++) {
        list_add(list, words[2], partition);
        set_offset(list, words[2], partition, 0);
    }
    if (join(client) || assign(client, list)) fail(words[2], "the partitions cannot be assigned");
    void *queue = queue_of(client);

    /* A batch waits to be full, so a long wait would be paid once more at the end of the topic. */
    static message_t *messages[BATCH];
    long long rows = 0, bytes = 0, wanted = atoll(words[4]);
    while (rows < wanted) {
        long taken = take(queue, WAIT_MS, messages, BATCH);
        for (long at = 0; at < taken; at++) {
            message_t *message = messages[at];
            if (message->err) fail(words[2], "the broker answered with an error");
            rows++;
            bytes += (long long)message->length;
            let_go(message);
        }
    }
    double seconds = now(CLOCK_MONOTONIC) - began, cpu = now(CLOCK_PROCESS_CPUTIME_ID) - used;
    printf("{\"rows\": %lld, \"bytes\": %lld, \"seconds\": %f, \"cpu\": %f, \"peak_mb\": %f}\n", rows, bytes, seconds, cpu,
           peak_mb());
    fflush(stdout);
    _Exit(0); /* Closing the client is no part of the limit. */
}
