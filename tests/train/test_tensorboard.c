/* The event file: checksums with known answers, and the framing and fields read back by a
 * parser that shares nothing with the writer. */
#include "harness/harness.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "core/file.h"
#include "train/metrics.h"
#include "train/tensorboard.h"

struct event {
    double wall_time;
    int64_t step;
    char version[32];
    bool session_start;
    int n_scalars;
    char tags[8][64];
    float values[8];
};

struct reader {
    const unsigned char *at, *end;
};

static uint64_t fixed(struct reader *r, int bytes)
{
    assert_true(r->end - r->at >= bytes);
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++) x |= (uint64_t)r->at[i] << (8 * i);
    r->at += bytes;
    return x;
}

static uint64_t varint(struct reader *r)
{
    uint64_t x = 0;
    for (int shift = 0;; shift += 7) {
        const uint64_t byte = fixed(r, 1);
        x |= (byte & 127) << shift;
        if (byte < 128) return x;
    }
}

static struct reader part(struct reader *r, uint64_t bytes)
{
    assert_true((uint64_t)(r->end - r->at) >= bytes);
    const struct reader inside = {r->at, r->at + bytes};
    r->at += bytes;
    return inside;
}

static void copy_text(char *out, size_t size, struct reader r)
{
    const size_t n = (size_t)(r.end - r.at);
    assert_true(n < size);
    memcpy(out, r.at, n);
    out[n] = '\0';
}

static void parse_value(struct reader r, struct event *e)
{
    assert_true(e->n_scalars < 8);
    while (r.at < r.end) {
        const uint64_t key = varint(&r);
        if (key == (1 << 3 | 2)) {
            copy_text(e->tags[e->n_scalars], 64, part(&r, varint(&r)));
        } else {
            assert_int_equal(key, 2 << 3 | 5);
            const uint32_t bits = (uint32_t)fixed(&r, 4);
            memcpy(&e->values[e->n_scalars], &bits, 4);
        }
    }
    e->n_scalars++;
}

static void parse_event(struct reader r, struct event *e)
{
    while (r.at < r.end) {
        const uint64_t key = varint(&r);
        if (key == (1 << 3 | 1)) {
            const uint64_t bits = fixed(&r, 8);
            memcpy(&e->wall_time, &bits, 8);
        } else if (key == (2 << 3 | 0)) {
            e->step = (int64_t)varint(&r);
        } else if (key == (3 << 3 | 2)) {
            copy_text(e->version, sizeof e->version, part(&r, varint(&r)));
        } else if (key == (5 << 3 | 2)) {
            struct reader summary = part(&r, varint(&r));
            while (summary.at < summary.end) {
                assert_int_equal(varint(&summary), 1 << 3 | 2);
                parse_value(part(&summary, varint(&summary)), e);
            }
        } else {
            assert_int_equal(key, 7 << 3 | 2);
            struct reader session = part(&r, varint(&r));
            assert_int_equal(varint(&session), 1 << 3 | 0);
            e->session_start = varint(&session) == 1;
        }
    }
}

