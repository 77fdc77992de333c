/* Malformed files in the published forms are refused in one line that names file, what was found
 * and what is valid. */
#include <unistd.h>

#include "corpus.h"
#include "core/file.h"
#include "published.h"

enum { V = 300 };

static const char *path;
static struct token_file_options options;

/* Start over: four documents of p in `name`, of which the makers write a file. */
static struct published begin(const char *name, int width)
{
    static int32_t ids[40];
    static const int64_t ends[] = {10, 11, 30, 40};
    for (int i = 0; i < 40; i++) ids[i] = 1 + (i * 7) % (V - 1);
    path = corpus_path(name);
    options = (struct token_file_options){.vocab_size = V};
    return (struct published){ids, 40, ends, 4, width};
}

static void check_refused(const char *words)
{
    struct token_file *f = (struct token_file *)&f;
    ASSERT_REFUSED(token_file_open_with(&f, path, &options), STATUS_DATA, words);
    assert_null(f);
    assert_null(strchr(status_message(), '\n'));
    assert_non_null(strstr(status_message(), test_folder()));
}

/* Write `bytes` of the number x at `offset` (from the end if negative) of PATH + ending. */
static void patch(const char *ending, long offset, int64_t x, int bytes)
{
    char name[4200];
    snprintf(name, sizeof name, "%s%s", path, ending);
    FILE *f = fopen(name, "r+b");
    assert_non_null(f);
    fseek(f, offset, offset < 0 ? SEEK_END : SEEK_SET);
    fwrite(&x, (size_t)bytes, 1, f);
    fclose(f);
}

/* PATH + ending gets this length. */
static void resize(const char *ending, off_t bytes)
{
    char name[4200];
    snprintf(name, sizeof name, "%s%s", path, ending);
    assert_int_equal(truncate(name, bytes), 0);
}

static void replace(const char *ending, const char *text)
{
    char name[4200];
    snprintf(name, sizeof name, "%s%s", path, ending);
    ASSERT_OK(file_replace(name, text, strlen(text)));
}

TEST(malformed_files_of_llmc)
{
    struct published p = begin("a.bin", 2);
    published_llmc(path, &p);
    options.vocab_size = 0;
    patch("", 0, 20240522, 4);
    check_refused("multiple-choice evaluation set");
    patch("", 0, 20240521, 4);
    check_refused("has magic 20240521, valid are 20240520");
    options.format = TOKEN_FILE_LLMC;
    patch("", 0, 7, 4);
    check_refused("has magic 7, valid are 20240520");
    patch("", 0, 20240520, 4);
    patch("", 4, 7, 4);
    check_refused("has version 7, valid with magic 20240520 is 1");
    patch("", 4, 1, 4);
    patch("", 8, 41, 4);
    check_refused("has 80 bytes behind its header, but 41 tokens of uint16 need 82");
    patch("", 8, 0, 4);
    check_refused("has 0 tokens, valid is 1");
    patch("", 8, -40, 4);
    check_refused("has -40 tokens");
    patch("", 8, 40, 4);
    options.token_bytes = 4;
    check_refused("dtype is uint32, but the file has uint16");
    options.token_bytes = 0;
    resize("", 1000);
    check_refused("has 1000 bytes, the header of an llm.c file has 1024");
    resize("", 2);
    check_refused("has 2 bytes");
    resize("", 0);
    check_refused("is empty");
}

TEST(malformed_files_of_numpy)
{
    struct published p = begin("a.npy", 2);
    published_npy(path, &p);
    const long descr = 21, shape = 60; /* of '<u2' and of (40,) in the file */
    patch("", descr + 2, '8', 1);
    check_refused("descr is '<u8'");
    patch("", descr, '>', 1);
    check_refused("descr is '>u8', valid are '<u2', '<u4', '<i4'");
    published_npy(path, &p);
    patch("", shape + 1, '5', 1);
    check_refused("but 50 tokens of uint16 need 100");
    patch("", shape + 2, ' ', 1);
    check_refused("shape is (5 ,), valid is one dimension, (N,)");
    published_npy(path, &p);
    patch("", 6, 9, 1);
    check_refused("has NumPy format version 9, valid is 1 to 3");
    patch("", 6, 1, 1);
    patch("", 8, 9999, 2);
    check_refused("has a header of 9999 bytes");
    published_npy(path, &p);
    resize("", 207);
    check_refused("but 40 tokens of uint16 need 80");
    options.format = TOKEN_FILE_NPY;
    published_raw(path, &p);
    check_refused("format: raw for tokens without a header");
}

