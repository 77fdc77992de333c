/* The random order, the faults asked for, and the message when something is wrong. */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emulation.h"
#include "work.h"

static uint64_t seed, state;
static long rank = -1; /* in MPI_COMM_WORLD; -1: not started by an MPI launcher */

/* ---- faults -------------------------------------------------------------------------------- */

/* Items of YOKE_EMULATION_FAULT, as emulation.h lists them. */
static const char *const emulation_fault_items[] = {
    "devices",  "no_device", "old_driver", "arch",       "bf16",       "oom",  "oom_host",
    "launch",   "ecc",       "fault",      "hang",       "peer",       "rank", "graphs",
    "nccl_die", "nccl_hang", "nccl_init",  "nccl_error", "nccl_after",
};
enum { N_ITEMS = sizeof emulation_fault_items / sizeof emulation_fault_items[0] };

static char *fault_values[N_ITEMS]; /* NULL: not asked for */

static int item_index(const char *item, size_t length)
{
    for (int i = 0; i < N_ITEMS; i++) {
        const char *const name = emulation_fault_items[i];
        if (strlen(name) == length && strncmp(name, item, length) == 0) return i;
    }
    return -1;
}

/* What can only be taken away. */
static void check_no(const char *item)
{
    const char *const value = fault_values[item_index(item, strlen(item))];
    if (value && strcmp(value, "no") != 0)
        emulation_fail("YOKE_EMULATION_FAULT: %s may only be no, not \"%s\"", item,
                       value);
}

static void read_faults(void)
{
    const char *item = getenv("YOKE_EMULATION_FAULT");
    while (item && *item) {
        const size_t length = strcspn(item, ","), name = strcspn(item, ",=");
        const int i = item_index(item, name);
        if (i < 0)
            emulation_fail("YOKE_EMULATION_FAULT knows no \"%.*s\"", (int)name, item);
        const size_t value = name < length ? name + 1 : name;
        fault_values[i] = strndup(item + value, length - value);
        item += length + (item[length] == ',');
    }
    check_no("bf16");
    check_no("graphs");
    check_no("peer");
    const int k = item_index("rank", 4);
    if (fault_values[k] && strtol(fault_values[k], NULL, 10) != rank)
        memset(fault_values, 0, sizeof fault_values);
}

/* ---- the seed ------------------------------------------------------------------------------ */

static void say_seed(int status, void *unused)
{
    (void)unused;
    if (status != 0)
        fprintf(stderr, "emulation: this was YOKE_EMULATION_SEED=%" PRIu64 "\n", seed);
}

void emulation_set_seed(uint64_t n)
{
    seed = n;
    state = seed * 0x9E3779B97F4A7C15u + (uint64_t)(rank + 1);
}

static void start(void)
{
    const char *const text = getenv("YOKE_EMULATION_SEED");
    const char *const rank_text = getenv("OMPI_COMM_WORLD_RANK");
    if (rank_text) rank = strtol(rank_text, NULL, 10);
    emulation_set_seed(text && *text ? strtoull(text, NULL, 10) : 1);
    read_faults();
    on_exit(say_seed, NULL);
}

static void start_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
}

const char *emulation_fault(const char *item)
{
    start_once();
    const int i = item_index(item, strlen(item));
    if (i < 0) emulation_fail("no fault is called \"%s\" (emulation_fault_items)", item);
    return fault_values[i];
}

bool emulation_fault_names(const char *item, const char *name)
{
    const char *const word = emulation_fault(item);
    return word && *word && strstr(name, word);
}

uint32_t emulation_random(uint32_t n)
{
    if (!state) start_once();
    /* Steele, Lea and Flood 2014: splitmix64 */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(((z >> 32) * n) >> 32);
}

/* ---- failure ------------------------------------------------------------------------------- */

void emulation_fail(const char *format, ...)
{
    char message[1024], where[256];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    work_describe(where, sizeof where);
    fprintf(stderr, "emulation: %s%s%s (YOKE_EMULATION_SEED=%" PRIu64 ")\n", where,
            *where ? ": " : "", message, seed);
    fflush(NULL);
    abort();
}
