#include "train/inputs.h"

#include <sys/stat.h>

struct inputs inputs_take(struct arena *arena, struct device *dev, int64_t max_B,
                          int64_t T)
{
    const size_t bytes = (size_t)(max_B * T) * sizeof(int32_t);
    struct inputs i = {.device = dev};
    i.tokens = arena_alloc(arena, bytes);
    i.targets = arena_alloc(arena, bytes);
    i.positions = arena_alloc(arena, bytes);
    i.doc_start = arena_alloc(arena, bytes);
    return i;
}

struct model_input inputs_load(const struct inputs *i, const struct batch *b)
{
    const size_t bytes = (size_t)(b->B * b->T) * sizeof(int32_t);
    device_copy_in(i->device, i->tokens, b->tokens, bytes);
    device_copy_in(i->device, i->targets, b->targets, bytes);
    device_copy_in(i->device, i->positions, b->positions, bytes);
    device_copy_in(i->device, i->doc_start, b->doc_start, bytes);
    return (struct model_input){.B = b->B,
                                .T = b->T,
                                .tokens = i->tokens,
                                .targets = i->targets,
                                .positions = i->positions,
                                .doc_start = i->doc_start};
}

enum token_file_check inputs_check(const struct config *c,
                                   const struct data_source *sources, int n)
{
    enum { SMALL_BYTES = 1 << 30 };
    int64_t bytes = 0;
    struct stat info;
    for (int i = 0; i < n; i++)
        if (stat(sources[i].path, &info) == 0) bytes += info.st_size;
    const bool all = c->verify == CONFIG_VERIFY_ALL ||
                     (c->verify == CONFIG_VERIFY_AUTO && bytes <= SMALL_BYTES);
    return all ? TOKEN_FILE_CHECK_ALL : TOKEN_FILE_CHECK_SEAL;
}