TEST(malformed_rows_of_tokens)
{
    struct published p = begin("a.npy", 2);
    published_raw(path, &p);
    check_refused("does not say how wide its tokens are (valid: dtype: uint16");
    options.token_bytes = 2;
    resize("", 79);
    check_refused("has 79 bytes, but 39 tokens");
    published_raw(path, &p);
    options.vocab_size = 70000;
    check_refused("tokens of uint16 with a vocabulary of 70000");
    options = (struct token_file_options){.token_bytes = 4, .vocab_size = V};
    check_refused("token 0 is 524289, ids are below the vocabulary of 300");
    p.width = 4;
    published_raw(path, &p);
    options.token_bytes = 2;
    check_refused("every second uint16 that was looked at is 0");
    options.token_bytes = 4;
    options.has_eos = true;
    options.eos_id = V;
    check_refused("eos is 300, valid are 0 to 299");
    path = corpus_path("a.other");
    published_raw(path, &p);
    options = (struct token_file_options){.vocab_size = V};
    check_refused("nor one that its name or first bytes tell");
}

static void write_csv(const char *text)
{
    char name[4200];
    snprintf(name, sizeof name, "%.*s.csv.gz", (int)strlen(path) - 4, path);
    gzFile out = gzopen(name, "wb");
    gzputs(out, text);
    gzclose(out);
}

TEST(malformed_lists_of_documents)
{
    struct published p = begin("a.npy", 2);
    published_raw(path, &p);
    options.token_bytes = 2;
    write_csv("0,10\n10,x\n");
    check_refused("a.csv.gz:2: \"10,x\" is not \"start,end,...\"");
    write_csv("0,10,a\n11,40,b\n");
    check_refused("a.csv.gz:2: the document spans tokens 11 to 40, valid is from 10");
    write_csv("0,41\n");
    check_refused("a.csv.gz:1: the document spans tokens 0 to 41");
    write_csv("0,10\n10,9\n");
    check_refused("spans tokens 10 to 9");
    write_csv("0,99999999999999999999\n");
    check_refused("is not \"start,end,...\"");
    char cut[4200];
    snprintf(cut, sizeof cut, "%.*s.csv.gz", (int)strlen(path) - 4, path);
    write_csv("0,10,aaaaaaaaaaaaaaaaaaaaaa\n10,40,bbbbbbbbbbbbbbbbbbbbbbbbbbbb\n");
    assert_int_equal(truncate(cut, 30), 0);
    check_refused("a.csv.gz");
}

