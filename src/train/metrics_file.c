#include "train/metrics_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <limits.h>

#include "core/file.h"
#include "core/log.h"

/* a line has some 500 bytes: room for millions of records */
static const size_t MAX_FILE_BYTES = (size_t)4 << 30;

enum { NUMBER_BYTES = 32 };

/* JSON has no NaN and no infinity. */
static const char *number(char out[NUMBER_BYTES], double x, int digits)
{
    if (isfinite(x))
        snprintf(out, NUMBER_BYTES, "%.*g", digits, x);
    else
        snprintf(out, NUMBER_BYTES, "null");
    return out;
}

/* ,"stage":"anneal" or nothing; a stage's name needs no escapes (config_stages.c). */
struct stage_field {
    char text[96];
};

static struct stage_field stage_field(const char *stage)
{
    struct stage_field f = {""};
    if (stage) snprintf(f.text, sizeof f.text, ",\"stage\":\"%s\"", stage);
    return f;
}

static size_t checked_length(int n)
{
    CHECK(n > 0 && n < METRICS_LINE_BYTES);
    return (size_t)n;
}

size_t metrics_train_line(char line[METRICS_LINE_BYTES], const struct metrics_record *r)
{
    char loss[NUMBER_BYTES], norm[NUMBER_BYTES], lr[NUMBER_BYTES];
    char seconds[NUMBER_BYTES], tokens[NUMBER_BYTES], flops[NUMBER_BYTES];
    char share[NUMBER_BYTES], loader[NUMBER_BYTES], comm[NUMBER_BYTES];
    char z[NUMBER_BYTES], z_loss[NUMBER_BYTES + 16] = "";
    if (r->z_loss != 0)
        snprintf(z_loss, sizeof z_loss, ",\"z_loss\":%s", number(z, r->z_loss, 17));
    return checked_length(snprintf(
        line, METRICS_LINE_BYTES,
        "{\"kind\":\"train\",\"step\":%" PRId64 "%s,\"tokens\":%" PRId64
        ",\"loss\":%s%s,\"grad_norm\":%s,\"lr\":%s,\"skipped\":%" PRId64
        ",\"machine\":{\"seconds\":%s,\"tokens_per_second\":%s,\"flops_per_second\":%s"
        ",\"gemm_share\":%s,\"loader_wait\":%s,\"comm_wait\":%s,\"memory_bytes\":%" PRId64
        "}}\n",
        r->step, stage_field(r->stage).text, r->tokens, number(loss, r->loss, 17), z_loss,
        number(norm, r->grad_norm, 17), number(lr, r->lr, 17), r->skipped,
        number(seconds, r->seconds, 6), number(tokens, r->tokens_per_second, 6),
        number(flops, r->flops_per_second, 6), number(share, r->gemm_share, 6),
        number(loader, r->loader_wait, 6), number(comm, r->comm_wait, 6),
        r->memory_bytes));
}

size_t metrics_eval_line(char line[METRICS_LINE_BYTES], const struct metrics_eval *e)
{
    char loss[NUMBER_BYTES], perplexity[NUMBER_BYTES];
    return checked_length(
        snprintf(line, METRICS_LINE_BYTES,
                 "{\"kind\":\"eval\",\"step\":%" PRId64
                 "%s,\"loss\":%s,\"perplexity\":%s,\"sequences\":%" PRId64
                 ",\"targets\":%" PRId64 "}\n",
                 e->step, stage_field(e->stage).text, number(loss, e->loss, 17),
                 number(perplexity, e->perplexity, 17), e->sequences, e->targets));
}

size_t metrics_rollback_line(char line[METRICS_LINE_BYTES],
                             const struct metrics_rollback *r)
{
    return checked_length(
        snprintf(line, METRICS_LINE_BYTES,
                 "{\"kind\":\"rollback\",\"step\":%" PRId64 ",\"from_step\":%" PRId64
                 ",\"first_sample\":%" PRId64 ",\"last_sample\":%" PRId64 "}\n",
                 r->step, r->from_step, r->first_sample, r->last_sample));
}

