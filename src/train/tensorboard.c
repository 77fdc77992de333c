#include "train/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"

enum { RECORD_BYTES = 2048, TAG_BYTES = 64, MAX_SAME_SECOND = 100 };

struct tensorboard {
    char path[PATH_MAX];
    int fd;
};

/* A few hundred bytes a log interval: bit by bit is fast enough, and needs no table. */
uint32_t tensorboard_crc32c(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
    }
    return ~crc;
}

/* Bytes being put together; `n` stays below RECORD_BYTES by TENSORBOARD_MAX_SCALARS. */
struct message {
    unsigned char bytes[RECORD_BYTES];
    size_t n;
};

static void put(struct message *m, const void *data, size_t bytes)
{
    CHECK(bytes <= sizeof m->bytes - m->n);
    memcpy(m->bytes + m->n, data, bytes);
    m->n += bytes;
}

/* `bytes` low bytes of x, least significant first: the order of protobuf and TFRecord */
static void put_fixed(struct message *m, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++) put(m, &(unsigned char){(x >> (8 * i)) & 0xff}, 1);
}

static void put_varint(struct message *m, uint64_t x)
{
    for (; x >= 128; x >>= 7) put(m, &(unsigned char){(x & 127) | 128}, 1);
    put(m, &(unsigned char){x & 127}, 1);
}

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_key(struct message *m, unsigned field, enum wire wire)
{
    put_varint(m, field << 3 | (unsigned)wire);
}

static void put_bytes(struct message *m, unsigned field, const void *data, size_t bytes)
{
    put_key(m, field, WIRE_BYTES);
    put_varint(m, bytes);
    put(m, data, bytes);
}

static void put_double(struct message *m, unsigned field, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_key(m, field, WIRE_64);
    put_fixed(m, bits, 8);
}

static void put_float(struct message *m, unsigned field, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_key(m, field, WIRE_32);
    put_fixed(m, bits, 4);
}

/* An Event with the time of now and one more field. */
static void start_event(struct message *event, int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event->n = 0;
    put_double(event, 1, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    put_key(event, 2, WIRE_VARINT);
    put_varint(event, (uint64_t)step);
}

static uint32_t masked_crc(const void *data, size_t bytes)
{
    const uint32_t crc = tensorboard_crc32c(data, bytes);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static status_t write_record(struct tensorboard *t, const struct message *event)
{
    struct message record = {.n = 0};
    put_fixed(&record, event->n, 8);
    put_fixed(&record, masked_crc(record.bytes, 8), 4);
    put(&record, event->bytes, event->n);
    put_fixed(&record, masked_crc(event->bytes, event->n), 4);
    ssize_t n = 0;
    do n = write(t->fd, record.bytes, record.n);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)record.n) return STATUS_OK;
    return status_set(STATUS_IO, "%s: cannot write: %s", t->path,
                      strerror(n < 0 ? errno : ENOSPC));
}

/* A name nobody has: a run restarted within the second gets a number behind it. */
static status_t create_file(struct tensorboard *t, const char *folder)
{
    char host[256] = "host", name[512];
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < MAX_SAME_SECOND; i++) {
        int n = snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s",
                         (long long)time(NULL), host);
        if (i > 0) snprintf(name + n, sizeof name - (size_t)n, ".%d", i);
        file_join(t->path, sizeof t->path, folder, name);
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (t->fd >= 0) return STATUS_OK;
        if (errno != EEXIST) break;
    }
    return status_set(STATUS_IO, "%s: cannot create: %s", t->path, strerror(errno));
}

static status_t write_header(struct tensorboard *t, int64_t resumed_step)
{
    static const char version[] = "brain.Event:2";
    struct message event, session = {.n = 0};
    start_event(&event, 0);
    put_bytes(&event, 3, version, sizeof version - 1);
    TRY(write_record(t, &event));

    put_key(&session, 1, WIRE_VARINT);
    put_varint(&session, 1);
    start_event(&event, resumed_step > 0 ? resumed_step + 1 : 0);
    put_bytes(&event, 7, session.bytes, session.n);
    return write_record(t, &event);
}

status_t tensorboard_open(struct tensorboard **t, const char *run_dir,
                          int64_t resumed_step)
{
    char folder[PATH_MAX];
    *t = NULL;
    file_join(folder, sizeof folder, run_dir, "tensorboard");
    TRY(file_make_dirs(folder));
    struct tensorboard *made = calloc(1, sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for TensorBoard events");
    made->fd = -1;
    status_t st = create_file(made, folder);
    if (st == STATUS_OK) st = write_header(made, resumed_step);
    if (st != STATUS_OK) {
        tensorboard_close(&made);
        return st;
    }
    *t = made;
    return STATUS_OK;
}

status_t tensorboard_write(struct tensorboard *t, int64_t step,
                           const struct tensorboard_scalar *scalars, int n)
{
    struct message event, summary = {.n = 0};
    CHECK(n >= 1 && n <= TENSORBOARD_MAX_SCALARS);
    for (int i = 0; i < n; i++) {
        struct message value = {.n = 0};
        const size_t length = strlen(scalars[i].tag);
        CHECK(length < TAG_BYTES);
        put_bytes(&value, 1, scalars[i].tag, length);
        put_float(&value, 2, (float)scalars[i].value);
        put_bytes(&summary, 1, value.bytes, value.n);
    }
    start_event(&event, step);
    put_bytes(&event, 5, summary.bytes, summary.n);
    return write_record(t, &event);
}

void tensorboard_close(struct tensorboard **t)
{
    if (!*t) return;
    if ((*t)->fd >= 0) close((*t)->fd);
    free(*t);
    *t = NULL;
}
