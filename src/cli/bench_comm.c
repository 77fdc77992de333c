/* What moving vectors between ranks takes: each operation beside the MPI library's own, in turns, on
 * fp32 vectors of 64 KiB to 256 MiB.  Weights are gathered in a window, where ranks of a host have one
 * vector together; everything else is in vectors of their own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "core/clock.h"
#include "train/pin.h"
#include "train/place.h"

enum { CASES = 4, SMALLEST = 1 << 16, LARGEST = 1 << 28, SAMPLE_BYTES = 1 << 24 };

static const struct {
    const char *name;
    enum comm_op op;
    bool window;
} cases[CASES] = {{"reduce-scatter", COMM_REDUCE_SCATTER, false},
                  {"all-gather", COMM_ALL_GATHER, false},
                  {"all-reduce", COMM_ALL_REDUCE, false},
                  {"all-gather of weights", COMM_ALL_GATHER, true}};

struct bench {
    struct comm *world;
    struct device *device;
    const struct bench_options *o;
    struct comm_request *request;
    struct arena arena; /* the request's, and ours */
    float *ours;        /* [LARGEST bytes] where ranks of a host see it */
    void *window;       /* as long */
    void *theirs;       /* as long, as everybody has it */
    double *seconds[2]; /* [steps] of ours and theirs */
    struct pin pin;
};

static status_t prepare(struct bench *b, const char **why)
{
    void *block = NULL;
    const int64_t n = LARGEST / (int64_t)sizeof(float);
    char where[256];
    pin_team(&b->pin, &b->o->share, PIN_AUTO, where, sizeof where);
    TRY(place_open_alone(&b->device, CONFIG_DEVICE_CPU));
    TRY(comm_use_device(b->world, b->device, COMM_TRANSPORT_AUTO, why));
    TRY(comm_window_alloc(b->world, b->device, LARGEST, "vectors", &b->window));
    b->arena = arena_measure();
    TRY(comm_request_create(&b->request, b->world, n, &b->arena));
    arena_floats(&b->arena, n);
    const size_t bytes = b->arena.peak_bytes;
    TRY(device_alloc_shared(b->device, bytes, "vectors", &block));
    b->arena = arena_over(block, bytes);
    TRY(device_alloc(b->device, LARGEST, "vectors", &b->theirs));
    TRY(comm_request_create(&b->request, b->world, n, &b->arena));
    b->ours = arena_floats(&b->arena, n);
    memset(b->window, 0, LARGEST);
    memset(b->ours, 0, LARGEST); /* pages that nobody wrote are all the same one */
    memset(b->theirs, 0, LARGEST);
    for (int i = 0; i < 2; i++) {
        b->seconds[i] = calloc((size_t)b->o->steps, sizeof *b->seconds[i]);
        if (!b->seconds[i]) return status_set(STATUS_NOMEM, "no memory for times");
    }
    return STATUS_OK;
}

static void release(struct bench *b)
{
    void *block = b->arena.base;
    for (int i = 0; i < 2; i++) free(b->seconds[i]);
    comm_request_destroy(&b->request);
    if (b->device) comm_window_free(b->world, b->device, &b->window);
    comm_leave_device(b->world);
    if (b->device) device_free(b->device, &block, b->arena.capacity_bytes);
    if (b->device) device_free(b->device, &b->theirs, LARGEST);
    device_close(&b->device);
    pin_release(&b->pin);
}

/* Seconds of one operation, the slowest rank's, over as many as make a time worth taking. */
static double sample(struct bench *b, int k, int64_t n, bool ours)
{
    const enum comm_op op = cases[k].op;
    void *x = cases[k].window ? b->window : b->ours;
    const int64_t times = 1 + SAMPLE_BYTES / (n * (int64_t)sizeof(float));
    comm_barrier(b->world);
    const double start = clock_seconds();
    for (int64_t i = 0; i < times; i++) {
        if (ours) {
            comm_start_op(b->request, op, x, DTYPE_F32, n, 0);
            comm_wait(b->request);
        } else {
            comm_mpi_own(b->world, op, b->theirs, n);
        }
    }
    double seconds = (clock_seconds() - start) / (double)times;
    comm_max_f64(b->world, &seconds, 1);
    return seconds;
}

/* GB of vector a second, ours and theirs. */
static void measure(struct bench *b, int which, int64_t n, double rates[2])
{
    for (int64_t k = -1; k < b->o->steps; k++) /* the first warms up */
        for (int i = 0; i < 2; i++)
            b->seconds[i][k < 0 ? 0 : k] = sample(b, which, n, i == 0);
    const double gigabytes = (double)n * sizeof(float) * 1e-9;
    for (int i = 0; i < 2; i++)
        rates[i] = gigabytes / bench_median(b->seconds[i], b->o->steps);
}

static double microseconds(int64_t bytes, double rate)
{
    return (double)bytes / (rate * 1e3);
}

static void print(const struct bench *b, const char *why, double rates[][CASES][2])
{
    const int size = comm_size(b->world);
    const char *transport = comm_transport_name(b->world);
    char mpi[256];
    comm_describe_mpi(mpi, sizeof mpi);
    if (b->o->json)
        printf(
            "{\"ranks\": %d, \"threads\": %jd, \"transport\": \"%s\", \"mpi\": \"%s\", "
            "\"results\": [",
            size, (intmax_t)b->o->threads, transport, mpi);
    else
        printf("%d ranks x %jd threads, %s (%s), beside %s\nGB of fp32 vector a second, "
               "ours / MPI's own: ratio; of weights, which are not moved, "
               "microseconds\n%12s",
               size, (intmax_t)b->o->threads, transport, why, mpi, "");
    for (int k = 0; !b->o->json && k < CASES; k++) printf(" %24s", cases[k].name);
    int row = 0;
    for (int64_t bytes = SMALLEST; bytes <= LARGEST; bytes *= 4, row++) {
        if (!b->o->json) printf("\n%8jd KiB", (intmax_t)(bytes >> 10));
        for (int k = 0; k < CASES; k++) {
            const double *r = rates[row][k];
            if (b->o->json)
                printf("%s{\"operation\": \"%s\", \"bytes\": %jd, \"gb_per_second\": "
                       "%.4g, \"mpi_gb_per_second\": %.4g, \"ratio\": %.4g}",
                       row + k ? ", " : "", cases[k].name, (intmax_t)bytes, r[0], r[1],
                       r[0] / r[1]);
            else if (cases[k].window)
                printf(" %7.1f / %6.0f: %6.0f", microseconds(bytes, r[0]),
                       microseconds(bytes, r[1]), r[0] / r[1]);
            else
                printf(" %7.2f / %6.2f: %6.2f", r[0], r[1], r[0] / r[1]);
        }
    }
    printf(b->o->json ? "]}\n" : "\n");
}

status_t bench_comm(struct comm *world, const struct bench_options *o)
{
    enum { ROWS = 7 };
    struct bench b = {.world = world, .o = o};
    double rates[ROWS][CASES][2];
    const char *why = "";
    const status_t st = comm_agree(world, prepare(&b, &why));
    int row = 0;
    for (int64_t bytes = SMALLEST; st == STATUS_OK && bytes <= LARGEST; bytes *= 4, row++)
        for (int k = 0; k < CASES; k++) {
            int64_t n = bytes / (int64_t)sizeof(float);
            n -= n % comm_size(world); /* MPI's own wants slices of one length */
            measure(&b, k, n, rates[row][k]);
        }
    if (st == STATUS_OK && comm_rank(world) == 0) print(&b, why, rates);
    release(&b);
    return st;
}
