#include "data/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "core/file.h"

static json_t *write_added(const struct tokenizer_train_options *o)
{
    json_t *added = json_array();
    for (int i = 0; i < o->n_special; i++)
        json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}",
                                               "id", i, "content", o->special[i],
                                               "single_word", 0, "lstrip", 0, "rstrip", 0,
                                               "normalized", 0, "special", 1));
    return added;
}

/* The name of token `id`, terminated, in a buffer of its own. */
static char *name_of(const struct learned *l, int64_t id,
                     const struct tokenizer_train_options *o)
{
    if (id < o->n_special) return strdup(o->special[id]);
    const struct token *t = &l->tokens[id];
    char *name = malloc(ALPHABET_MAX_NAME_BYTES * t->bytes + 1);
    if (name) name[alphabet_write(name, l->pool + t->offset, t->bytes)] = '\0';
    return name;
}

static json_t *write_model(const struct learned *l, char *const *names)
{
    json_t *vocab = json_object(), *merges = json_array();
    for (int64_t i = 0; i < l->n_tokens; i++)
        json_object_set_new(vocab, names[i], json_integer(i));
    for (int64_t i = 0; i < l->n_merges; i++)
        json_array_append_new(merges, json_sprintf("%s %s", names[l->merges[i].left],
                                                   names[l->merges[i].right]));
    const bool complete = json_object_size(vocab) == (size_t)l->n_tokens &&
                          json_array_size(merges) == (size_t)l->n_merges;
    json_t *model = json_pack(
        "{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
        "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
        "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", merges);
    if (complete) return model;
    json_decref(model);
    return NULL;
}

static json_t *byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 1);
}

status_t learned_write(const struct learned *l, const char *path,
                       const struct tokenizer_train_options *o)
{
    json_t *root = NULL;
    char *text = NULL;
    status_t st = STATUS_OK;
    char **names = calloc((size_t)l->n_tokens, sizeof *names);
    bool complete = names != NULL;
    for (int64_t i = 0; i < l->n_tokens && complete; i++)
        complete = (names[i] = name_of(l, i, o)) != NULL;
    if (complete)
        root = json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:o}", "version",
                         "1.0", "truncation", "padding", "added_tokens", write_added(o),
                         "normalizer", "pre_tokenizer", byte_level(), "post_processor",
                         byte_level(), "decoder", byte_level(), "model",
                         write_model(l, names));
    if (root) text = json_dumps(root, JSON_INDENT(2));
    st = text ? file_replace(path, text, strlen(text))
              : status_set(STATUS_NOMEM, "%s: no memory to write it", path);
    json_decref(root);
    free(text);
    for (int64_t i = 0; i < l->n_tokens && names; i++) free(names[i]);
    free(names);
    return st;
}
