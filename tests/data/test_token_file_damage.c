/* No file makes the reader crash or read wrong numbers: it is refused in one line. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "corpus.h"
#include "core/file.h"
#include "core/h5.h"

static void check_refused(const char *path, enum token_file_check check, status_t status,
                          const char *words)
{
    struct token_file *f = (struct token_file *)&f;
    ASSERT_REFUSED(token_file_open(&f, path, check), status, words);
    assert_null(f);
    assert_null(strchr(status_message(), '\n'));
    assert_non_null(strstr(status_message(), path));
}

static struct corpus small_corpus(const char *name, int64_t vocab_size)
{
    static const int64_t lengths[] = {20, 1, 0, 30};
    const struct corpus c = {.path = corpus_path(name),
                             .key = 1,
                             .vocab_size = vocab_size,
                             .lengths = lengths,
                             .n_documents = 4};
    corpus_write(&c);
    return c;
}

static void write_bytes(const char *path, const char *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

/* ---- files that are not ours ------------------------------------------------------------ */

TEST(what_is_no_token_file_is_refused)
{
    const char *path = corpus_path("other");
    check_refused(path, TOKEN_FILE_CHECK_ALL, STATUS_IO, "other");
    write_bytes(path, "", 0);
    check_refused(path, TOKEN_FILE_CHECK_ALL, STATUS_DATA, "is empty");
    char text[5000];
    memset(text, 'a', sizeof text);
    write_bytes(path, text, sizeof text);
    check_refused(path, TOKEN_FILE_CHECK_ALL, STATUS_DATA, "not a file written by yoke");
    check_refused(test_folder(), TOKEN_FILE_CHECK_ALL, STATUS_DATA,
                  "a folder without token files");
    const char *pipe_path = corpus_path("pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    check_refused(pipe_path, TOKEN_FILE_CHECK_ALL, STATUS_DATA, "regular file");
}

TEST(a_sealed_file_without_hdf5_is_refused)
{
    const char *path = corpus_path("hollow.h5"), *tmp = corpus_path("hollow.h5.tmp");
    char text[5000];
    memset(text, 'a', sizeof text);
    write_bytes(tmp, text, sizeof text);
    ASSERT_OK(h5_seal(path, "tokens", NULL, 0));
    ASSERT_OK(file_commit(path));
    check_refused(path, TOKEN_FILE_CHECK_ALL, STATUS_DATA, "HDF5");
}

/* ---- damage after writing --------------------------------------------------------------- */

TEST(every_truncation_is_refused)
{
    const struct corpus c = small_corpus("whole.h5", 100);
    char *data = NULL;
    size_t bytes = 0;
    ASSERT_OK(file_read(c.path, 1 << 20, &data, &bytes));
    const char *path = corpus_path("truncated.h5");
    write_bytes(path, data, bytes);
    for (size_t n = bytes; n-- > 0;) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        check_refused(path, TOKEN_FILE_CHECK_SEAL, STATUS_DATA, "truncated.h5");
    }
    free(data);
}

TEST(one_flipped_byte_anywhere_is_refused)
{
    for (int wide = 0; wide < 2; wide++) {
        const struct corpus c = small_corpus("flip.h5", wide ? 100000 : 100);
        const int fd = open(c.path, O_RDWR);
        assert_true(fd >= 0);
        struct stat info;
        assert_int_equal(fstat(fd, &info), 0);
        for (off_t at = 0; at < info.st_size; at++) {
            unsigned char byte = 0, flipped = 0;
            assert_int_equal(pread(fd, &byte, 1, at), 1);
            flipped = (unsigned char)(byte ^ (1 << at % 8));
            assert_int_equal(pwrite(fd, &flipped, 1, at), 1);
            check_refused(c.path, TOKEN_FILE_CHECK_ALL, STATUS_DATA, "flip.h5");
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        close(fd);
        struct token_file *f = NULL;
        ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL));
        token_file_close(&f);
    }
}

static void scribble(const char *path, int region, int64_t offset, const void *data,
                     size_t bytes)
{
    struct h5_seal_info info;
    ASSERT_OK(h5_check_seal(path, "tokens", STATUS_DATA, &info));
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, (long)info.regions[region].offset + (long)offset, SEEK_SET);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

TEST(ids_beyond_the_vocabulary_are_seen_in_the_sample)
{
    const uint16_t narrow = 100;
    struct corpus c = small_corpus("ids.h5", 100);
    scribble(c.path, 1, 2 * 50, &narrow, sizeof narrow); /* the last token */
    check_refused(c.path, TOKEN_FILE_CHECK_SEAL, STATUS_DATA, "token 50 is 100, ids");
    const uint32_t wide = UINT32_MAX;
    c = small_corpus("ids.h5", 70000);
    scribble(c.path, 1, 4 * 7, &wide, sizeof wide);
    check_refused(c.path, TOKEN_FILE_CHECK_SEAL, STATUS_DATA, "token 7 is 4294967295");
}

