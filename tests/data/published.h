/* published - makers of small files in the published forms, as their own programs write them. */
#pragma once

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "harness/harness.h"

/* ids[0..n) in documents that end at ends[0..n_documents), the last of them at n. */
struct published {
    const int32_t *ids;
    int64_t n;
    const int64_t *ends;
    int n_documents;
    int width; /* 2 or 4 bytes */
};

static inline FILE *published_create(const char *path, const char *ending)
{
    char name[4200];
    snprintf(name, sizeof name, "%s%s", path, ending);
    FILE *out = fopen(name, "wb");
    if (!out) fail_msg("cannot create %s", name);
    return out;
}

/* The low `bytes` bytes of x. */
static inline void published_number(FILE *out, int64_t x, int bytes)
{
    fwrite(&x, (size_t)bytes, 1, out);
}

static inline void published_ids(FILE *out, const struct published *p)
{
    for (int64_t i = 0; i < p->n; i++) published_number(out, p->ids[i], p->width);
}

static inline void published_raw(const char *path, const struct published *p)
{
    FILE *out = published_create(path, "");
    published_ids(out, p);
    fclose(out);
}

/* OLMo's list of documents: PATH.csv.gz. */
static inline void published_csv(const char *path, const struct published *p)
{
    char name[4200];
    snprintf(name, sizeof name, "%s.csv.gz", path);
    gzFile out = gzopen(name, "wb");
    for (int d = 0; d < p->n_documents; d++)
        gzprintf(out, "%lld,%lld,doc-%d,\"a source\"\n",
                 d ? (long long)p->ends[d - 1] : 0, (long long)p->ends[d], d);
    gzclose(out);
}

static inline void published_npy(const char *path, const struct published *p)
{
    char header[129];
    memset(header, ' ', sizeof header);
    const int n =
        snprintf(header, sizeof header,
                 "{'descr': '<u%d', 'fortran_order': False, 'shape': (%lld,), }",
                 p->width, (long long)p->n);
    header[n] = ' ';
    header[117] = '\n'; /* numpy pads the whole head to a multiple of 64 */
    FILE *out = published_create(path, "");
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, out);
    fwrite(header, 1, 118, out);
    published_ids(out, p);
    fclose(out);
}

static inline void published_llmc(const char *path, const struct published *p)
{
    const int32_t head[3] = {p->width == 2 ? 20240520 : 20240801, p->width == 2 ? 1 : 7,
                             (int32_t)p->n};
    FILE *out = published_create(path, "");
    for (int i = 0; i < 256; i++) published_number(out, i < 3 ? head[i] : 0, 4);
    published_ids(out, p);
    fclose(out);
}

/* PATH.bin and PATH.idx; a document longer than `longest` tokens has several sequences. */
static inline void published_megatron(const char *path, const struct published *p,
                                      int64_t longest)
{
    const size_t most = (size_t)(p->n + p->n_documents);
    int64_t *begins = test_alloc((most + 1) * 8), *documents = test_alloc((most + 1) * 8);
    int64_t S = 0, at = 0;
    for (int d = 0; d < p->n_documents; d++) {
        documents[d] = S;
        do {
            begins[S++] = at;
            at = p->ends[d] - at < longest ? p->ends[d] : at + longest;
        } while (at < p->ends[d]);
    }
    documents[p->n_documents] = S;
    begins[S] = p->n;
    FILE *out = published_create(path, ".bin");
    published_ids(out, p);
    fclose(out);
    out = published_create(path, ".idx");
    fwrite("MMIDIDX\0\0", 1, 9, out);
    published_number(out, 1, 8);
    published_number(out, p->width == 2 ? 8 : 4, 1);
    published_number(out, S, 8);
    published_number(out, p->n_documents + 1, 8);
    for (int64_t i = 0; i < S; i++) published_number(out, begins[i + 1] - begins[i], 4);
    for (int64_t i = 0; i < S; i++) published_number(out, begins[i] * p->width, 8);
    for (int d = 0; d <= p->n_documents; d++) published_number(out, documents[d], 8);
    fclose(out);
}

/* PATH, PATH.index and PATH.metadata; the last two if `described`. */
static inline void published_datatrove(const char *path, const struct published *p,
                                       bool described)
{
    published_raw(path, p);
    if (!described) return;
    FILE *out = published_create(path, ".index");
    for (int d = 0; d < p->n_documents; d++) published_number(out, p->ends[d], 8);
    fclose(out);
    out = published_create(path, ".metadata");
    fprintf(out, "my/tokenizer|%d\n%lld\n%lld T", p->width, (long long)p->n,
            (long long)p->n);
    fclose(out);
}

/* The part [begin, end) of p, cut through documents if need be. */
static inline struct published published_part(const struct published *p, int64_t begin,
                                              int64_t end)
{
    int64_t *ends = test_alloc((size_t)(p->n_documents + 1) * sizeof *ends);
    struct published part = {
        .ids = p->ids + begin, .n = end - begin, .ends = ends, .width = p->width};
    for (int d = 0; d < p->n_documents; d++)
        if (p->ends[d] > begin && (d == 0 || p->ends[d - 1] < end))
            ends[part.n_documents++] = (p->ends[d] < end ? p->ends[d] : end) - begin;
    return part;
}
