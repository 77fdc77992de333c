/* Which versions of the libraries that compute, communicate and store this process has loaded. */
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/launch.h"

/* Whose numbers, messages or files depend on the version.  Others, like what MPI opens for the
 * network at hand, may well differ from host to host. */
static const char *const relevant[] = {"libmpi.so",  "libopen-rte.so", "libopen-pal.so",
                                       "libdnnl.so", "libhdf5",        "libgomp.so",
                                       "libc.so",    "libm.so"};

struct found {
    char *text;
    size_t bytes, used;
};

/* "libmpi.so.40 -> libmpi.so.40.30.4": the file that the loader's name leads to. */
static int look(struct dl_phdr_info *info, size_t size, void *context)
{
    struct found *f = context;
    char path[PATH_MAX];
    (void)size;
    if (!info->dlpi_name || !realpath(info->dlpi_name, path)) return 0;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (size_t i = 0; i < sizeof relevant / sizeof *relevant; i++) {
        const size_t n = strlen(name);
        if (strncmp(name, relevant[i], strlen(relevant[i])) != 0) continue;
        if (f->used + n + 2 > f->bytes) return 0;
        f->used += (size_t)snprintf(f->text + f->used, f->bytes - f->used, "%s%s",
                                    f->used ? " " : "", name);
        return 0;
    }
    return 0;
}

void launch_libraries(char *text, size_t bytes)
{
    struct found f = {.text = text, .bytes = bytes};
    memset(text, 0, bytes);
    dl_iterate_phdr(look, &f);
}
