/* Random tokens, and the model of 46.9 million parameters that some benchmarks train on them. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench.h"
#include "core/file.h"
#include "core/rng.h"
#include "data/token_file.h"

const struct bench_tokens bench_model_tokens = {.vocab = 16384, .length = 4096};

static const char model[] =
    "model: {family: llama, layers: 12, hidden: 512, heads: 8, kv_heads: 8, ffn: 1408, "
    "vocab_size: 16384, tied_embeddings: true}\n";

static status_t write_tokens(const char *path, const struct bench_tokens *t)
{
    enum { DOCUMENTS = 16 };
    struct token_writer *w = NULL;
    char hex[HASH_SHA256_HEX];
    const uint64_t key = rng_key(1, "bench", "layouts"), V = (uint64_t)t->vocab - 1;
    int32_t *ids = malloc((size_t)t->length * sizeof *ids);
    if (!ids) return status_set(STATUS_NOMEM, "no memory for tokens");
    hash_sha256("", 0, hex);
    status_t st = token_writer_create(&w, path, t->vocab, 0, hex);
    for (int d = 0; d < DOCUMENTS && st == STATUS_OK; d++) {
        for (int64_t i = 0; i < t->length; i++)
            ids[i] = 1 + (int32_t)(rng_u64(key, (uint64_t)(d * t->length + i)) % V);
        ids[t->length - 1] = 0;
        st = token_writer_document(w, ids, t->length, t->length);
    }
    if (st == STATUS_OK) st = token_writer_commit(w, "[]");
    token_writer_destroy(&w);
    free(ids);
    return st;
}

static status_t make(const char *parent, const struct bench_tokens *t,
                     char folder[PATH_MAX])
{
    char path[PATH_MAX];
    file_join(folder, PATH_MAX, parent, "yoke-bench-XXXXXX");
    if (!mkdtemp(folder)) {
        folder[0] = '\0';
        return status_set(STATUS_IO, "%s: cannot make a folder in it", parent);
    }
    file_join(path, sizeof path, folder, "tokens.h5");
    return write_tokens(path, t);
}

status_t bench_make_folder(struct comm *world, const char *parent,
                           const struct bench_tokens *t, char folder[PATH_MAX])
{
    memset(folder, 0, PATH_MAX);
    const bool root = comm_rank(world) == 0;
    const status_t st = comm_agree(world, root ? make(parent, t, folder) : STATUS_OK);
    comm_broadcast(world, folder, PATH_MAX, 0);
    if (st != STATUS_OK) bench_remove_folder(world, folder);
    return st;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

void bench_remove_folder(struct comm *world, const char *folder)
{
    comm_barrier(world);
    if (comm_rank(world) == 0 && folder[0])
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

status_t bench_model_config(struct config *c, const struct bench_options *o,
                            const char *folder, const char *layout)
{
    char text[4 * PATH_MAX];
    snprintf(
        text, sizeof text,
        "%sdata: {train: %s/tokens.h5, sequence_length: %d, document_mask: false}\n"
        "train: {run_dir: %s/run, steps: 100000, batch_sequences: %d, micro_batch: 1, "
        "threads: %jd}\nparallel: {%s, share_gpu: true}\n",
        model, folder, BENCH_MODEL_TOKENS, folder, BENCH_MODEL_BATCH,
        (intmax_t)o->threads, layout);
    return config_parse(c, "bench", text, strlen(text), o->overrides, o->n_overrides);
}
