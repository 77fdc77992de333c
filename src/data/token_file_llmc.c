/* The .bin files of llm.c and modded-nanogpt: 256 little-endian int32 {magic, version, number of
 * tokens, 0 ...}, then the tokens, uint16 of GPT-2 or uint32 of Llama 3.  Every document begins
 * with the end-of-text token; a shard may end inside of one, the next goes on with it.
 * Source: llm.c dev/data/data_common.py (write_datafile), dev/data/fineweb.py; modded-nanogpt
 * train_gpt.py (_load_data_shard). */
#include "data/token_file_impl.h"

enum { HEADER_BYTES = 256 * 4 };

static const struct variant {
    uint32_t magic, version;
    int token_bytes;
    int64_t vocab_size, bos_id;
} variants[] = {{20240520, 1, 2, 50257, 50256}, {20240801, 7, 4, 128256, 128000}};

static status_t find_variant(const struct token_file *f, const struct variant **v)
{
    const uint32_t magic = token_u32(f->map.data), version = token_u32(f->map.data + 4);
    if (magic == 20240522)
        return status_set(STATUS_DATA,
                          "%s: is a multiple-choice evaluation set of llm.c (magic "
                          "20240522), not a row of tokens",
                          f->path);
    *v = magic == variants[1].magic ? &variants[1] : &variants[0];
    if (magic != (*v)->magic)
        return status_set(STATUS_DATA,
                          "%s: has magic %u, valid are %u (GPT-2) and %u (Llama 3)",
                          f->path, magic, variants[0].magic, variants[1].magic);
    if (version != (*v)->version)
        return status_set(STATUS_DATA, "%s: has version %u, valid with magic %u is %u",
                          f->path, version, magic, (*v)->version);
    return STATUS_OK;
}

status_t token_file_llmc_open(struct token_file *f, const struct token_file_options *o)
{
    const struct variant *v = NULL;
    TRY(token_map_open(&f->map, f->path));
    if (f->map.bytes < HEADER_BYTES)
        return status_set(STATUS_DATA,
                          "%s: has %zu bytes, the header of an llm.c file has %d",
                          f->path, f->map.bytes, HEADER_BYTES);
    TRY(find_variant(f, &v));
    TRY(token_file_settle(f, o, v->token_bytes, 0));
    if (o->vocab_size == 0) { /* what the magic number stands for */
        f->info.vocab_size = v->vocab_size;
        f->info.vocab_assumed = false;
    }
    if (v->bos_id < f->info.vocab_size) f->info.bos_id = v->bos_id;
    const int32_t n = (int32_t)token_u32(f->map.data + 8);
    if (n < 1)
        return status_set(STATUS_DATA, "%s: has %d tokens, valid is 1 to %d", f->path, n,
                          INT32_MAX);
    return token_file_take_tokens(f, HEADER_BYTES, n);
}
