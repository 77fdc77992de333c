/* Token files in the published forms from hostile bytes: refused in one line, or read without a
 * step outside of them.
 *
 * The first byte says which files there are, the second what the source says of them; the rest is
 * the tokens' file and, behind the length that two bytes give, the file beside it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "bytes.h"
#include "fuzz.h"
#include "data/sampler.h"

enum { T = 5, V = 300 };

static char folder[32];

/* What lies in the folder: the tokens, and a file beside them if its name is not NULL. */
static const struct {
    const char *tokens, *beside;
    bool packed;
} forms[] = {{"t.bin", NULL, false},           {"t.npy", NULL, false},
             {"t.npy", "t.csv.gz", true},      {"t.npy", "t.csv.gz", false},
             {"t.bin", "t.idx", false},        {"t.ds", "t.ds.index", false},
             {"t.ds", "t.ds.metadata", false}, {"t.ds", "t.ds.loss", false}};
enum { FORMS = sizeof forms / sizeof *forms };

static const char *path_of(const char *name)
{
    static char path[2][64];
    static int turn;
    char *p = path[turn ^= 1];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void clear(void)
{
    for (int i = 0; i < FORMS; i++) {
        unlink(path_of(forms[i].tokens));
        if (forms[i].beside) unlink(path_of(forms[i].beside));
    }
}

static void remove_all(void)
{
    clear();
    rmdir(folder);
}

static void set_up(void)
{
    if (folder[0]) return;
    snprintf(folder, sizeof folder, "%s/yoke-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) abort();
    atexit(remove_all);
}

static void write_file(const char *name, const uint8_t *data, size_t n, bool packed)
{
    if (packed) {
        gzFile out = gzopen(path_of(name), "wb1");
        if (!out || (n > 0 && gzwrite(out, data, (unsigned)n) == 0) ||
            gzclose(out) != Z_OK)
            abort();
        return;
    }
    FILE *out = fopen(path_of(name), "wb");
    if (!out || fwrite(data, 1, n, out) != n || fclose(out) != 0) abort();
}

static struct token_file_options any_options(uint8_t how)
{
    return (struct token_file_options){
        .format = how & 64 ? (enum token_file_format)(how % TOKEN_FILE_FORMATS)
                           : TOKEN_FILE_AUTO,
        .token_bytes = how & 1   ? 2
                       : how & 2 ? 4
                                 : 0,
        .vocab_size = how & 4 ? V : 0,
        .has_eos = how & 8,
        .has_bos = how & 16,
        .bos_id = 1};
}

static void read_all(const struct data_source *source, bool mask, bool all)
{
    struct sampler *s = NULL;
    const struct sampler_options o = {.sources = source,
                                      .n_sources = 1,
                                      .T = T,
                                      .shuffle = true,
                                      .document_mask = mask,
                                      .check = all ? TOKEN_FILE_CHECK_ALL
                                                   : TOKEN_FILE_CHECK_SEAL,
                                      .vocab_size = V};
    if (sampler_create(&s, &o) != STATUS_OK) {
        fuzz_check_refusal();
        return;
    }
    int32_t rows[4][T];
    struct batch batch = {1, T, rows[0], rows[1], rows[2], rows[3], 0};
    const struct token_file_info *info = token_file_info(sampler_file(s, 0));
    for (int64_t i = 0; i < sampler_total_windows(s) && i < 1000; i++) {
        const status_t st = sampler_fill(s, i, &batch, 0);
        CHECK(st == STATUS_OK || (st == STATUS_DATA && !all));
        for (int t = 0; t < T && st == STATUS_OK; t++)
            CHECK(rows[0][t] >= 0 && rows[0][t] < info->vocab_size && rows[3][t] <= t &&
                  rows[2][t] == t - rows[3][t]);
    }
    for (int64_t d = 0; d < info->n_documents && d < 1000; d++) {
        int64_t first, end;
        token_file_document(sampler_file(s, 0), d, &first, &end);
        CHECK(first >= 0 && first <= end && end <= info->n_tokens);
    }
    sampler_destroy(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin();
    set_up();
    clear();
    struct bytes b = {data, size};
    const uint8_t form = take(&b) % FORMS, how = take(&b);
    size_t n = b.n;
    if (forms[form].beside) {
        n = (size_t)take(&b) << 8 | take(&b);
        if (n > b.n) n = b.n;
        write_file(forms[form].beside, b.data + n, b.n - n, forms[form].packed);
    }
    write_file(forms[form].tokens, b.data, n, false);
    const struct data_source source = {
        .path = how & 32 ? folder : (char *)(uintptr_t)path_of(forms[form].tokens),
        .weight = 1,
        .file = any_options(how)};
    read_all(&source, how & 128, how & 64);
    return 0;
}
