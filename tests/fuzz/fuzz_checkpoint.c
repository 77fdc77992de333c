/* Checkpoints from hostile bytes; the first byte chooses how deep they go.
 *
 *   0   the bytes are model.h5: the reader of the seal
 *   1   the bytes are a packed file: the same
 *   2   the bytes change the tables of a good model.h5, which is then sealed: all checks of ours
 *   3   the same with a packed file
 *
 * Bytes of HDF5's own structures are not changed behind a correct seal, see fuzz_token_file.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "checkpoint/checkpoint_impl.h"
#include "core/file.h"
#include "core/h5.h"
#include "core/hash.h"
#include "fuzz.h"

enum { P = 3, S = 2, K = 4, ELEMENTS = 5 * 4 + 4 + 6 };

static char folder[64], model[96], packed[96];
static float values[ELEMENTS];

/* Three parameters in four pieces in two shards. */
static const struct checkpoint_param good_params[P] = {
    {"embed", 2, {5, 4}}, {"norm", 1, {4, 1}}, {"head", 2, {2, 3}}};
static const struct ckpt_piece good_pieces[K] = {
    {.param = 0, .rows = 3, .cols = 4},
    {.param = 1, .rows = 4, .cols = 1, .offset = 12},
    {.param = 0, .row = 3, .rows = 2, .cols = 4, .shard = 1},
    {.param = 2, .rows = 2, .cols = 3, .shard = 1, .offset = 8}};
static struct ckpt_piece pieces[K]; /* with their hashes */
static struct ckpt_shard shards[S];

static void must(status_t st)
{
    if (st == STATUS_OK) return;
    fprintf(stderr, "%s\n", status_message());
    abort();
}

static void clean_up(void)
{
    char path[PATH_MAX];
    for (int s = 0; s < S; s++) {
        ckpt_shard_path(path, folder, s, 0);
        unlink(path);
    }
    unlink(model);
    unlink(packed);
    rmdir(folder);
}

static void write_shards(void)
{
    for (int s = 0; s < S; s++) {
        struct ckpt_part parts[K];
        char path[PATH_MAX];
        int n = 0, at = s * 16;
        for (int i = 0; i < K; i++) {
            if (good_pieces[i].shard != s) continue;
            parts[n++] =
                (struct ckpt_part){good_pieces[i], {values + at, values, values}};
            at += (int)ckpt_elements(&good_pieces[i]);
        }
        ckpt_shard_path(path, folder, s, 0);
        must(ckpt_shard_write(path, 1, s, parts, n, &shards[s]));
        for (int i = 0; i < n; i++) pieces[2 * s + i] = parts[i].piece;
    }
}