static uint32_t masked(const void *data, size_t bytes)
{
    const uint32_t crc = tensorboard_crc32c(data, bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

/* The files of RUN/tensorboard; returns how many, and the path of the last by name. */
static int event_files(const char *run, char last[PATH_MAX])
{
    char folder[PATH_MAX], path[PATH_MAX];
    int n = 0;
    last[0] = '\0';
    file_join(folder, sizeof folder, run, "tensorboard");
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        if (strncmp(d->d_name, "events.out.tfevents.", 20) != 0) continue;
        file_join(path, sizeof path, folder, d->d_name);
        if (strcmp(path, last) > 0) memcpy(last, path, sizeof path);
        n++;
    }
    closedir(dir);
    return n;
}

static int read_events(const char *run, struct event *events, int max)
{
    char path[PATH_MAX];
    char *data = NULL;
    size_t bytes = 0;
    int n = 0;
    assert_true(event_files(run, path) > 0);
    ASSERT_OK(file_read(path, 1 << 20, &data, &bytes));
    struct reader r = {(unsigned char *)data, (unsigned char *)data + bytes};
    while (r.at < r.end) {
        const unsigned char *length_at = r.at;
        const uint64_t length = fixed(&r, 8);
        assert_int_equal(fixed(&r, 4), masked(length_at, 8));
        const struct reader body = part(&r, length);
        assert_int_equal(fixed(&r, 4), masked(body.at, length));
        assert_true(n < max);
        events[n] = (struct event){0};
        parse_event(body, &events[n++]);
    }
    free(data);
    return n;
}

static char *run_folder(const char *name)
{
    char *path = test_alloc(PATH_MAX);
    file_join(path, PATH_MAX, test_folder(), name);
    ASSERT_OK(file_make_dirs(path));
    return path;
}

/* RFC 3720, appendix B.4, and the check value of the CRC-32C catalogue entry. */
TEST(crc32c_gives_the_known_answers)
{
    unsigned char block[32];
    assert_int_equal(tensorboard_crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(tensorboard_crc32c("", 0), 0);
    memset(block, 0, sizeof block);
    assert_int_equal(tensorboard_crc32c(block, 32), 0x8a9136aau);
    memset(block, 0xff, sizeof block);
    assert_int_equal(tensorboard_crc32c(block, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++) block[i] = (unsigned char)i;
    assert_int_equal(tensorboard_crc32c(block, 32), 0x46dd794eu);
}

TEST(what_is_written_is_read_back)
{
    char *run = run_folder("back");
    struct tensorboard *t = NULL;
    struct event e[8];
    ASSERT_OK(tensorboard_open(&t, run, 0));
    const struct tensorboard_scalar a[] = {{"train/loss", 4.25}, {"train/lr", 3e-4}};
    const struct tensorboard_scalar b = {"validation/loss", (double)NAN};
    ASSERT_OK(tensorboard_write(t, 7, a, 2));
    ASSERT_OK(tensorboard_write(t, (int64_t)1 << 40, &b, 1));
    tensorboard_close(&t);
    assert_null(t);

    assert_int_equal(read_events(run, e, 8), 4);
    assert_string_equal(e[0].version, "brain.Event:2");
    assert_true(e[1].session_start);
    assert_int_equal(e[1].step, 0);
    assert_int_equal(e[2].step, 7);
    assert_int_equal(e[2].n_scalars, 2);
    assert_string_equal(e[2].tags[0], "train/loss");
    assert_true(e[2].values[0] == 4.25f);
    assert_string_equal(e[2].tags[1], "train/lr");
    assert_true(e[2].values[1] == 3e-4f);
    assert_int_equal(e[3].step, (int64_t)1 << 40);
    assert_true(isnan(e[3].values[0]));
    assert_true(fabs(e[3].wall_time - (double)time(NULL)) < 60);
}

TEST(a_resumed_run_starts_a_session_in_a_file_of_its_own)
{
    char *run = run_folder("resumed");
    char path[PATH_MAX];
    struct tensorboard *t = NULL;
    struct event e[8];
    ASSERT_OK(tensorboard_open(&t, run, 0));
    tensorboard_close(&t);
    ASSERT_OK(tensorboard_open(&t, run, 40));
    tensorboard_close(&t);
    assert_int_equal(event_files(run, path), 2);
    assert_int_equal(read_events(run, e, 8), 2);
    assert_true(e[1].session_start);
    assert_int_equal(e[1].step, 41); /* step 40 is kept, what follows is forgotten */
}

TEST(metrics_go_to_tensorboard_under_their_tags)
{
    char *run = run_folder("tags");
    struct metrics *m = NULL;
    struct event e[8];
    ASSERT_OK(metrics_open(&m, run, 10, 0, 0, true));
    const struct metrics_record r = {
        .step = 5, .loss = 2.5, .grad_norm = 0.5, .lr = 0.125, .tokens_per_second = 1024};
    metrics_train(m, &r);
    const struct metrics_eval v = {.step = 5, .loss = 3.5};
    metrics_validation(m, &v);
    ASSERT_OK(metrics_close(&m));
    static const char *const tags[] = {"train/loss", "train/grad_norm", "train/lr",
                                       "train/tokens_per_second"};
    static const float values[] = {2.5f, 0.5f, 0.125f, 1024.0f};
    assert_int_equal(read_events(run, e, 8), 4);
    assert_int_equal(e[2].n_scalars, 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(e[2].tags[i], tags[i]);
        assert_true(e[2].values[i] == values[i]);
    }
    assert_string_equal(e[3].tags[0], "validation/loss");
    assert_true(e[3].values[0] == 3.5f);
    assert_int_equal(e[3].step, 5);
}

TEST(no_event_file_is_made_when_none_is_wanted)
{
    char *run = run_folder("none");
    char folder[PATH_MAX];
    struct metrics *m = NULL;
    ASSERT_OK(metrics_open(&m, run, 10, 0, 0, false));
    ASSERT_OK(metrics_close(&m));
    file_join(folder, sizeof folder, run, "tensorboard");
    assert_false(file_exists(folder));
}
