/* Documents out of files: plain, JSONL, packed, damaged. */
#include <stdio.h>
#include <unistd.h>
#include <jansson.h>
#include <zlib.h>
#include <zstd.h>

#include "core/file.h"
#include "data/text.h"
#include "harness/harness.h"

static const char *in_folder(const char *name)
{
    char *path = test_alloc(4096);
    file_join(path, 4096, test_folder(), name);
    return path;
}

static const char *put_bytes(const char *name, const void *data, size_t bytes)
{
    const char *path = in_folder(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
    return path;
}

static const char *put(const char *name, const char *text)
{
    return put_bytes(name, text, strlen(text));
}

static size_t gzip(const void *data, size_t bytes, unsigned char *out, size_t capacity)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data,
                  .avail_in = (unsigned)bytes,
                  .next_out = out,
                  .avail_out = (unsigned)capacity};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY),
                     Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return capacity - z.avail_out;
}

/* The documents of a file, each in brackets, or the failure. */
static status_t read_file(const char *path, int64_t paragraphs, char *out, size_t size)
{
    struct text_reader *r;
    const struct text_options o = {.paragraphs_per_document = paragraphs};
    struct text_document d;
    TRY(text_open(&r, &path, 1, &o));
    size_t n = 0;
    status_t st;
    out[0] = '\0';
    while ((st = text_next(r, &d)) == STATUS_OK && d.text) {
        assert_true(d.bytes > 0);
        n += (size_t)snprintf(out + n, size - n, "[%.*s]", (int)d.bytes, d.text);
    }
    text_close(&r);
    return st;
}

static void check_documents(const char *path, int64_t paragraphs, const char *want)
{
    char got[4096];
    ASSERT_OK(read_file(path, paragraphs, got, sizeof got));
    assert_string_equal(got, want);
}

static void check_refused(const char *path, status_t status, const char *words)
{
    char got[4096];
    ASSERT_REFUSED(read_file(path, 0, got, sizeof got), status, words);
    assert_non_null(strstr(status_message(), path));
    assert_null(strchr(status_message(), '\n'));
}

TEST(a_plain_file_is_one_document_byte_for_byte)
{
    check_documents(put("a.txt", " one\r\n\n\n two\t\n \n"), 0,
                    "[ one\r\n\n\n two\t\n \n]");
    check_documents(put("b", "no line feed at the end"), 0, "[no line feed at the end]");
    check_documents(put("c.txt", "\xFF\xFE broken"), 0, "[\xFF\xFE broken]");
    check_documents(put("empty.txt", ""), 0, "");
}

TEST(paragraphs_are_counted_and_blank_lines_between_documents_dropped)
{
    const char *path = put("p.txt", "\n \na1\na2\n\nb\n\t\n\nc\n\n\n\nd\n");
    check_documents(path, 1, "[a1\na2\n][b\n][c\n][d\n]");
    check_documents(path, 2, "[a1\na2\n\nb\n][c\n\n\n\nd\n]");
    check_documents(path, 3, "[a1\na2\n\nb\n\t\n\nc\n][d\n]");
    check_documents(path, 100, "[a1\na2\n\nb\n\t\n\nc\n\n\n\nd\n]");
    check_documents(put("blank.txt", "\n \n\t\n"), 2, "");
    check_documents(put("crlf.txt", "a\r\n\r\nb"), 1, "[a\r\n][b]");
}

TEST(every_line_of_jsonl_is_a_document)
{
    const char *lines =
        "{\"text\": \"one\\n\\u00e9\"}\n\n{\"id\": [1], \"text\": \"\"}\r\n"
        "{\"text\": \"tw\\\"o\", \"x\": {\"text\": \"no\"}}";
    check_documents(put("d.jsonl", lines), 0, "[one\n\xC3\xA9][tw\"o]");
    check_documents(put("d.ndjson", lines), 3, "[one\n\xC3\xA9][tw\"o]");
    check_documents(put("d.json", "{\"text\": \"x\"}"), 0, "[{\"text\": \"x\"}]");
}

