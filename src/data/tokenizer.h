/* tokenizer - byte-level BPE: text to ids and back, and training one from text.
 *
 * Reads and writes the Hugging Face `tokenizer.json` form.  What is implemented: model BPE
 * (without dropout, prefixes, byte_fallback; unk_token only where it cannot matter); normalizer
 * NFC or none; ByteLevel pre-tokenizer with or without the GPT-2 pattern, Split by a regular
 * expression or a literal with every behaviour, and Digits in front of it, Sequence of those;
 * added tokens with all their flags; ByteLevel decoder.  Anything else is refused by name.
 * Special tokens of the post-processor, truncation and padding are not applied: encoding gives
 * the ids of Hugging Face's encode(text, add_special_tokens=False).  What a character is comes
 * from a table made with that library (tokenizer_classes.c); only patterns that are none of the
 * published ones are matched with the Unicode of PCRE2.
 *
 * Algorithm: pre-tokenize, then merge pairs in rank order inside each piece (Sennrich et al.
 * 2016, arXiv:1508.07909; bytes as base symbols: Radford et al. 2019, section 2.2).
 *
 * Any bytes can be encoded and decode gives the same bytes back.  A byte that does not begin a
 * well-formed UTF-8 sequence is a piece of its own, and ends the text in front of it.  The
 * exceptions come with the file: a byte that has no token is STATUS_DATA; and as the file asks,
 * what comes back is the normal form, may have a space in front, and lacks what a Split removes
 * and the white space that an added token strips. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "core/hash.h"
#include "core/status.h"

struct tokenizer;

/* STATUS_DATA names file and the part of it that is wrong or not implemented; STATUS_IO. */
MUST_USE status_t tokenizer_open(struct tokenizer **t, const char *path);
MUST_USE status_t tokenizer_parse(struct tokenizer **t, const char *name,
                                  const char *json,
                                  size_t bytes); /* `name` stands in messages */
void tokenizer_close(struct tokenizer **t);      /* NULL-safe; nulls */

int64_t tokenizer_vocab_size(const struct tokenizer *t); /* ids are below this */
const char *tokenizer_sha256(const struct tokenizer *t); /* of the file's bytes */
int64_t tokenizer_n_merges(const struct tokenizer *t);
int64_t tokenizer_n_added(const struct tokenizer *t);

/* The id of a token written as it stands in the file, e.g. "<|endoftext|>"; -1 if none. */
int64_t tokenizer_id(const struct tokenizer *t, const char *token);
/* The end-of-document token: the first present of <|endoftext|>, <|end_of_text|>, </s>,
 * <|im_end|>; -1 if none. */
int64_t tokenizer_eos(const struct tokenizer *t);

/* The bytes that id stands for, and how many; owned by t.  0 <= id < vocab_size; an id
 * without a token has 0 bytes. */
const char *tokenizer_bytes(const struct tokenizer *t, int64_t id, size_t *n);

/* A growing list of ids, the caller's storage; zero is empty. */
struct token_list {
    int32_t *ids;
    int64_t n, capacity;
};
MUST_USE status_t token_list_append(struct token_list *l, const int32_t *ids,
                                    int64_t n); /* STATUS_NOMEM */
void token_list_release(struct token_list *l);

/* Append the ids of `text` to *out.  encode uses `scratch` memory of its own thread, so one
 * encoder a thread; the tokenizer itself is shared.  STATUS_NOMEM; STATUS_DATA for a byte
 * without a token, or a pattern that takes too many steps. */
struct encoder;
MUST_USE status_t encoder_create(struct encoder **e, const struct tokenizer *t);
void encoder_destroy(struct encoder **e);
MUST_USE status_t encoder_encode(struct encoder *e, const char *text, size_t bytes,
                                 struct token_list *out);

/* The same of text in which special tokens are text: "<|im_end|>" gives the ids of its characters.
 * Added tokens that are not special are found. */
MUST_USE status_t encoder_encode_text(struct encoder *e, const char *text, size_t bytes,
                                      struct token_list *out);

/* A place at or behind `from` where `text` may be cut so that the ids of the two parts are
 * together the ids of the whole; `bytes` when there is none or it cannot be proved. */
size_t tokenizer_cut(const struct tokenizer *t, const char *text, size_t bytes,
                     size_t from);

/* The bytes of ids[0..n), with a final zero that *bytes does not count.  Caller frees. */
MUST_USE status_t tokenizer_decode(const struct tokenizer *t, const int32_t *ids,
                                   int64_t n, char **text, size_t *bytes);

/* ---- training --------------------------------------------------------------------------- */

struct text_reader; /* data/text.h */

struct tokenizer_train_options {
    int64_t vocab_size;         /* including 256 bytes and the special tokens */
    int64_t min_count;          /* pairs seen less often are not merged; 0: 2 */
    const char *const *special; /* e.g. {"<|endoftext|>"}, get the first ids */
    int n_special;
    int n_threads;
};

/* Train on all documents of `text` and write tokenizer.json to `path` (file_replace).  Words
 * are the pieces of the GPT-2 pattern; those longer than 512 bytes are left out.  Tokens: the
 * special ones, the 256 bytes in the order of their characters, then the merges; fewer than
 * vocab_size when the text has no more pairs to merge.  The result does not depend on
 * n_threads.  STATUS_USAGE (vocab_size, special), STATUS_DATA, STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t tokenizer_train(struct text_reader *text, const char *path,
                                  const struct tokenizer_train_options *o);
