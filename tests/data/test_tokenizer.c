/* Text to ids and back.  The ids of Hugging Face `tokenizers` are in fixtures made by
 * scripts/fixtures/make_tokenizer_fixtures.py. */
#include "data/tokenizers.h"

static void check_round_trip(struct tokenizer *t, struct encoder *e, const char *text,
                             size_t bytes)
{
    struct token_list ids = encode(e, text, bytes);
    char *back;
    size_t n;
    ASSERT_OK(tokenizer_decode(t, ids.ids, ids.n, &back, &n));
    assert_int_equal(n, bytes);
    assert_memory_equal(back, text, bytes);
    assert_int_equal(back[n], 0);
    free(back);
    token_list_release(&ids);
}

static void set_case(json_t *root, json_t *x)
{
    json_object_set(root, "pre_tokenizer", json_object_get(x, "pre_tokenizer"));
    json_object_set(root, "added_tokens", json_object_get(x, "added_tokens"));
    json_object_set(json_object_get(root, "model"), "ignore_merges",
                    json_object_get(x, "ignore_merges"));
}

TEST(ids_are_those_of_hugging_face_for_every_pre_tokenizer)
{
    json_t *stored = load_fixture("tokenizer_ids.json");
    json_t *root = load_fixture("tokenizer_small.json");
    json_t *texts = json_object_get(stored, "texts"), *x;
    struct tokenizer *t;
    size_t i;
    json_object_update(json_object_get(json_object_get(root, "model"), "vocab"),
                       json_object_get(stored, "unmerged"));
    json_t *pairs = merge_anything_of(texts);
    assert_true(json_array_size(texts) > 40);
    json_array_foreach(json_object_get(stored, "cases"), i, x)
    {
        const char *name = json_string_value(json_object_get(x, "name"));
        json_t *pair_ids = json_object_get(x, "pair_ids");
        set_case(root, x);
        ASSERT_OK(parse_json(&t, root));
        check_ids(t, texts, json_object_get(x, "ids"), name);
        if (!pair_ids) continue;
        set_case(pairs, x);
        ASSERT_OK(parse_json(&t, pairs));
        check_ids(t, texts, pair_ids, name);
    }
    json_decref(pairs);
    json_decref(root);
    json_decref(stored);
}

TEST(any_bytes_come_back_from_their_ids)
{
    struct tokenizer *t = small_tokenizer();
    struct encoder *e;
    ASSERT_OK(encoder_create(&e, t));
    char all[256];
    for (int i = 0; i < 256; i++) all[i] = (char)i;
    check_round_trip(t, e, all, sizeof all);
    check_round_trip(t, e, "", 0);
    for (uint64_t k = 0; k < 300; k++) {
        char text[200];
        check_round_trip(t, e, text,
                         random_text(k, text, rng_u64(k, 1000) % sizeof text));
        for (size_t i = 0; i < sizeof text; i++) text[i] = (char)rng_u64(k, i);
        check_round_trip(t, e, text, sizeof text);
    }
    encoder_destroy(&e);
    tokenizer_close(&t);
}

/* The rule of the header: such a byte is a piece of its own and ends the text before it. */
TEST(a_byte_that_is_not_utf8_divides_the_text)
{
    static const char *const broken[] = {
        "\x80",         "\xC0",         "\xC1\xBF",         "\xE2\x82",        "\xFF",
        "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80"};
    static const char sample[] =
        "the\x80\xC0\xC1\xBF\xE2\x82\xFF\xE0\xED\xA0\xF0\x8F\xF4\x90";
    json_t *root = merge_anything(sample, sizeof sample - 1);
    struct tokenizer *t;
    struct encoder *e;
    ASSERT_OK(parse_json(&t, root));
    json_decref(root);
    ASSERT_OK(encoder_create(&e, t));
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char text[32];
        const size_t n = (size_t)snprintf(text, sizeof text, "the%sthe", broken[i]);
        struct token_list got = encode(e, text, n), want = encode(e, "the", 3);
        for (const char *b = broken[i]; *b; b++) {
            struct token_list one = encode(e, b, 1);
            assert_int_equal(one.n, 1);
            ASSERT_OK(token_list_append(&want, one.ids, 1));
            token_list_release(&one);
        }
        struct token_list last = encode(e, "the", 3);
        ASSERT_OK(token_list_append(&want, last.ids, last.n));
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.ids, want.ids, (size_t)got.n * sizeof *got.ids);
        token_list_release(&got);
        token_list_release(&want);
        token_list_release(&last);
    }
    encoder_destroy(&e);
    tokenizer_close(&t);
}

