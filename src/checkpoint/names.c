#include "checkpoint/checkpoint_impl.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ckpt_name *)a)->name,
                  ((const struct ckpt_name *)b)->name);
}

void ckpt_names_sort(struct ckpt_name *names, int n)
{
    qsort(names, (size_t)n, sizeof *names, by_name);
}

int ckpt_names_find(const struct ckpt_name *names, int n, const char *name)
{
    const struct ckpt_name key = {.name = name};
    const struct ckpt_name *found =
        n > 0 ? bsearch(&key, names, (size_t)n, sizeof *names, by_name) : NULL;
    return found ? found->index : -1;
}
