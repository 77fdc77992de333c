#include "train/inputs.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"

static int64_t rows_here(const struct inputs_shape *s)
{
    return s->cp_size > 1 ? cp_rows(s->T, s->cp_size, s->cp_rank) : s->T;
}

/* Numbers of a micro-batch: four of a row, or three and its spans. */
static int64_t batch_numbers(const struct inputs_shape *s)
{
    const int64_t of_a_row = s->cp_size > 1 ? 3 + 2 * s->cp_size : 4;
    return s->max_B * rows_here(s) * of_a_row;
}

static size_t array_bytes(const struct inputs_shape *s)
{
    return (size_t)batch_numbers(s) * sizeof(int32_t);
}

static bool as_they_lie(const struct device *dev, const struct inputs_shape *s)
{
    return device_is_host(dev) && s->cp_size <= 1 && s->slots <= 1;
}

size_t inputs_host_bytes(const struct device *dev, const struct inputs_shape *shape)
{
    return device_is_host(dev) ? 0 : INPUTS_BUFFERS * array_bytes(shape);
}

static status_t fill_no_targets(struct inputs *i)
{
    const size_t bytes = (size_t)(i->shape.max_B * i->rows) * sizeof *i->no_targets;
    int32_t *host = malloc(bytes);
    if (!host) return status_set(STATUS_NOMEM, "no memory for a micro-batch");
    memset(host, 0xff, bytes); /* -1 */
    device_copy_in(i->device, i->no_targets, host, bytes);
    free(host);
    return STATUS_OK;
}

status_t inputs_init(struct inputs *i, struct arena *arena, struct device *dev,
                     const struct inputs_shape *shape)
{
    *i = (struct inputs){.device = dev, .shape = *shape, .rows = rows_here(shape)};
    const size_t bytes = array_bytes(shape);
    i->sums = arena_alloc(arena, sizeof *i->sums);
    i->no_targets =
        arena_alloc(arena, (size_t)(shape->max_B * i->rows) * sizeof *i->no_targets);
    if (as_they_lie(dev, shape)) return arena->base ? fill_no_targets(i) : STATUS_OK;
    i->arrays = arena_alloc(arena, (size_t)shape->slots * bytes);
    if (!arena->base) return STATUS_OK;
    TRY(fill_no_targets(i));
    if (device_is_host(dev)) return STATUS_OK;
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
        if (i->host[k]) device_free_host(i->device, &i->host[k], array_bytes(&i->shape));
    }
    *i = (struct inputs){0};
}

/* This rank's rows of a batch into one piece of memory; *in = where they are.  Returns how many
 * numbers that are. */
static int64_t pick(const struct inputs *i, int32_t *to, const struct batch *b)
{
    const struct inputs_shape *s = &i->shape;
    const int64_t n = b->B * i->rows;
    const int32_t *const arrays[] = {b->tokens, b->targets, b->positions, b->doc_start};
    if (s->cp_size <= 1) {
        for (int k = 0; k < 4; k++) memcpy(to + k * n, arrays[k], (size_t)n * sizeof *to);
        return 4 * n;
    }
    for (int k = 0; k < 3; k++)
        cp_pick(to + k * n, arrays[k], b->B, b->T, s->cp_size, s->cp_rank);
    cp_spans(to + 3 * n, i->whole_sequences ? NULL : b->doc_start, b->B, b->T, s->cp_size,
             s->cp_rank);
    return (3 + 2 * s->cp_size) * n;
}

/* What `pick` put there. */
static struct model_input picked(const struct inputs *i, const int32_t *arrays, int64_t B)
{
    const int64_t n = B * i->rows;
    struct model_input in = {.B = B,
                             .T = i->rows,
                             .tokens = arrays,
                             .targets = arrays + n,
                             .positions = arrays + 2 * n};
    if (i->shape.cp_size > 1)
        in.spans = arrays + 3 * n;
    else if (!i->whole_sequences)
        in.doc_start = arrays + 3 * n;
    return in;
}

struct model_input inputs_load(struct inputs *i, int slot, const struct batch *b)
{
    CHECK(slot >= 0 && slot < i->shape.slots);
    if (!i->arrays)
        return (struct model_input){.B = b->B,
                                    .T = b->T,
                                    .tokens = b->tokens,
                                    .targets = b->targets,
                                    .positions = b->positions,
                                    .doc_start =
                                        i->whole_sequences ? NULL : b->doc_start};
    int32_t *arrays = i->arrays + slot * batch_numbers(&i->shape);
    if (device_is_host(i->device)) {
        pick(i, arrays, b);
        return picked(i, arrays, b->B);
    }
    const int k = i->next;
    i->next = (k + 1) % INPUTS_BUFFERS;
    device_mark_wait(i->passed[k]);
    const int64_t n = pick(i, i->host[k], b);
    device_queue_copy_in(i->device, DEVICE_COMPUTE, arrays, i->host[k],
                         (size_t)n * sizeof *arrays);
    device_mark_set(i->passed[k], DEVICE_COMPUTE);
    return picked(i, arrays, b->B);
}

struct model_input inputs_blank(const struct inputs *i, const struct model_input *in)
{
    struct model_input blank = *in;
    blank.targets = i->no_targets;
    return blank;
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
    for (int i = 0; i < n; i++) {
        struct token_file_list list;
        if (token_file_list(&list, sources[i].path) == STATUS_OK)
            bytes += token_file_bytes(&list);
        token_file_list_release(&list); /* what is wrong with it, opening will say */
    }
    const bool all = c->verify == CONFIG_VERIFY_ALL ||
                     (c->verify == CONFIG_VERIFY_AUTO && bytes <= SMALL_BYTES);
    return all ? TOKEN_FILE_CHECK_ALL : TOKEN_FILE_CHECK_SEAL;
}