/* The line as a record, of *step; NULL if it is none.  Caller decrefs. */
static json_t *parse_record(const char *line, size_t bytes, int64_t *step)
{
    json_t *root = json_loadb(line, bytes, 0, NULL);
    const json_t *number = json_object_get(root, "step");
    const char *kind = json_string_value(json_object_get(root, "kind"));
    const json_t *loss = json_object_get(root, "loss");
    const bool has_loss = json_is_number(loss) || json_is_null(loss);
    const bool good =
        kind && json_is_integer(number) &&
        (((strcmp(kind, "train") == 0 || strcmp(kind, "eval") == 0) && has_loss) ||
         strcmp(kind, "rollback") == 0);
    if (good) {
        *step = (int64_t)json_integer_value(number);
        return root;
    }
    json_decref(root);
    return NULL;
}

/* The loss in a line; false if it is no record or has none. */
static bool parse_point(const char *line, size_t bytes, struct metrics_point *p)
{
    int64_t step;
    json_t *root = parse_record(line, bytes, &step);
    const json_t *loss = json_object_get(root, "loss");
    const char *kind = json_string_value(json_object_get(root, "kind"));
    const bool good = loss != NULL;
    if (good)
        *p = (struct metrics_point){.step = step,
                                    .loss = json_is_number(loss) ? json_number_value(loss)
                                                                 : (double)NAN,
                                    .validation = strcmp(kind, "eval") == 0};
    json_decref(root);
    return good;
}

/* Step through `text` line by line: the next line starts at *at, its length is returned. */
static size_t next_line(const char *text, size_t bytes, size_t *at, size_t *next)
{
    const char *end = memchr(text + *next, '\n', bytes - *next);
    const size_t length = end ? (size_t)(end - text) - *next : bytes - *next;
    *at = *next;
    *next += length + (end ? 1 : 0);
    return length;
}

status_t metrics_truncate(const char *path, int64_t step, int64_t wanted)
{
    if (!file_exists(path)) return STATUS_OK;
    char *text = NULL;
    size_t bytes = 0, all = 0;
    TRY(file_read(path, MAX_FILE_BYTES, &text, &all));
    bytes = wanted > 0 && (size_t)wanted < all ? (size_t)wanted : all;
    status_t st = STATUS_OK;
    /* one byte more: a last line without its newline gets it back */
    char *kept = malloc(bytes + 1);
    if (!kept) {
        st = status_set(STATUS_NOMEM, "%s: no memory for %zu bytes", path, bytes);
        goto out;
    }
    size_t n_kept = 0, at = 0, next = 0;
    int64_t damaged = 0;
    while (next < bytes) {
        const size_t length = next_line(text, bytes, &at, &next);
        int64_t of;
        json_t *record = parse_record(text + at, length, &of);
        json_decref(record);
        damaged += !record;
        if (!record || of > step) continue;
        memcpy(kept + n_kept, text + at, length);
        kept[n_kept + length] = '\n';
        n_kept += length + 1;
    }
    if (damaged > 0)
        log_warn("%s: dropped %lld line%s that %s", path, (long long)damaged,
                 damaged == 1 ? "" : "s",
                 damaged == 1 ? "is not a record" : "are not records");
    if (n_kept != all) st = file_replace(path, kept, n_kept);
out:
    free(kept);
    free(text);
    return st;
}

status_t metrics_read(struct metrics_series *s, const char *run_dir)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t bytes = 0;
    *s = (struct metrics_series){0};
    file_join(path, sizeof path, run_dir, "metrics.jsonl");
    TRY(file_read(path, MAX_FILE_BYTES, &text, &bytes));
    status_t st = STATUS_OK;
    size_t n_lines = 1, at = 0, next = 0;
    for (size_t i = 0; i < bytes; i++) n_lines += text[i] == '\n';
    s->points = calloc(n_lines, sizeof *s->points);
    if (!s->points) {
        st = status_set(STATUS_NOMEM, "%s: no memory for %zu records", path, n_lines);
        goto out;
    }
    while (next < bytes) {
        const size_t length = next_line(text, bytes, &at, &next);
        if (parse_point(text + at, length, &s->points[s->n])) s->n++;
    }
out:
    free(text);
    return st;
}

void metrics_series_release(struct metrics_series *s)
{
    free(s->points);
    *s = (struct metrics_series){0};
}
