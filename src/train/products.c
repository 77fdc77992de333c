#include "train/products.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "config/env.h"
#include "core/file.h"
#include "nn/nn.h"

/* ---- what was measured before --------------------------------------------------------------- */

enum { PATH_BYTES = 4096, ANSWER_BYTES = 16 };

/* Family, model and stepping in one number; 0: unknown. */
static unsigned cpu_signature(void)
{
    unsigned a = 0;
#ifdef __x86_64__
    unsigned b, c, d;
    __get_cpuid(1, &a, &b, &c, &d);
#endif
    return a;
}

/* The file of this model of CPU; false: there is no place for it. */
static bool answer_path(char path[PATH_BYTES])
{
    const char *cache = config_env("XDG_CACHE_HOME"), *home = config_env("HOME");
    const bool named = cache && cache[0] == '/';
    if (!named && !(home && home[0] == '/')) return false;
    const int n = snprintf(path, PATH_BYTES, "%s%s/yoke/fp32-products-%08x",
                           named ? cache : home, named ? "" : "/.cache", cpu_signature());
    return n < PATH_BYTES;
}

static const char *const answers[] = {"fma\n", "bf16x6\n"};

static bool read_answer(const char *path, bool *pays)
{
    char *text = NULL;
    size_t bytes;
    if (!file_exists(path) || file_read(path, ANSWER_BYTES, &text, &bytes) != STATUS_OK)
        return false;
    const bool yes = strcmp(text, answers[true]) == 0;
    const bool known = yes || strcmp(text, answers[false]) == 0;
    if (known) *pays = yes;
    free(text);
    return known;
}

/* The first of several processes has the word, so that none computes otherwise than the next start will.
 * Losing it costs a measurement; errors do not matter. */
static void keep_answer(const char *path, bool *pays)
{
    char mine[PATH_BYTES + 16];
    snprintf(mine, sizeof mine, "%s.%d", path, (int)getpid());
    if (file_make_parent(path) != STATUS_OK ||
        file_replace(mine, answers[*pays], strlen(answers[*pays])) != STATUS_OK)
        return;
    if (link(mine, path) != 0 && !read_answer(path, pays)) rename(mine, path);
    unlink(mine);
}

static bool pays_here(void)
{
    char path[PATH_BYTES];
    const bool place = answer_path(path);
    bool pays = false;
    if (place && read_answer(path, &pays)) return pays;
    pays = nn_bf16x6_pays();
    if (place) keep_answer(path, &pays);
    return pays;
}

/* ---- the choice ------------------------------------------------------------------------------ */

status_t products_choose(const char **what, const struct device *d, enum dtype t,
                         struct comm *world, enum config_products wanted)
{
    *what = NULL;
    if (!device_is_host(d) || t != DTYPE_F32) return STATUS_OK;
    const bool amx = nn_use_bf16x6(wanted != CONFIG_PRODUCTS_FMA);
    if (wanted == CONFIG_PRODUCTS_BF16X6 && !amx)
        return status_set(STATUS_CONFIG, "train.fp32_products: bf16x6 needs AMX, which "
                                         "this CPU does not have; valid: auto, fma");
    int64_t slow = wanted == CONFIG_PRODUCTS_FMA;
    if (wanted == CONFIG_PRODUCTS_AUTO) {
        slow = !amx || !pays_here();
        if (world) comm_max_i64(world, &slow, 1);
    }
    nn_use_bf16x6(!slow);
    *what = slow ? "fma" : "bf16x6";
    return STATUS_OK;
}
