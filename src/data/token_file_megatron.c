/* The pair NAME.bin, NAME.idx of Megatron-LM and GPT-NeoX.  The .bin is the tokens; the .idx,
 * little-endian: "MMIDIDX\0\0", uint64 version 1, uint8 code of the type (4 int32, 8 uint16),
 * uint64 number of sequences S, uint64 number of document indices D, int32 lengths[S] in tokens,
 * int64 pointers[S] in bytes, int64 documents[D]: the first sequence of each document, then S.
 * What follows (modes of multimodal sets) is not read.  Sequences must lie one behind the other,
 * as the builders write them.
 * Source: Megatron-LM megatron/core/datasets/indexed_dataset.py; gpt-neox
 * megatron/data/indexed_dataset.py (MMapIndexedDataset). */
#include "data/token_file_impl.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 9 + 8 + 1 + 8 + 8 };

static int64_t offset(const struct token_file *f, int64_t i)
{
    const uint64_t sequence = token_u64(f->documents + 8 * i);
    if (sequence >= (uint64_t)f->n_sequences) return f->info.n_tokens;
    return (int64_t)token_u64(f->sequences + 8 * sequence) / f->info.token_bytes;
}

static status_t read_width(const struct token_file *f, const char *path, int *bytes)
{
    const struct token_map *m = &f->index_map;
    if (m->bytes >= 6 && memcmp(m->data, "TNTIDX", 6) == 0)
        return status_set(STATUS_DATA,
                          "%s: is an index of the old kind (TNTIDX), valid is that of "
                          "--dataset-impl mmap (MMIDIDX)",
                          path);
    if (m->bytes < HEADER_BYTES || memcmp(m->data, "MMIDIDX\0\0", 9) != 0)
        return status_set(STATUS_DATA,
                          "%s: does not begin with MMIDIDX and a header of "
                          "%d bytes",
                          path, HEADER_BYTES);
    const uint64_t version = token_u64(m->data + 9);
    if (version != 1)
        return status_set(STATUS_DATA, "%s: has version %llu, valid is 1", path,
                          (unsigned long long)version);
    const int code = m->data[17];
    *bytes = code == 8 ? 2 : 4;
    if (code == 8 || code == 4) return STATUS_OK;
    return status_set(STATUS_DATA,
                      "%s: has type code %d, valid are 4 (int32) and 8 (uint16)", path,
                      code);
}

/* Lengths and pointers agree: every pointer is the sum of the lengths before it. */
static status_t check_sequences(const struct token_file *f, const char *path,
                                const unsigned char *lengths)
{
    uint64_t at = 0;
    for (int64_t i = 0; i < f->n_sequences; i++) {
        const int32_t length = (int32_t)token_u32(lengths + 4 * i);
        const uint64_t pointer = token_u64(f->sequences + 8 * i);
        if (length < 0 || pointer != at)
            return status_set(STATUS_DATA,
                              "%s: sequence %lld has length %d and begins at byte %llu, "
                              "valid is a length from 0 and byte %llu",
                              path, (long long)i, length, (unsigned long long)pointer,
                              (unsigned long long)at);
        at += (uint64_t)length * (uint64_t)f->info.token_bytes;
    }
    if (at == f->map.bytes) return STATUS_OK;
    return status_set(STATUS_DATA, "%s: counts %llu bytes of tokens, %s has %zu", path,
                      (unsigned long long)at, f->path, f->map.bytes);
}

/* 0, ascending, the number of sequences. */
static status_t check_documents(const struct token_file *f, const char *path)
{
    uint64_t before = 0;
    for (int64_t i = 0; i <= f->info.n_documents; i++) {
        const uint64_t x = token_u64(f->documents + 8 * i);
        const uint64_t last = (uint64_t)f->n_sequences;
        const uint64_t low = i == f->info.n_documents ? last : before;
        if (x < low || x > (i == 0 ? 0 : last))
            return status_set(STATUS_DATA,
                              "%s: document index %lld is sequence %llu, valid is %llu "
                              "to %llu",
                              path, (long long)i, (unsigned long long)x,
                              (unsigned long long)low,
                              (unsigned long long)(i == 0 ? 0 : last));
        before = x;
    }
    return STATUS_OK;
}

static status_t read_index(struct token_file *f, const struct token_file_options *o,
                           const char *path)
{
    const struct token_map *m = &f->index_map;
    int bytes = 0;
    TRY(read_width(f, path, &bytes));
    TRY(token_file_settle(f, o, bytes, 0));
    const uint64_t S = token_u64(m->data + 18), D = token_u64(m->data + 26);
    const uint64_t room = m->bytes - HEADER_BYTES;
    if (S > room / 12 || D < 2 || D > (room - 12 * S) / 8)
        return status_set(STATUS_DATA,
                          "%s: names %llu sequences and %llu document indices, its %zu "
                          "bytes have no room for them, or it has no document",
                          path, (unsigned long long)S, (unsigned long long)D, m->bytes);
    const unsigned char *lengths = m->data + HEADER_BYTES;
    f->n_sequences = (int64_t)S;
    f->sequences = lengths + 4 * S;
    f->documents = f->sequences + 8 * S;
    f->info.n_documents = (int64_t)D - 1;
    f->offset = offset;
    TRY(check_sequences(f, path, lengths));
    TRY(check_documents(f, path));
    return token_file_take_tokens(f, 0, -1);
}

status_t token_file_megatron_open(struct token_file *f,
                                  const struct token_file_options *o)
{
    if (!token_file_ends_with(f->path, ".bin"))
        return status_set(STATUS_DATA, "%s: is not named .bin, as Megatron's tokens are",
                          f->path);
    char *index = token_file_companion(f->path, 4, ".idx");
    if (!index) return status_set(STATUS_NOMEM, "%s: no memory to open it", f->path);
    status_t st = token_map_open(&f->map, f->path);
    if (st == STATUS_OK) st = token_map_open(&f->index_map, index);
    token_map_advise(&f->index_map, true);
    if (st == STATUS_OK) st = read_index(f, o, index);
    free(index);
    return st;
}