TEST(a_zero_byte_in_jsonl_is_text)
{
    struct text_reader *r;
    struct text_document d;
    const char *path = put("zero.jsonl", "{\"text\": \"a\\u0000b\"}\n");
    ASSERT_OK(text_open(&r, &path, 1, NULL));
    ASSERT_OK(text_next(r, &d));
    assert_int_equal(d.bytes, 3);
    assert_memory_equal(d.text, "a\0b", 3);
    text_close(&r);
}

TEST(packed_files_read_like_plain_ones)
{
    unsigned char packed[4096];
    size_t n = gzip("one\n", 4, packed, sizeof packed);
    n += gzip("", 0, packed + n, sizeof packed - n);
    n += gzip("two\n", 4, packed + n, sizeof packed - n); /* members follow one another */
    check_documents(put_bytes("g.txt.gz", packed, n), 0, "[one\ntwo\n]");
    n = gzip("{\"text\": \"x\"}\n", 14, packed, sizeof packed);
    check_documents(put_bytes("g.jsonl.gz", packed, n), 0, "[x]");

    n = ZSTD_compress(packed, sizeof packed, "one\n", 4, 3);
    n += ZSTD_compress(packed + n, sizeof packed - n, "two\n", 4, 3);
    check_documents(put_bytes("z.md.zst", packed, n), 0, "[one\ntwo\n]");
    n = ZSTD_compress(packed, sizeof packed, "{\"text\": \"x\"}\n", 14, 3);
    check_documents(put_bytes("z.jsonl.zst", packed, n), 0, "[x]");
    check_documents(put_bytes("z.ndjson.zstd", packed, n), 0, "[x]");
}

TEST(damaged_gzip_is_refused)
{
    unsigned char packed[4096];
    char text[2000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i * i % 23);
    const size_t n = gzip(text, sizeof text, packed, sizeof packed);
    for (size_t cut = 1; cut < n; cut += 7)
        check_refused(put_bytes("cut.txt.gz", packed, cut), STATUS_DATA, "cut off");
    packed[n - 5] ^= 1; /* its check sum */
    check_refused(put_bytes("flip.txt.gz", packed, n), STATUS_DATA, "damaged gzip");
    check_refused(put("not.txt.gz", "plain text"), STATUS_DATA, "damaged gzip");
    check_refused(put("nothing.gz", ""), STATUS_DATA, "empty");
}

TEST(damaged_zstd_is_refused)
{
    unsigned char packed[4096];
    char text[2000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i * i % 23);
    const size_t n = ZSTD_compress(packed, sizeof packed, text, sizeof text, 3);
    for (size_t cut = 1; cut < n; cut += 7)
        check_refused(put_bytes("cut.txt.zst", packed, cut), STATUS_DATA, "cut off");
    packed[1] ^= 1;
    check_refused(put_bytes("flip.txt.zst", packed, n), STATUS_DATA, "damaged zstd");
    check_refused(put("not.txt.zst", "plain text"), STATUS_DATA, "damaged zstd");
}

TEST(bad_jsonl_is_refused_with_its_line)
{
    static const char *const lines[][2] = {{"{\"text\": \"a\"", "not JSON"},
                                           {"text", "not JSON"},
                                           {"[\"text\"]", "object"},
                                           {"7", "object"},
                                           {"{\"body\": \"a\"}", "no \"text\""},
                                           {"{\"text\": 1}", "not a string"},
                                           {"{\"text\": \"\xFF\"}", "not JSON"},
                                           {"{\"text\": \"a\"} x", "not JSON"},
                                           {"{\"text\": \"\\ud800\"}", "not JSON"}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"text\": \"ok\"}\n\n%s\n", lines[i][0]);
        check_refused(put("bad.jsonl", text), STATUS_DATA, "bad.jsonl:3: ");
        assert_non_null(strstr(status_message(), lines[i][1]));
    }
}

TEST(what_is_not_a_file_is_refused_before_any_work)
{
    struct text_reader *r = (struct text_reader *)1;
    const char *paths[] = {put("there.txt", "x"), in_folder("missing.txt")};
    ASSERT_REFUSED(text_open(&r, paths, 2, NULL), STATUS_IO, "missing.txt");
    assert_null(r);
    paths[1] = test_folder();
    ASSERT_REFUSED(text_open(&r, paths, 2, NULL), STATUS_IO, "not a regular file");
}

