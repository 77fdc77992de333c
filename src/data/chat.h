/* chat - conversations as tokens, of which only what the assistant says is to be predicted.
 *
 * A conversation is one line of JSON, {"messages": [{"role": R, "content": TEXT}, ...]}; other keys
 * beside "messages" are passed over.  Roles are system (first only), user (then first) and
 * assistant (one or more); tools are refused.
 *
 * A template says how messages become text.  Those that models are published with are known by
 * name and hold here as data; Jinja is not interpreted.  What results is token by token that of
 * transformers' apply_chat_template, but for one thing: special tokens inside a content are text.
 * "<|im_end|>" that a user writes ends no turn.
 *
 * Sources: tokenizer_config.json of Qwen2.5-7B-Instruct, SmolLM2-1.7B-Instruct,
 * Meta-Llama-3-8B-Instruct, OLMo-2-1124-7B-Instruct; ChatML as transformers and TRL set it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/tokenizer.h"

/* ---- templates -------------------------------------------------------------------------- */

struct chat_template;

/* Names of all templates, "chatml, qwen2.5, ...". */
extern const char chat_templates[];

/* NULL if there is none of that name. */
const struct chat_template *chat_template_find(const char *name);
const char *chat_template_name(const struct chat_template *t);

/* The template that lies beside a tokenizer.json: in chat_template.jinja, else in
 * tokenizer_config.json.  STATUS_DATA if there is none, or none of those known (names them);
 * STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t chat_template_detect(const struct chat_template **t,
                                       const char *tokenizer_path);

/* ---- conversations ---------------------------------------------------------------------- */

enum chat_loss {
    CHAT_LOSS_ASSISTANT, /* contents of the assistant and the token that ends each */
    CHAT_LOSS_ALL /* all but the first token of a conversation, which follows on nothing */
};

/* Renders conversations; one a thread.  STATUS_DATA if the tokenizer lacks a token that the
 * template needs, or makes one out of text; it lists the templates that would do. */
struct chat;
MUST_USE status_t chat_create(struct chat **c, const struct tokenizer *t,
                              const struct chat_template *template, enum chat_loss loss);
void chat_destroy(struct chat **c); /* NULL-safe; nulls */

/* The token that ends what the assistant says. */
int32_t chat_end(const struct chat *c);

/* Append the conversation in the JSON text line[0..bytes) to *ids, and to *loss for each of its
 * tokens 1 if it is to be predicted, else 0.  *text_bytes = length of the rendered text.
 * STATUS_DATA says what is wrong with it, without the place of the line; the lists are as they
 * were then, except after STATUS_NOMEM. */
MUST_USE status_t chat_encode(struct chat *c, const char *line, size_t bytes,
                              struct token_list *ids, struct token_list *loss,
                              int64_t *text_bytes);
