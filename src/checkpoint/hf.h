/* hf - models as Hugging Face folders hold them: config.json and *.safetensors.
 *
 * Parameters are named here as there (model/names.h); what differs is told in hf_names.c.  A
 * folder is outside input: names, shapes and types are all checked before anything is used. */
#pragma once

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "core/status.h"
#include "model/arch.h"

/* The architecture in FOLDER/config.json, and its family.  What transformers can and yoke cannot (another
 * activation, scaled rotary positions, ...) is refused by the name of the key.  STATUS_CHECKPOINT. */
MUST_USE status_t hf_config_read(const char *folder, struct arch *a, const char **family);
/* Has transformers words for such a model of the family?  STATUS_CHECKPOINT: it has none. */
MUST_USE status_t hf_config_check(const struct arch *a, const char *family);
/* FOLDER/config.json and generation_config.json; eos -1: none.  STATUS_IO. */
MUST_USE status_t hf_config_write(const char *folder, const struct arch *a,
                                  const char *family, int64_t eos,
                                  enum safetensors_dtype dtype);

/* The tensors of FOLDER, a model of architecture `a`, with moments of zero; `meta` is borrowed.
 * Tensors that are missing, left over or of another shape or type are all listed in the log; the
 * status then is STATUS_CHECKPOINT.  Holds one tensor at a time. */
MUST_USE status_t hf_open(struct checkpoint_source *s, const char *folder,
                          const struct arch *a, const struct checkpoint_meta *meta);

/* Write the weights of `s` into FOLDER, in files of up to shard_bytes (at least one tensor each), with an
 * index if they are several.  STATUS_IO, STATUS_CHECKPOINT if they are not those of `a`. */
MUST_USE status_t hf_write(const char *folder, struct checkpoint_source *s,
                           const struct arch *a, enum safetensors_dtype dtype,
                           int64_t shard_bytes);