TEST(the_sample_covers_the_ends_and_the_middle_of_a_large_file)
{
    const int64_t n = 1 << 20;
    const uint16_t id = 60000;
    const int64_t inside = (n - 1024) / 63 * 32 + 5; /* of the 33rd of 64 pieces */
    const int64_t places[] = {0, 1023, inside, n - 1024, n - 1};
    for (int i = 0; i < 5; i++) {
        const struct corpus c = corpus_of("large.h5", 2, 1000, n);
        scribble(c.path, 1, 2 * places[i], &id, sizeof id);
        check_refused(c.path, TOKEN_FILE_CHECK_SEAL, STATUS_DATA, "is 60000");
    }
}

TEST(an_id_the_sample_missed_is_refused_when_read)
{
    const struct corpus c = corpus_of("missed.h5", 2, 1000, 1 << 20);
    const int64_t at = 1500; /* between the first two pieces */
    const uint16_t id = 1000;
    scribble(c.path, 1, 2 * at, &id, sizeof id);
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_SEAL));
    int32_t ids[100];
    ASSERT_OK(token_file_read(f, at - 100, 100, ids));
    ASSERT_OK(token_file_read(f, at + 1, 100, ids));
    ASSERT_REFUSED(token_file_read(f, at - 50, 100, ids), STATUS_DATA,
                   "token 1500 is 1000");
    ASSERT_REFUSED(token_file_read(f, at, 1, ids), STATUS_DATA, "token 1500 is 1000");
    token_file_close(&f);
    check_refused(c.path, TOKEN_FILE_CHECK_ALL, STATUS_DATA, "/tokens does not have");
}

/* ---- well sealed, badly built ----------------------------------------------------------- */

/* What is wrong with the file that `forge` builds; zero is a good file. */
struct forgery {
    const char *without;   /* a dataset or attribute that is left out */
    const char *attribute; /* with another value */
    uint64_t value;
    const char *text; /* tokenizer_sha256 */
    hid_t token_type, document_type;
    hsize_t n_tokens;      /* 0: 12 */
    uint64_t documents[4]; /* all 0: 0, 5, 5, 12 */
    hsize_t n_documents;   /* 0: 4 elements */
    uint16_t id;           /* of token 3 */
    bool two_dims, chunked, empty, string_version;
};

static bool wanted(const struct forgery *y, const char *name)
{
    return !y->without || strcmp(y->without, name) != 0;
}