static void set_up(void)
{
    if (folder[0]) return;
    snprintf(folder, sizeof folder, "%s/yoke-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) abort();
    snprintf(model, sizeof model, "%s/model.h5", folder);
    snprintf(packed, sizeof packed, "%s/packed.h5", folder);
    for (int i = 0; i < ELEMENTS; i++) values[i] = (float)i;
    write_shards();
    atexit(clean_up);
}

/* ---- files built from good tables and hostile changes ------------------------------------------ */

static int64_t change_rows(struct bytes *b, int64_t n)
{
    return rarely(b) ? (int64_t)(take(b) % (uint64_t)(n + 1)) : n;
}

static void change_table(struct bytes *b, uint64_t *table, int n)
{
    for (int edits = take(b) % 4; edits > 0; edits--) table[take(b) % n] = take_number(b);
}

static void change_params(struct bytes *b, struct checkpoint_param params[P])
{
    memcpy(params, good_params, sizeof good_params);
    for (int edits = take(b) % 4; edits > 0; edits--) {
        struct checkpoint_param *p = &params[take(b) % P];
        const uint8_t what = take(b);
        if (what < 100)
            p->shape[what % 2] = (int64_t)take_number(b);
        else if (what < 150)
            p->n_dims = take(b) % 4;
        else if (what < 200)
            p->name[what % 8] = (char)take(b);
        else
            memset(p->name, 'x', sizeof p->name);
    }
}

static void write_meta(hid_t file, struct bytes *b)
{
    const struct checkpoint_meta m = {.step = (int64_t)(take_number(b) % INT64_MAX),
                                      .validation_loss = (double)NAN,
                                      .config = "model:\n",
                                      .versions = "{}",
                                      .data = "{}"};
    must(ckpt_meta_write(file, &m));
}

static void build_model(struct bytes *b)
{
    enum { COLUMNS = CKPT_PIECE_COLUMNS, SHARD = CKPT_SHARD_COLUMNS };
    struct checkpoint_param params[P];
    uint64_t index[K * COLUMNS], xxh3[K * CKPT_KINDS], rows[S * SHARD];
    hid_t file = H5I_INVALID_HID;
    change_params(b, params);
    for (int i = 0; i < K; i++) {
        const struct ckpt_piece *p = &pieces[i];
        const int64_t row[COLUMNS] = {p->param, p->row,   p->col,   p->rows,
                                      p->cols,  p->shard, p->offset};
        memcpy(index + i * COLUMNS, row, sizeof row);
        memcpy(xxh3 + i * CKPT_KINDS, p->xxh3, sizeof p->xxh3);
    }
    memcpy(rows, shards, sizeof rows);
    change_table(b, index, K * COLUMNS);
    change_table(b, rows, S * SHARD);
    change_table(b, xxh3, K * CKPT_KINDS);
    must(h5_create(model, &file));
    write_meta(file, b);
    must(h5_write_u64(file, "generation", rarely(b) ? take_number(b) : 0));
    must(ckpt_params_write(file, model, params, change_rows(b, P)));
    must(ckpt_table_write(file, model, "index", H5T_STD_U64LE, change_rows(b, K), COLUMNS,
                          index));
    must(ckpt_table_write(file, model, "index_xxh3", H5T_STD_U64LE, change_rows(b, K),
                          CKPT_KINDS, xxh3));
    must(ckpt_table_write(file, model, "shards", H5T_STD_U64LE, change_rows(b, S), SHARD,
                          rows));
    H5Fclose(file);
    must(h5_seal(model, "model", NULL, 0));
    must(file_commit(model));
}

static void write_tensor(hid_t file, const char *name, struct bytes *b,
                         const struct checkpoint_param *p)
{
    const hsize_t shape[2] = {rarely(b) ? take(b) % 8 + 1u : (hsize_t)p->shape[0],
                              (hsize_t)p->shape[1]};
    const hid_t space = H5Screate_simple(p->n_dims, shape, NULL);
    const hid_t type = rarely(b) ? H5T_IEEE_F64LE : H5T_IEEE_F32LE;
    const hid_t d =
        H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (d >= 0) H5Dclose(d);
    H5Sclose(space);
}

static void build_packed(struct bytes *b)
{
    struct checkpoint_param params[P];
    uint64_t xxh3[P * CKPT_KINDS] = {0};
    hid_t file = H5I_INVALID_HID;
    must(h5_create(packed, &file));
    H5Gclose(H5Gcreate2(file, "optimizer", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    for (int k = 0; k < CKPT_KINDS; k++) {
        const hid_t g =
            H5Gcreate2(file, ckpt_group[k], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        for (int i = 0; i < P && !rarely(b); i++)
            write_tensor(g, good_params[i].name, b, &good_params[i]);
        H5Gclose(g);
    }
    for (int i = 0; i < P; i++) /* they are all zero */
        for (int k = 0; k < CKPT_KINDS; k++) {
            static const float zeros[ELEMENTS];
            xxh3[CKPT_KINDS * i + k] =
                hash_xxh3(zeros, (size_t)checkpoint_param_elements(&good_params[i]) *
                                     sizeof *zeros);
        }
    change_params(b, params);
    change_table(b, xxh3, P * CKPT_KINDS);
    write_meta(file, b);
    must(ckpt_params_write(file, packed, params, change_rows(b, P)));
    must(ckpt_table_write(file, packed, "param_xxh3", H5T_STD_U64LE, change_rows(b, P),
                          CKPT_KINDS, xxh3));
    H5Fclose(file);
    must(h5_seal(packed, "packed", NULL, 0));
    must(file_commit(packed));
}

static void copy(const struct bytes *b, const char *path)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b->data, 1, b->n, f) != b->n || fclose(f) != 0) abort();
}

/* ---- everything that reads a checkpoint ---------------------------------------------------- */

/* Refused, or good; anything else is a finding. */
static bool good(status_t st)
{
    if (st == STATUS_OK) return true;
    if (st != STATUS_CHECKPOINT || strchr(status_message(), '\n')) must(st);
    return false;
}

static void read_all(const char *path)
{
    struct checkpoint_source s;
    if (!good(checkpoint_source_open(&s, path))) return;
    for (int i = 0; i < s.n_params; i++) {
        const int64_t n = checkpoint_param_elements(&s.params[i]);
        CHECK(n >= 1);
        if (n > 1 << 16) continue;
        float *x = malloc((size_t)n * sizeof *x);
        for (int k = 0; k < CKPT_KINDS; k++)
            (void)good(s.read(&s, i, (enum checkpoint_kind)k, x));
        free(x);
    }
    checkpoint_source_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin();
    set_up();
    struct bytes b = {data, size};
    const uint8_t depth = take(&b) % 4;
    if (depth < 2)
        copy(&b, depth == 0 ? model : packed);
    else if (depth == 2)
        build_model(&b);
    else
        build_packed(&b);
    read_all(depth % 2 ? packed : folder);
    struct checkpoint *c = NULL;
    if (depth % 2 == 0 && good(checkpoint_open(&c, folder)))
        (void)good(checkpoint_verify(c, 0, 1));
    checkpoint_close(&c);
    return 0;
}