/* Ids without a gap, those of added tokens behind those of the vocabulary. */
static void renumber(json_t *root)
{
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    json_t *added = json_deep_copy(json_object_get(root, "added_tokens")), *x;
    size_t i, n = 0;
    const char *name;
    json_object_foreach(vocab, name, x) json_integer_set(x, (json_int_t)n++);
    json_array_foreach(added, i, x)
    {
        const char *content = json_string_value(json_object_get(x, "content"));
        json_t *known = json_object_get(vocab, content);
        const json_int_t id = known ? json_integer_value(known) : (json_int_t)n++;
        json_object_set_new(x, "id", json_integer(id));
    }
    json_object_set_new(root, "added_tokens", added);
}

TEST(text_cut_where_tokenizer_cut_says_has_the_same_ids)
{
    char sample[4000];
    json_t *root = merge_anything(sample, random_text(77, sample, sizeof sample));
    json_t *stored = load_fixture("tokenizer_ids.json"), *x;
    int64_t n_cuts = 0, n_unsafe = 0;
    size_t i;
    json_array_foreach(json_object_get(stored, "cases"), i, x)
    {
        struct tokenizer *t;
        struct encoder *e;
        set_case(root, x);
        renumber(root);
        ASSERT_OK(parse_json(&t, root));
        ASSERT_OK(encoder_create(&e, t));
        for (uint64_t k = 0; k < 150; k++) {
            char text[120];
            const size_t bytes = random_text(k, text, sizeof text);
            struct token_list whole = encode(e, text, bytes);
            for (size_t at = 1; at < bytes; at++) {
                const bool safe = is_safe(e, text, bytes, at, &whole);
                n_unsafe += !safe;
                if (tokenizer_cut(t, text, bytes, at) != at) continue;
                if (!safe)
                    fail_msg("%s: cut at %zu of %s",
                             json_string_value(json_object_get(x, "name")), at, text);
                n_cuts++;
            }
            token_list_release(&whole);
        }
        encoder_destroy(&e);
        tokenizer_close(&t);
    }
    assert_true(n_cuts > 1000);
    assert_true(n_unsafe > 10000); /* the ids do show where the text is divided */
    json_decref(root);
    json_decref(stored);
}

TEST(text_is_not_cut_where_a_pattern_or_an_added_token_may_reach_across)
{
    struct tokenizer *t;
    json_t *root = load_fixture("tokenizer_small.json");
    json_array_append_new(
        json_object_get(root, "added_tokens"),
        json_pack("{s:i, s:s, s:b}", "id", 1000, "content", "two words", "special", 1));
    ASSERT_OK(parse_json(&t, root));
    assert_int_equal(tokenizer_cut(t, "a b c d", 7, 1), 7);
    tokenizer_close(&t);
    json_decref(root);

    root = load_fixture("tokenizer_small.json");
    json_object_set_new(root, "pre_tokenizer",
                        json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b}]}",
                                  "type", "Sequence", "pretokenizers", "type", "Split",
                                  "pattern", "Regex", "[a-z]+ [a-z]+", "behavior",
                                  "Isolated", "invert", 0, "type", "ByteLevel",
                                  "use_regex", 0));
    ASSERT_OK(parse_json(&t, root));
    assert_int_equal(tokenizer_cut(t, "a b c d", 7, 1), 7);
    tokenizer_close(&t);
    json_decref(root);
}

/* The reference: look for the pair of lowest rank in the whole piece, again and again.  Names
 * are looked up in the file, so nothing of the tokenizer's own tables is trusted. */
static void merge_slowly(json_t *root, struct tokenizer *t, struct token_list *ids)
{
    json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    for (;;) {
        for (size_t rank = 0;; rank++) {
            if (rank == json_array_size(merges)) return;
            json_t *m = json_array_get(merges, rank);
            const char *a = json_string_value(json_array_get(m, 0));
            const char *b = json_string_value(json_array_get(m, 1));
            char both[256];
            snprintf(both, sizeof both, "%s%s", a, b);
            int64_t i = 0;
            while (i + 1 < ids->n && !(ids->ids[i] == tokenizer_id(t, a) &&
                                       ids->ids[i + 1] == tokenizer_id(t, b)))
                i++;
            if (i + 1 >= ids->n) continue;
            ids->ids[i] = (int32_t)tokenizer_id(t, both);
            ids->n--;
            memmove(ids->ids + i + 1, ids->ids + i + 2,
                    (size_t)(ids->n - i - 1) * sizeof *ids->ids);
            break;
        }
    }
}