static void forge_dataset(hid_t file, const struct forgery *y, const char *name,
                          hid_t type, hid_t memory_type, hsize_t n, const void *data)
{
    if (!wanted(y, name)) return;
    const bool tokens = strcmp(name, "tokens") == 0;
    const hsize_t dims[2] = {tokens && y->two_dims ? 2 : n, n / 2};
    const hid_t space = tokens && y->empty
                            ? H5Screate(H5S_NULL)
                            : H5Screate_simple(tokens && y->two_dims ? 2 : 1, dims, NULL);
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (tokens && y->chunked) H5Pset_chunk(dcpl, 1, &n);
    const hid_t d = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    assert_true(d >= 0);
    if (!(tokens && y->empty))
        assert_true(H5Dwrite(d, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(d);
    H5Pclose(dcpl);
    H5Sclose(space);
}

static void forge_number(hid_t file, const struct forgery *y, const char *name,
                         uint64_t value)
{
    const bool other = y->attribute && strcmp(y->attribute, name) == 0;
    if (wanted(y, name)) ASSERT_OK(h5_write_u64(file, name, other ? y->value : value));
}

static const char *forge(const struct forgery *y)
{
    const char *path = corpus_path("forged.h5");
    uint16_t ids[16] = {1, 2, 3, y->id, 5, 6, 7, 8, 9, 10, 11, 0};
    uint64_t documents[4] = {0, 5, 5, 12};
    if (y->documents[0] || y->documents[3])
        memcpy(documents, y->documents, sizeof documents);
    const hsize_t n = y->n_tokens ? y->n_tokens : 12;
    const hsize_t n_documents = y->n_documents ? y->n_documents : 4;
    hid_t file = H5I_INVALID_HID;
    ASSERT_OK(h5_create(path, &file));
    forge_dataset(file, y, "tokens", y->token_type ? y->token_type : H5T_STD_U16LE,
                  H5T_NATIVE_UINT16, n, ids);
    forge_dataset(file, y, "documents",
                  y->document_type ? y->document_type : H5T_STD_U64LE, H5T_NATIVE_UINT64,
                  n_documents, documents);
    if (y->string_version)
        ASSERT_OK(h5_write_str(file, "version", "1"));
    else
        forge_number(file, y, "version", 1);
    forge_number(file, y, "vocab_size", 12);
    forge_number(file, y, "eos_id", 0);
    forge_number(file, y, "total_bytes", 99);
    forge_number(file, y, "tokens_xxh3", hash_xxh3(ids, 2 * n));
    forge_number(file, y, "documents_xxh3", hash_xxh3(documents, 8 * n_documents));
    if (wanted(y, "tokenizer_sha256"))
        ASSERT_OK(h5_write_str(file, "tokenizer_sha256", y->text ? y->text : ""));
    if (wanted(y, "sources")) ASSERT_OK(h5_write_str(file, "sources", "[]"));
    assert_true(H5Fclose(file) >= 0);
    ASSERT_OK(h5_seal(path, "tokens", NULL, 0));
    ASSERT_OK(file_commit(path));
    return path;
}

TEST(a_file_built_by_hand_is_read)
{
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open(&f, forge(&(struct forgery){0}), TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->n_tokens, 12);
    assert_int_equal(token_file_info(f)->n_documents, 3);
    assert_int_equal(token_file_info(f)->eos_id, 0);
    token_file_close(&f);
    ASSERT_OK(token_file_open(&f, forge(&(struct forgery){.without = "eos_id"}),
                              TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->eos_id, -1);
    token_file_close(&f);
    ASSERT_OK(token_file_open(
        &f, forge(&(struct forgery){.attribute = "vocab_size", .value = INT32_MAX}),
        TOKEN_FILE_CHECK_ALL));
    token_file_close(&f);
}

TEST(missing_parts_are_named)
{
    static const char *const names[] = {
        "version",          "vocab_size", "total_bytes", "tokens_xxh3", "documents_xxh3",
        "tokenizer_sha256", "sources",    "tokens",      "documents"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_refused(forge(&(struct forgery){.without = names[i]}),
                      TOKEN_FILE_CHECK_SEAL, STATUS_DATA, names[i]);
}

TEST(wrong_numbers_are_named)
{
    static const struct {
        const char *name;
        uint64_t value;
    } wrong[] = {{"version", 0},
                 {"version", 3},
                 {"vocab_size", 0},
                 {"vocab_size", (uint64_t)INT32_MAX + 1},
                 {"vocab_size", UINT64_MAX},
                 {"eos_id", 12},
                 {"eos_id", UINT64_MAX},
                 {"total_bytes", UINT64_MAX}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_refused(
            forge(&(struct forgery){.attribute = wrong[i].name, .value = wrong[i].value}),
            TOKEN_FILE_CHECK_SEAL, STATUS_DATA, wrong[i].name);
    check_refused(forge(&(struct forgery){.attribute = "vocab_size", .value = 11}),
                  TOKEN_FILE_CHECK_SEAL, STATUS_DATA, "token 10 is 11");
}

static void check_forgery(struct forgery y, const char *words)
{
    check_refused(forge(&y), TOKEN_FILE_CHECK_SEAL, STATUS_DATA, words);
}

TEST(wrong_types_and_shapes_are_named)
{
    h5_init();
    const char *integers = "/tokens is not an array of unsigned";
    check_forgery((struct forgery){.token_type = H5T_STD_I16LE}, integers);
    check_forgery((struct forgery){.token_type = H5T_STD_U16BE}, integers);
    check_forgery((struct forgery){.token_type = H5T_STD_U8LE}, "/tokens is uint8");
    check_forgery((struct forgery){.token_type = H5T_IEEE_F32LE}, integers);
    check_forgery((struct forgery){.token_type = H5T_STD_U64LE}, "/tokens is uint64");
    check_forgery((struct forgery){.document_type = H5T_STD_I64LE}, "/documents is not");
    check_forgery((struct forgery){.document_type = H5T_STD_U32LE}, "of 4 bytes");
    check_forgery((struct forgery){.two_dims = true}, "/tokens is empty or not of one");
    check_forgery((struct forgery){.empty = true}, "/tokens is empty or not of one");
    check_forgery((struct forgery){.chunked = true},
                  "/tokens is not stored in one piece");
    check_forgery((struct forgery){.n_documents = 1}, "/documents has 1 elements");
    check_forgery((struct forgery){.string_version = true}, "version");
    check_forgery((struct forgery){.text = "0123"}, "tokenizer_sha256");
    check_forgery((struct forgery){.text = "0123456789abcdef0123456789abcdef0123456789ab"
                                           "cdef0123456789abcdeF"},
                  "tokenizer_sha256");
}

TEST(wrong_contents_are_named)
{
    check_forgery((struct forgery){.id = 12}, "token 3 is 12");
    check_forgery((struct forgery){.documents = {1, 5, 5, 12}}, "span tokens 1 to 12");
    check_forgery((struct forgery){.documents = {0, 5, 5, 11}}, "span tokens 0 to 11");
    check_forgery((struct forgery){.documents = {0, 5, 5, UINT64_MAX}}, "0 to -1");
    check_forgery((struct forgery){.n_tokens = 11}, "0 to 11");
    check_forgery((struct forgery){.documents = {0, 6, 5, 12}},
                  "document 1 begins at token 6 and ends at 5");
    check_forgery((struct forgery){.attribute = "documents_xxh3"},
                  "/documents does not have the hash");
    check_refused(forge(&(struct forgery){.attribute = "tokens_xxh3"}),
                  TOKEN_FILE_CHECK_ALL, STATUS_DATA, "/tokens does not have the hash");
}