TEST(malformed_pairs_of_megatron)
{
    struct published p = begin("m", 2);
    const char *name = path;
    published_megatron(name, &p, 100);
    const long lengths = 34, pointers = 34 + 4 * 4, documents = 34 + 12 * 4;
    path = name;
    patch(".idx", 17, 5, 1);
    check_refused("has type code 5, valid are 4 (int32) and 8 (uint16)");
    patch(".idx", 17, 8, 1);
    patch(".idx", 9, 2, 8);
    check_refused("has version 2, valid is 1");
    patch(".idx", 9, 1, 8);
    patch(".idx", 18, INT64_MAX, 8);
    check_refused("names 9223372036854775807 sequences");
    patch(".idx", 18, 4, 8);
    patch(".idx", 26, 1, 8);
    check_refused("1 document indices");
    patch(".idx", 26, 1 << 30, 8);
    check_refused("have no room for them");
    patch(".idx", 26, 5, 8);
    patch(".idx", lengths, -10, 4);
    check_refused("sequence 0 has length -10");
    patch(".idx", lengths, 10, 4);
    patch(".idx", pointers + 8, 22, 8);
    check_refused("begins at byte 22, valid is a length from 0 and byte 20");
    patch(".idx", pointers + 8, 20, 8);
    patch(".idx", documents, 1, 8);
    check_refused("document index 0 is sequence 1, valid is 0 to 0");
    patch(".idx", documents, 0, 8);
    patch(".idx", documents + 16, -1, 8);
    check_refused("document index 2 is sequence 18446744073709551615");
    patch(".idx", documents + 16, 0, 8);
    check_refused("document index 2 is sequence 0, valid is 1 to 4");
    patch(".idx", documents + 16, 2, 8);
    patch(".idx", documents + 32, 3, 8);
    check_refused("document index 4 is sequence 3, valid is 4 to 4");
    patch(".idx", documents + 32, 4, 8);
    resize(".bin", 82);
    check_refused("counts 80 bytes of tokens");
    resize(".bin", 78);
    check_refused("has 78");
    published_megatron(name, &p, 100);
    resize(".idx", 33);
    check_refused("does not begin with MMIDIDX and a header of 34 bytes");
    replace(".idx", "TNTIDX and what follows");
    check_refused("is an index of the old kind (TNTIDX)");
    path = corpus_path("n.ds");
    published_raw(path, &p);
    options.format = TOKEN_FILE_MEGATRON;
    check_refused("is not named .bin");
}

TEST(malformed_files_of_datatrove)
{
    struct published p = begin("a.ds", 2);
    published_datatrove(path, &p, true);
    patch(".index", 8, 5, 8);
    check_refused("document 1 begins at token 10 and ends at 5");
    patch(".index", 8, 11, 8);
    patch(".index", 24, 39, 8);
    check_refused("span tokens 0 to 39, it holds 0 to 40");
    patch(".index", 24, -1, 8);
    check_refused("span tokens 0 to -1");
    resize(".index", 31);
    check_refused("a.ds.index: has 31 bytes, valid is a multiple of 8");
    published_datatrove(path, &p, true);
    replace(".metadata", "my/tokenizer|3\n40\n");
    check_refused("gives a token \"3\" bytes, valid are 2 and 4");
    replace(".metadata", "my/tokenizer|2\nforty\n");
    check_refused("has \"forty\" as number of tokens");
    replace(".metadata", "my/tokenizer|2\n41\n");
    check_refused("but 41 tokens of uint16 need 82");
    replace(".metadata", "my/tokenizer|4\n40\n");
    check_refused("but 40 tokens of uint32 need 160");
    published_datatrove(path, &p, true);
    replace(".loss", "111111111111111111111111111111111111111");
    check_refused("a.ds.loss: has 39 bytes, valid is one for each of 40 tokens");
    replace(".loss", "");
    check_refused("a.ds.loss: is empty");
}

TEST(an_id_beyond_the_vocabulary_is_found_wherever_it_lies)
{
    enum { N = 300000 };
    struct published p = begin("large.npy", 2);
    int32_t *ids = test_alloc(N * sizeof *ids), got[16];
    struct published large = {ids, N, NULL, 0, 2};
    for (int i = 0; i < N; i++) ids[i] = p.ids[i % 40];
    options.token_bytes = 2;
    struct token_file *f = NULL;
    for (int at = 0; at < N; at += N - 1) { /* the ends are in the sample */
        ids[at] = V;
        published_raw(path, &large);
        ids[at] = 1;
        check_refused(at ? "token 299999 is 300" : "token 0 is 300");
    }
    ids[101000] = 65535; /* between two pieces of it */
    published_raw(path, &large);
    ASSERT_OK(token_file_open_with(&f, path, &options));
    ASSERT_REFUSED(token_file_read(f, 100992, 16, got), STATUS_DATA,
                   "token 101000 is 65535, ids are below the vocabulary of 300");
    token_file_close(&f);
    options.check = TOKEN_FILE_CHECK_ALL;
    check_refused("token 101000 is 65535");
}
