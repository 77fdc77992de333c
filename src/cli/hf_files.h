/* hf_files - the files of a Hugging Face model that go through yoke as they are. */
#pragma once

#include "core/status.h"

/* Copy those that `from` has, byte for byte: the tokenizer's and the chat template.  STATUS_IO. */
MUST_USE status_t hf_files_copy(const char *to, const char *from);

/* The folder holds neither a Hugging Face model nor a run nor a checkpoint, if it is there at all.
 * STATUS_IO names what it holds. */
MUST_USE status_t hf_files_check_free(const char *folder);
