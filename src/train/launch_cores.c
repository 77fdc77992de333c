/* What this rank may run on, and where that is. */
#include <errno.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/launch.h"

int launch_count_cores(const uint64_t cores[LAUNCH_MASK_WORDS])
{
    int n = 0;
    for (int i = 0; i < LAUNCH_MASK_WORDS; i++) n += __builtin_popcountll(cores[i]);
    return n;
}

void launch_name_cores(const uint64_t mask[LAUNCH_MASK_WORDS], char *text, size_t bytes)
{
    size_t at = 0;
    text[0] = '\0';
    for (int c = 0; c < LAUNCH_MAX_CPUS; c++) {
        if (!(mask[c / 64] >> (c % 64) & 1)) continue;
        const int first = c;
        while (c + 1 < LAUNCH_MAX_CPUS && mask[(c + 1) / 64] >> ((c + 1) % 64) & 1) c++;
        if (at + 32 > bytes) {
            snprintf(text + at, bytes - at, "%s", ",...");
            return;
        }
        at += (size_t)snprintf(text + at, bytes - at, first == c ? "%s%d" : "%s%d-%d",
                               at ? "," : "", first, c);
    }
}

/* The first number of "3,67" or "3-4", a list of hyper-threads; that of the core without one. */
static int physical_of(int cpu)
{
    char path[96];
    int first = cpu;
    snprintf(path, sizeof path,
             "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "r");
    if (!f) return cpu;
    if (fscanf(f, "%d", &first) != 1) first = cpu;
    fclose(f);
    return first;
}

static int node_of(int cpu)
{
    char pattern[64];
    glob_t found;
    snprintf(pattern, sizeof pattern, "/sys/devices/system/cpu/cpu%d/node[0-9]*", cpu);
    if (glob(pattern, 0, NULL, &found) != 0) return 0;
    const char *number = strstr(found.gl_pathv[0], "/node");
    const int node = number ? atoi(number + strlen("/node")) : 0;
    globfree(&found);
    return node;
}

static int by_place(const void *a, const void *b)
{
    const struct launch_core *x = a, *y = b;
    if (x->node != y->node) return x->node < y->node ? -1 : 1;
    if (x->physical != y->physical) return x->physical < y->physical ? -1 : 1;
    return x->cpu < y->cpu ? -1 : 1;
}

int launch_list_cores(const uint64_t mask[LAUNCH_MASK_WORDS], struct launch_core *cores)
{
    int n = 0;
    for (int c = 0; c < LAUNCH_MAX_CPUS; c++)
        if (mask[c / 64] >> (c % 64) & 1)
            cores[n++] = (struct launch_core){c, physical_of(c), node_of(c)};
    qsort(cores, (size_t)n, sizeof *cores, by_place);
    return n;
}

int launch_count_physical(const struct launch_core *cores, int n)
{
    int physical = 0;
    for (int i = 0; i < n; i++)
        physical += i == 0 || cores[i].physical != cores[i - 1].physical;
    return physical;
}

status_t launch_take_cores(struct launch_note *n)
{
    if (sched_getaffinity(0, sizeof n->cores, (cpu_set_t *)n->cores) != 0)
        return status_set(STATUS_LAUNCH, "cannot ask which cores this rank may use: %s",
                          strerror(errno));
    struct launch_core *cores = malloc(LAUNCH_MAX_CPUS * sizeof *cores);
    if (!cores) return status_set(STATUS_NOMEM, "no memory for a list of cores");
    n->physical_cores = launch_count_physical(cores, launch_list_cores(n->cores, cores));
    free(cores);
    /* The launcher itself is not pinned, but it is held by the container or the job, as a
     * count of the machine's cores is not. */
    uint64_t parent[LAUNCH_MASK_WORDS] = {0};
    n->host_cores = launch_count_cores(n->cores);
    if (sched_getaffinity(getppid(), sizeof parent, (cpu_set_t *)parent) != 0)
        return STATUS_OK;
    for (int i = 0; i < LAUNCH_MASK_WORDS; i++) parent[i] |= n->cores[i];
    n->host_cores = launch_count_cores(parent);
    return STATUS_OK;
}
