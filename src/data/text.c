#include "data/text.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <jansson.h>

#include "core/log.h"
#include "data/text_impl.h"

enum { FIRST_BUFFER_BYTES = 1 << 18 };

struct source {
    char *path;
    char sha256[HASH_SHA256_HEX];
    int64_t bytes;
};

struct text_reader {
    struct source *sources;
    int n_sources, current;
    struct text_options options;
    struct text_stream *stream; /* of sources[current]; NULL between files */
    int64_t line;               /* in the current file, from 1 */
    int64_t bytes_total;
    _Atomic int64_t bytes_read;
    char *buffer;
    size_t begin, end, capacity; /* buffer[begin..end) is not yet part of a document */
    bool stream_ended;
    json_t *parsed; /* owns the text of the last JSONL document */
};

static status_t add_source(struct text_reader *r, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return status_set(STATUS_IO, "%s: cannot open: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return status_set(STATUS_IO, "%s: is not a regular file", path);
    char *copy = strdup(path);
    if (!copy) return status_set(STATUS_NOMEM, "no memory for the list of text files");
    r->sources[r->n_sources++].path = copy;
    r->bytes_total += info.st_size;
    return STATUS_OK;
}

status_t text_open(struct text_reader **out, const char *const *paths, int n,
                   const struct text_options *o)
{
    *out = NULL;
    struct text_reader *r = calloc(1, sizeof *r);
    if (!r) return status_set(STATUS_NOMEM, "no memory for a text reader");
    if (o) r->options = *o;
    r->sources = calloc(n > 0 ? (size_t)n : 1, sizeof *r->sources);
    r->buffer = malloc(FIRST_BUFFER_BYTES);
    r->capacity = FIRST_BUFFER_BYTES;
    status_t st = STATUS_OK;
    if (!r->sources || !r->buffer)
        st = status_set(STATUS_NOMEM, "no memory for a text reader");
    for (int i = 0; i < n && st == STATUS_OK; i++) st = add_source(r, paths[i]);
    if (st != STATUS_OK) text_close(&r);
    *out = r;
    return st;
}

void text_close(struct text_reader **reader)
{
    struct text_reader *r = *reader;
    if (!r) return;
    text_stream_close(&r->stream, NULL, NULL);
    json_decref(r->parsed);
    for (int i = 0; i < r->n_sources; i++) free(r->sources[i].path);
    free(r->sources);
    free(r->buffer);
    free(r);
    *reader = NULL;
}

/* Move the unread bytes to the front and read more behind them. */
static status_t refill(struct text_reader *r)
{
    if (r->begin > 0) {
        memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
        r->end -= r->begin;
        r->begin = 0;
    }
    if (r->end == r->capacity) {
        const size_t larger = r->capacity * 2;
        char *buffer = realloc(r->buffer, larger);
        if (!buffer)
            return status_set(STATUS_NOMEM, "%s: no memory for a document of %zu bytes",
                              r->sources[r->current].path, larger);
        r->buffer = buffer;
        r->capacity = larger;
    }
    size_t n;
    TRY(text_stream_read(r->stream, r->buffer + r->end, r->capacity - r->end, &n));
    r->end += n;
    r->stream_ended = n == 0;
    return STATUS_OK;
}

/* Where to cut a line that is too long: not inside a character of UTF-8. */
static size_t cut_inside_line(const char *line, size_t bytes)
{
    for (size_t back = 1; back <= 3; back++)
        if (((unsigned char)line[bytes - back] & 0xC0) == 0xC0) return bytes - back;
    return bytes;
}

/* *n = length of the line at buffer[begin + offset], with its line feed; 0 at the end of the
 * file.  A line longer than a document may be has *n > TEXT_MAX_DOCUMENT_BYTES. */
static status_t find_line(struct text_reader *r, size_t offset, size_t *n)
{
    size_t seen = 0;
    for (;;) {
        const char *line = r->buffer + r->begin + offset;
        const size_t available = r->end - r->begin - offset;
        const char *feed = memchr(line + seen, '\n', available - seen);
        if (feed) {
            *n = (size_t)(feed - line) + 1;
            return STATUS_OK;
        }
        seen = available;
        if (r->stream_ended || seen > TEXT_MAX_DOCUMENT_BYTES) {
            *n = seen;
            return STATUS_OK;
        }
        TRY(refill(r));
    }
}

static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n\f\v", line[i]) || !line[i]) return false;
    return true;
}

