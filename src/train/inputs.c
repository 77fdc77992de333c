#include "train/inputs.h"

#include <string.h>
#include <sys/stat.h>

enum { N_ARRAYS = 4 };

static size_t array_bytes(int64_t rows)
{
    return (size_t)rows * sizeof(int32_t);
}

size_t inputs_host_bytes(const struct device *dev, int64_t max_B, int64_t T)
{
    return device_is_host(dev) ? 0 : INPUTS_BUFFERS * N_ARRAYS * array_bytes(max_B * T);
}

status_t inputs_init(struct inputs *i, struct arena *arena, struct device *dev,
                     int64_t max_B, int64_t T)
{
    *i = (struct inputs){.device = dev, .max_rows = max_B * T};
    const size_t bytes = N_ARRAYS * array_bytes(i->max_rows);
    i->sums = arena_alloc(arena, sizeof *i->sums);
    if (device_is_host(dev)) return STATUS_OK;
    i->arrays = arena_alloc(arena, bytes);
    if (!arena->base) return STATUS_OK;
    for (int k = 0; k < INPUTS_BUFFERS; k++) {
        TRY(device_alloc_host(dev, bytes, "a micro-batch", &i->host[k]));
        TRY(device_mark_create(&i->passed[k], dev));
    }
    return STATUS_OK;
}

void inputs_release(struct inputs *i)
{
    for (int k = 0; k < INPUTS_BUFFERS; k++) {
        device_mark_destroy(&i->passed[k]);
        if (i->host[k])
            device_free_host(i->device, &i->host[k], N_ARRAYS * array_bytes(i->max_rows));
    }
    *i = (struct inputs){0};
}

struct model_input inputs_load(struct inputs *i, const struct batch *b)
{
    struct model_input in = {.B = b->B,
                             .T = b->T,
                             .tokens = b->tokens,
                             .targets = b->targets,
                             .positions = b->positions,
                             .doc_start = i->whole_sequences ? NULL : b->doc_start};
    if (device_is_host(i->device)) return in;
    const int64_t rows = b->B * b->T;
    const int k = i->next;
    int32_t *host = i->host[k];
    i->next = (k + 1) % INPUTS_BUFFERS;
    device_mark_wait(i->passed[k]);
    memcpy(host, b->tokens, array_bytes(rows));
    memcpy(host + rows, b->targets, array_bytes(rows));
    memcpy(host + 2 * rows, b->positions, array_bytes(rows));
    memcpy(host + 3 * rows, b->doc_start, array_bytes(rows));
    device_queue_copy_in(i->device, DEVICE_COMPUTE, i->arrays, host,
                         N_ARRAYS * array_bytes(rows));
    device_mark_set(i->passed[k], DEVICE_COMPUTE);
    in.tokens = i->arrays;
    in.targets = i->arrays + rows;
    in.positions = i->arrays + 2 * rows;
    if (in.doc_start) in.doc_start = i->arrays + 3 * rows;
    return in;
}

void inputs_clear_sums(struct inputs *i)
{
    device_zero(i->device, i->sums, sizeof *i->sums);
}

struct input_sums inputs_read_sums(struct inputs *i)
{
    struct input_sums sums;
    device_copy_out(i->device, &sums, i->sums, sizeof sums);
    return sums;
}

enum token_file_check inputs_check(const struct config *c,
                                   const struct data_source *sources, int n)
{
    enum { SMALL_BYTES = 1 << 30 };
    int64_t bytes = 0;
    struct stat info;
    for (int i = 0; i < n; i++)
        if (stat(sources[i].path, &info) == 0) bytes += info.st_size;
    const bool all = c->verify == CONFIG_VERIFY_ALL ||
                     (c->verify == CONFIG_VERIFY_AUTO && bytes <= SMALL_BYTES);
    return all ? TOKEN_FILE_CHECK_ALL : TOKEN_FILE_CHECK_SEAL;
}