TEST(sources_are_the_files_as_they_lie_on_disk)
{
    unsigned char packed[256];
    const size_t n = gzip("two", 3, packed, sizeof packed);
    const char *paths[] = {put("one.txt", "one"), put_bytes("two.txt.gz", packed, n)};
    struct text_reader *r;
    struct text_document d;
    char *json, want[HASH_SHA256_HEX];
    ASSERT_OK(text_open(&r, paths, 2, NULL));
    assert_int_equal(text_bytes_total(r), 3 + n);
    do ASSERT_OK(text_next(r, &d));
    while (d.text);
    assert_int_equal(text_bytes_read(r), 3 + n);
    ASSERT_OK(text_sources(r, &json));
    json_t *list = json_loads(json, 0, NULL);
    assert_int_equal(json_array_size(list), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = json_array_get(list, i);
        ASSERT_OK(hash_sha256_file(paths[i], want));
        assert_string_equal(json_string_value(json_object_get(row, "path")), paths[i]);
        assert_string_equal(json_string_value(json_object_get(row, "sha256")), want);
    }
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(list, 1), "bytes")), n);
    json_decref(list);
    free(json);
    text_close(&r);
}

/* A file of 150 MB as zstd is a few kB. */
static const char *put_long(const char *name, const char *unit, size_t times)
{
    char path[4096], buffer[4096];
    file_join(path, sizeof path, test_folder(), name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    ZSTD_CStream *c = ZSTD_createCStream();
    ZSTD_inBuffer in = {unit, strlen(unit), 0};
    for (size_t i = 0; i <= times; i++) {
        size_t left = 0;
        in.pos = 0;
        if (i == times) in.size = 0;
        do {
            ZSTD_outBuffer out = {buffer, sizeof buffer, 0};
            left = ZSTD_compressStream2(c, &out, &in,
                                        i == times ? ZSTD_e_end : ZSTD_e_continue);
            assert_false(ZSTD_isError(left));
            assert_int_equal(fwrite(buffer, 1, out.pos, f), out.pos);
        } while (i == times ? left > 0 : in.pos < in.size);
    }
    ZSTD_freeCStream(c);
    fclose(f);
    return in_folder(name);
}

static void check_pieces(const char *path, const char *unit, size_t total, bool at_lines)
{
    struct text_reader *r;
    struct text_document d;
    const size_t period = strlen(unit);
    size_t at = 0, n = 0;
    ASSERT_OK(text_open(&r, &path, 1, NULL));
    for (;;) {
        ASSERT_OK(text_next(r, &d));
        if (!d.text) break;
        assert_true(d.bytes <= TEXT_MAX_DOCUMENT_BYTES);
        for (size_t i = 0; i < d.bytes; i += 4099)
            assert_int_equal(d.text[i], unit[(at + i) % period]);
        if (at_lines) assert_int_equal(d.text[d.bytes - 1], '\n');
        assert_true(((unsigned char)d.text[0] & 0xC0) != 0x80);
        at += d.bytes;
        n++;
    }
    assert_int_equal(at, total);
    assert_int_equal(n, total / TEXT_MAX_DOCUMENT_BYTES + 1);
    text_close(&r);
}

TEST(longer_plain_text_is_cut_at_line_ends)
{
    const char *unit = "a line of forty-one bytes, this very one\n";
    const size_t times = 150000000 / strlen(unit);
    check_pieces(put_long("lines.txt.zst", unit, times), unit, times * strlen(unit),
                 true);
}

TEST(a_line_longer_than_a_document_is_cut_between_characters)
{
    const char *unit = "漢字と仮名"; /* three bytes each: no multiple of the limit */
    const size_t times = 70000000 / strlen(unit);
    check_pieces(put_long("line.txt.zst", unit, times), unit, times * strlen(unit),
                 false);
}

TEST(a_line_of_jsonl_longer_than_a_document_is_refused)
{
    check_refused(put_long("line.jsonl.zst", "{\"text\": \"aaaaaaaa", 4000000),
                  STATUS_DATA, "line.jsonl.zst:1: the line is longer");
}