/* The next document of a plain file: whole lines from buffer[begin] on; none at its end. */
static status_t next_plain(struct text_reader *r, struct text_document *d)
{
    const int64_t limit = r->options.paragraphs_per_document;
    size_t bytes = 0, scanned = 0; /* bytes: up to the last line that belongs to it */
    int64_t paragraphs = 0;
    bool inside = false;
    for (;;) {
        size_t n;
        TRY(find_line(r, scanned, &n));
        if (n == 0) break;
        const char *line = r->buffer + r->begin + scanned;
        const bool blank = limit > 0 && is_blank(line, n);
        if (blank && inside && ++paragraphs == limit) break;
        inside = !blank;
        if (blank && bytes == 0) { /* blank lines in front of a document */
            r->begin += n;
            continue;
        }
        if (scanned + n > TEXT_MAX_DOCUMENT_BYTES && scanned > 0) break;
        if (n > TEXT_MAX_DOCUMENT_BYTES)
            n = cut_inside_line(line, TEXT_MAX_DOCUMENT_BYTES);
        scanned += n;
        if (!blank) bytes = scanned;
    }
    *d = (struct text_document){.text = r->buffer + r->begin, .bytes = bytes};
    r->begin += scanned;
    return STATUS_OK;
}

/* One line for messages: jansson quotes what it found, whatever that is. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F) *text = '?';
}

static status_t parse_line(struct text_reader *r, const char *line, size_t n,
                           struct text_document *d)
{
    const char *path = r->sources[r->current].path;
    json_error_t error;
    json_decref(r->parsed);
    r->parsed = json_loadb(line, n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (!r->parsed) {
        make_printable(error.text);
        return status_set(STATUS_DATA, "%s:%lld: is not JSON: %s", path,
                          (long long)r->line, error.text);
    }
    if (!json_is_object(r->parsed))
        return status_set(STATUS_DATA,
                          "%s:%lld: is not a JSON object with a \"text\" string", path,
                          (long long)r->line);
    const json_t *text = json_object_get(r->parsed, "text");
    if (!json_is_string(text))
        return status_set(STATUS_DATA, "%s:%lld: %s", path, (long long)r->line,
                          text ? "\"text\" is not a string" : "has no \"text\" field");
    *d = (struct text_document){.text = json_string_value(text),
                                .bytes = json_string_length(text)};
    return STATUS_OK;
}

/* The next line of JSONL that holds any text; none at the end of the file. */
static status_t next_jsonl(struct text_reader *r, struct text_document *d)
{
    for (;;) {
        size_t n;
        TRY(find_line(r, 0, &n));
        if (n == 0) return STATUS_OK;
        r->line++;
        if (n > TEXT_MAX_DOCUMENT_BYTES)
            return status_set(STATUS_DATA, "%s:%lld: the line is longer than %d bytes",
                              r->sources[r->current].path, (long long)r->line,
                              TEXT_MAX_DOCUMENT_BYTES);
        const char *line = r->buffer + r->begin;
        r->begin += n;
        if (is_blank(line, n)) continue;
        if (r->options.lines)
            *d = (struct text_document){.text = line, .bytes = n};
        else
            TRY(parse_line(r, line, n, d));
        d->line = r->line;
        if (d->bytes > 0) return STATUS_OK;
    }
}

bool text_is_jsonl(const char *path)
{
    size_t n = strlen(path);
    static const char *const packed[] = {".gz", ".zst", ".zstd"};
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++)
        if (text_name_ends(path, n, packed[i])) {
            n -= strlen(packed[i]);
            break;
        }
    return text_name_ends(path, n, ".jsonl") || text_name_ends(path, n, ".ndjson");
}

status_t text_next(struct text_reader *r, struct text_document *d)
{
    *d = (struct text_document){0};
    while (r->current < r->n_sources) {
        struct source *s = &r->sources[r->current];
        if (!r->stream) {
            TRY(text_stream_open(&r->stream, s->path, &r->bytes_read));
            r->line = 0;
            r->begin = r->end = 0;
            r->stream_ended = false;
        }
        TRY(text_is_jsonl(s->path) ? next_jsonl(r, d) : next_plain(r, d));
        d->path = s->path;
        if (d->bytes > 0) return STATUS_OK;
        text_stream_close(&r->stream, s->sha256, &s->bytes);
        r->current++;
    }
    *d = (struct text_document){0};
    return STATUS_OK;
}

/* A path is any bytes, JSON is UTF-8: what does not fit becomes question marks. */
static json_t *path_to_json(const char *path)
{
    json_t *string = json_string(path);
    if (string) return string;
    char *ascii = strdup(path);
    if (!ascii) return NULL;
    for (char *p = ascii; *p; p++)
        if ((unsigned char)*p >= 0x80) *p = '?';
    string = json_string(ascii);
    free(ascii);
    return string;
}

status_t text_sources(const struct text_reader *r, char **json)
{
    CHECK(r->current == r->n_sources);
    *json = NULL;
    json_t *list = json_array();
    int failed = !list;
    for (int i = 0; i < r->n_sources && !failed; i++) {
        const struct source *s = &r->sources[i];
        json_t *row = json_pack("{s:o?, s:I, s:s}", "path", path_to_json(s->path),
                                "bytes", (json_int_t)s->bytes, "sha256", s->sha256);
        failed = !row || json_array_append_new(list, row) != 0;
    }
    if (!failed) *json = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return *json ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for the sources");
}

int64_t text_bytes_read(const struct text_reader *r)
{
    return atomic_load_explicit(&r->bytes_read, memory_order_relaxed);
}

int64_t text_bytes_total(const struct text_reader *r)
{
    return r->bytes_total;
}
