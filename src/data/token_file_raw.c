/* Tokens and nothing else: the .npy files of OLMo, which are numpy.memmap's and have no header
 * in spite of the name, and the .bin files of nanoGPT.
 *
 * Where documents end, OLMo's file of the same name with .csv.gz says, one line "start,end,..."
 * a document.  It is read only if the source has neither eos nor bos: it costs memory, 8 bytes a
 * document, and delimiters cost nothing.
 * Source: OLMo-core src/olmo_core/data/utils.py (load_array_slice, write_document_indices,
 * iter_document_indices); nanoGPT data/openwebtext/prepare.py. */
#include "data/token_file_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/file.h"

enum { LINE_BYTES = 65536 };

struct csv {
    gzFile in;
    const char *path;
    int64_t line;
    int64_t n, capacity, *ends; /* of documents so far; ends[0] = 0 */
};

static status_t append(struct csv *c, int64_t end)
{
    if (c->n + 1 >= c->capacity) {
        const int64_t capacity = 2 * c->capacity + 1024;
        int64_t *ends = realloc(c->ends, (size_t)capacity * sizeof *ends);
        if (!ends)
            return status_set(STATUS_NOMEM, "%s: no memory for its documents", c->path);
        c->ends = ends;
        c->capacity = capacity;
    }
    c->ends[0] = 0;
    c->ends[++c->n] = end;
    return STATUS_OK;
}

/* "start,end" and whatever else behind a comma. */
static bool parse_line(const char *text, int64_t *start, int64_t *end)
{
    char *stop;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    *start = strtoll(text, &stop, 10);
    if (*stop != ',' || stop[1] < '0' || stop[1] > '9') return false;
    *end = strtoll(stop + 1, &stop, 10);
    return errno == 0 && (*stop == ',' || *stop == '\n' || *stop == '\r' || *stop == 0);
}

static status_t take_line(struct csv *c, char *text, int64_t n_tokens)
{
    int64_t start = 0, end = 0;
    const int64_t before = c->n > 0 ? c->ends[c->n] : 0;
    text[strcspn(text, "\r\n")] = '\0';
    if (!parse_line(text, &start, &end))
        return status_set(STATUS_DATA, "%s:%lld: \"%.40s\" is not \"start,end,...\"",
                          c->path, (long long)c->line, text);
    if (start != before || end < start || end > n_tokens)
        return status_set(STATUS_DATA,
                          "%s:%lld: the document spans tokens %lld to %lld, valid is "
                          "from %lld to at most %lld",
                          c->path, (long long)c->line, (long long)start, (long long)end,
                          (long long)before, (long long)n_tokens);
    return append(c, end);
}

static status_t read_lines(struct csv *c, int64_t n_tokens)
{
    char *text = malloc(LINE_BYTES);
    status_t st = text ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for a line");
    for (; st == STATUS_OK && gzgets(c->in, text, LINE_BYTES); c->line++) {
        const size_t n = strlen(text);
        if (n == LINE_BYTES - 1 && text[n - 1] != '\n')
            st = status_set(STATUS_DATA, "%s:%lld: the line has more than %d bytes",
                            c->path, (long long)c->line, LINE_BYTES - 2);
        else
            st = take_line(c, text, n_tokens);
    }
    free(text);
    int error = 0;
    const char *words = gzerror(c->in, &error);
    if (st == STATUS_OK && error != Z_OK && error != Z_STREAM_END)
        st = status_set(STATUS_DATA, "%s: cannot unpack: %s", c->path, words);
    /* tokens behind the last end of a document are one more */
    const int64_t last = c->n > 0 ? c->ends[c->n] : 0;
    if (st == STATUS_OK && last < n_tokens) st = append(c, n_tokens);
    return st;
}

static int64_t offset(const struct token_file *f, int64_t i)
{
    return f->owned_documents[i];
}

static status_t read_csv(struct token_file *f, const char *path)
{
    struct csv c = {.in = gzopen(path, "rb"), .path = path, .line = 1};
    if (!c.in) return status_set(STATUS_IO, "%s: cannot open: %s", path, strerror(errno));
    const status_t st = read_lines(&c, f->info.n_tokens);
    gzclose(c.in);
    f->owned_documents = c.ends;
    f->documents = (const unsigned char *)c.ends;
    f->info.n_documents = c.n;
    f->offset = offset;
    return st;
}

status_t token_file_raw_open(struct token_file *f, const struct token_file_options *o)
{
    TRY(token_file_settle(f, o, 0, 0));
    TRY(token_map_open(&f->map, f->path));
    TRY(token_file_take_tokens(f, 0, -1));
    if (o->has_eos || o->has_bos || !token_file_ends_with(f->path, ".npy"))
        return STATUS_OK;
    char *csv = token_file_companion(f->path, 4, ".csv.gz");
    if (!csv) return status_set(STATUS_NOMEM, "%s: no memory to open it", f->path);
    const status_t st = file_exists(csv) ? read_csv(f, csv) : STATUS_OK;
    free(csv);
    return st;
}