TEST(short_and_long_pieces_merge_in_order_of_rank)
{
    json_t *root = load_fixture("tokenizer_small.json");
    struct tokenizer *t;
    struct encoder *e;
    ASSERT_OK(parse_json(&t, root));
    for (uint64_t k = 0; k < 40; k++) {
        ASSERT_OK(encoder_create(&e, t));
        char text[200];
        const size_t bytes = 1 + rng_u64(k, 999) % (k < 30 ? 60 : sizeof text);
        for (size_t i = 0; i < bytes; i++)
            text[i] = "slethaoinrdu"[rng_u64(k, i) % (k % 2 ? 2 : 12)];
        struct token_list got = encode(e, text, bytes), want = {0};
        for (size_t i = 0; i < bytes; i++) {
            const char letter[2] = {text[i], 0};
            const int32_t id = (int32_t)tokenizer_id(t, letter);
            ASSERT_OK(token_list_append(&want, &id, 1));
        }
        merge_slowly(root, t, &want);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.ids, want.ids, (size_t)got.n * sizeof *got.ids);
        token_list_release(&got);
        token_list_release(&want);
        encoder_destroy(&e);
    }
    tokenizer_close(&t);
    json_decref(root);
}

TEST(an_encoder_that_has_seen_much_gives_the_ids_of_a_new_one)
{
    struct tokenizer *t = small_tokenizer();
    struct encoder *old, *new;
    ASSERT_OK(encoder_create(&old, t));
    for (uint64_t k = 0; k < 200; k++) {
        char text[400];
        const size_t bytes = random_text(k % 50, text, sizeof text);
        ASSERT_OK(encoder_create(&new, t));
        struct token_list a = encode(old, text, bytes), b = encode(new, text, bytes);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.ids, b.ids, (size_t)a.n * sizeof *a.ids);
        token_list_release(&a);
        token_list_release(&b);
        encoder_destroy(&new);
    }
    encoder_destroy(&old);
    tokenizer_close(&t);
}

TEST(encode_appends_to_the_list)
{
    struct tokenizer *t = small_tokenizer();
    struct encoder *e;
    ASSERT_OK(encoder_create(&e, t));
    struct token_list ids = encode(e, "!", 1);
    ASSERT_OK(encoder_encode(e, "<|endoftext|>", 13, &ids));
    ASSERT_OK(encoder_encode(e, "", 0, &ids));
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.ids[0], 1);
    assert_int_equal(ids.ids[1], 0);
    token_list_release(&ids);
    encoder_destroy(&e);
    tokenizer_close(&t);
}

TEST(a_tokenizer_tells_about_its_tokens)
{
    struct tokenizer *t = small_tokenizer();
    size_t n;
    assert_int_equal(tokenizer_vocab_size(t), 1000);
    assert_int_equal(tokenizer_n_merges(t), 743);
    assert_int_equal(tokenizer_n_added(t), 1);
    assert_int_equal(tokenizer_id(t, "<|endoftext|>"), 0);
    assert_int_equal(tokenizer_eos(t), 0);
    assert_int_equal(tokenizer_id(t, "nothing like it"), -1);
    assert_memory_equal(tokenizer_bytes(t, tokenizer_id(t, "\xC4\xA0the"), &n), " the",
                        4);
    assert_int_equal(n, 4);
    assert_int_equal(strlen(tokenizer_sha256(t)), 64);
    const int32_t outside[] = {3, 1000};
    char *text;
    ASSERT_REFUSED(tokenizer_decode(t, outside, 2, &text, &n), STATUS_DATA, "1000");
    tokenizer_close(&t);
    assert_null(t);
}

TEST(a_byte_without_a_token_is_refused_where_it_occurs)
{
    struct tokenizer *t;
    struct encoder *e;
    struct token_list ids = {0};
    json_t *root = load_fixture("tokenizer_small.json");
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    assert_int_equal(json_object_del(vocab, "\xC3\xBF"),
                     0); /* stands for the byte 0xff */
    ASSERT_OK(parse_json(&t, root));
    ASSERT_OK(encoder_create(&e, t));
    ASSERT_OK(encoder_encode(e, "caf\xC3\xA9", 5, &ids));
    ASSERT_REFUSED(encoder_encode(e, "a\xFF", 2, &ids), STATUS_DATA, "0xff");
    token_list_release(&ids);
    encoder_destroy(&e);
    tokenizer_close(&t);
    json_decref(root);
}
