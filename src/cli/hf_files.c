#include "cli/hf_files.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/file.h"

static const char *const names[] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "merges.txt",     "added_tokens.json",     "chat_template.jinja"};

enum { MAX_BYTES = 256 << 20 };

status_t hf_files_copy(const char *to, const char *from)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char source[PATH_MAX], target[PATH_MAX], *data = NULL;
        size_t bytes;
        file_join(source, sizeof source, from, names[i]);
        file_join(target, sizeof target, to, names[i]);
        if (!file_exists(source)) continue;
        TRY(file_read(source, MAX_BYTES, &data, &bytes));
        const status_t st = file_replace(target, data, bytes);
        free(data);
        TRY(st);
    }
    return STATUS_OK;
}

status_t hf_files_check_free(const char *folder)
{
    static const char *const taken[] = {"config.json", "config.yaml", "model.h5"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        char path[PATH_MAX];
        file_join(path, sizeof path, folder, taken[i]);
        if (file_exists(path))
            return status_set(STATUS_IO, "%s: exists; give another folder", path);
    }
    return STATUS_OK;
}
