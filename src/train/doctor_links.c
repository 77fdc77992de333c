/* Do vectors arrive, whole and unchanged, and how fast?  Among all ranks, then between every pair.
 *
 * Pairs meet in rounds like players of a tournament, so that the number of rounds grows with the
 * ranks, not with their square.  A pair that hangs cannot be undone: the rank that waited in vain
 * names it and ends the job. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/log.h"
#include "train/doctor_impl.h"

enum {
    REDUCED = 4 << 20, /* elements of the vector among all ranks: 16 MiB */
    SENT = 2 << 20,    /* of a message: 8 MiB each way */
    REPEATS = 4,
    MAX_REPEATS = 50,
    MAX_MATRIX = 16 /* ranks whose pairs are printed one by one */
};
static const double reduce_seconds = 1;

struct links {
    struct doctor_report *report;
    struct comm *world;
    struct device *device;
    const struct doctor_note *notes;
    struct comm_request *request;
    struct arena arena; /* of the device, for the request */
    float *host;        /* [REDUCED], page-locked */
    float *vector;      /* [REDUCED], of the device */
    double limit_seconds;
    int tag;
};

int doctor_rounds(int size)
{
    return size + size % 2 - 1;
}

/* Player n-1 (nobody, if there are an odd number) keeps its seat, the others go round. */
int doctor_partner(int size, int rank, int round)
{
    const int n = size + size % 2, seats = n - 1;
    int partner;
    if (rank == n - 1) {
        /* the one that would meet itself: 2 * partner = round (mod seats), seats being odd */
        partner = round % 2 ? (round + seats) / 2 : round / 2;
    } else {
        partner = ((round - rank) % seats + seats) % seats;
        if (partner == rank) partner = n - 1;
    }
    return partner < size ? partner : -1;
}

const char *doctor_cure(const struct doctor_note *notes, bool nccl, int a, int b)
{
    const bool near = strcmp(notes[a].launch.host, notes[b].launch.host) == 0;
    if (nccl && near)
        return "GPUs may be kept from each other's memory by ACS or the IOMMU (turn them "
               "off in "
               "the BIOS): run again with NCCL_P2P_DISABLE=1 (mpirun -x "
               "NCCL_P2P_DISABLE=1), "
               "without /dev/shm also NCCL_SHM_DISABLE=1, or parallel.comm: mpi";
    if (nccl)
        return "NCCL may have chosen an interface that leads nowhere: run again with "
               "mpirun -x "
               "NCCL_SOCKET_IFNAME=NAME (-x NCCL_IB_DISABLE=1 without InfiniBand), or "
               "parallel.comm: mpi";
    if (near)
        return "check /dev/shm and single copy above: run again with mpirun --mca "
               "btl_vader_single_copy_mechanism none, or --mca btl self,tcp";
    return "MPI may have chosen an interface that leads nowhere, or a firewall closes "
           "its ports: "
           "run again with mpirun --mca btl_tcp_if_include NAME";
}

static const char *cure(const struct links *l, int a, int b)
{
    return doctor_cure(l->notes, strcmp(comm_transport_name(l->world), "nccl") == 0, a,
                       b);
}

static status_t blame(const struct links *l, int a, int b, const char *what)
{
    return status_set(STATUS_COMM, "%s between rank %d (%s) and rank %d (%s) over %s: %s",
                      what, a, l->notes[a].launch.host, b, l->notes[b].launch.host,
                      comm_transport_name(l->world), cure(l, a, b));
}

/* Wait for the request; ends the job when the limit is passed.  peer -1: all ranks. */
static void finish(struct links *l, int peer)
{
    const double start = clock_seconds();
    const int rank = comm_rank(l->world);
    /* one speaks: the lower rank of the pair, rank 0; the others a little later, if it cannot */
    const bool speaks = peer < 0 ? rank == 0 : rank < peer;
    const double limit = l->limit_seconds + (speaks ? 0 : 2);
    for (;;) {
        if (comm_test(l->request)) break;
        if (clock_seconds() - start > limit) {
            char what[64];
            fflush(l->report->out);
            snprintf(what, sizeof what, "no answer within %g s", l->limit_seconds);
            if (peer < 0)
                status_set(
                    STATUS_COMM,
                    "the sum over all %d ranks did not end within %g s over %s: %s",
                    comm_size(l->world), l->limit_seconds, comm_transport_name(l->world),
                    cure(l, 0, comm_size(l->world) - 1));
            else
                (void)blame(l, rank < peer ? rank : peer, rank < peer ? peer : rank,
                            what);
            die_with(STATUS_COMM, "%s", status_message());
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    comm_wait(l->request);
    device_wait(l->device);
}

/* ---- among all ranks ------------------------------------------------------------------------ */

/* Small whole numbers, so that sums are exact in any order. */
static float element(int rank, int64_t i)
{
    return (float)((rank % 16 + 1) * (int)(i % 61 + 1));
}

static double reduce_once(struct links *l)
{
    comm_barrier(l->world);
    const double start = clock_seconds();
    comm_start_op(l->request, COMM_ALL_REDUCE, l->vector, DTYPE_F32, REDUCED, l->tag);
    finish(l, -1);
    return clock_seconds() - start;
}

static status_t check_reduce(struct links *l)
{
    const int size = comm_size(l->world);
    int weight = 0;
    for (int rank = 0; rank < size; rank++) weight += rank % 16 + 1;
    device_copy_out(l->device, l->host, l->vector, REDUCED * sizeof *l->host);
    for (int64_t i = 0; i < REDUCED; i++)
        if (l->host[i] != (float)(weight * (int)(i % 61 + 1)))
            return status_set(
                STATUS_COMM,
                "the sum over all %d ranks is wrong over %s: element %jd is %g, not "
                "%d: %s",
                size, comm_transport_name(l->world), (intmax_t)i, (double)l->host[i],
                weight * (int)(i % 61 + 1), cure(l, 0, size - 1));
    return STATUS_OK;
}

static status_t reduce_all(struct links *l)
{
    const int rank = comm_rank(l->world), size = comm_size(l->world);
    const double share =
        2.0 * (size - 1) / size; /* of the vector, in and out of each rank */
    for (int64_t i = 0; i < REDUCED; i++) l->host[i] = element(rank, i);
    device_copy_in(l->device, l->vector, l->host, REDUCED * sizeof *l->host);
    double first = reduce_once(l), seconds = 0;
    TRY(comm_agree(l->world, check_reduce(l)));
    comm_max_f64(l->world, &first, 1); /* every rank repeats as often */
    const double wanted = reduce_seconds / first;
    const int n = wanted > MAX_REPEATS ? MAX_REPEATS : wanted < 1 ? 1 : (int)wanted;
    for (int i = 0; i < n; i++) seconds += reduce_once(l);
    comm_max_f64(l->world, &seconds, 1);
    if (rank == 0)
        doctor_line(l->report, "all ranks",
                    "sum of %s: %.3f ms, %.2f GB/s through each rank",
                    doctor_bytes(REDUCED * sizeof(float)), 1e3 * seconds / n,
                    share * REDUCED * sizeof(float) * n / seconds * 1e-9);
    return STATUS_OK;
}

/* ---- between two ----------------------------------------------------------------------------- */

static float message_element(int from, int to, int64_t i)
{
    return (float)((from * 31 + to * 17 + (int)i) % 8191);
}

static void exchange(struct links *l, int partner)
{
    const struct comm_message both[] = {
        {.peer = partner, .send = true, .x = l->vector, .t = DTYPE_F32, .n = SENT},
        {.peer = partner, .x = l->vector + SENT, .t = DTYPE_F32, .n = SENT}};
    comm_start_messages(l->request, both, 2, l->tag);
    finish(l, partner);
}

/* GB/s each way in *rate. */
static status_t meet(struct links *l, int partner, double *rate)
{
    const int rank = comm_rank(l->world);
    for (int64_t i = 0; i < SENT; i++) {
        l->host[i] = message_element(rank, partner, i);
        l->host[SENT + i] = -1;
    }
    device_copy_in(l->device, l->vector, l->host, 2 * SENT * sizeof *l->host);
    exchange(l, partner); /* connects */
    const double start = clock_seconds();
    for (int i = 0; i < REPEATS; i++) exchange(l, partner);
    *rate = SENT * sizeof(float) * REPEATS / (clock_seconds() - start) * 1e-9;
    device_copy_out(l->device, l->host, l->vector, 2 * SENT * sizeof *l->host);
    for (int64_t i = 0; i < SENT; i++)
        if (l->host[SENT + i] != message_element(partner, rank, i))
            return blame(l, rank < partner ? rank : partner,
                         rank < partner ? partner : rank, "wrong data");
    return STATUS_OK;
}

static void print_rates(struct doctor_report *r, const double *rates, int size)
{
    int slow_a = 0, slow_b = 1, fast_a = 0, fast_b = 1;
    for (int a = 0; a < size; a++)
        for (int b = a + 1; b < size; b++) {
            if (rates[a * size + b] < rates[slow_a * size + slow_b])
                slow_a = a, slow_b = b;
            if (rates[a * size + b] > rates[fast_a * size + fast_b])
                fast_a = a, fast_b = b;
        }
    doctor_line(
        r, "pairs",
        "messages of %s each way: %.2f (ranks %d and %d) to %.2f GB/s (ranks %d and %d)",
        doctor_bytes(SENT * sizeof(float)), rates[slow_a * size + slow_b], slow_a, slow_b,
        rates[fast_a * size + fast_b], fast_a, fast_b);
    for (int a = 0; a < size && size > 2 && size <= MAX_MATRIX; a++) {
        char row[16 * MAX_MATRIX], key[32];
        size_t at = 0;
        for (int b = 0; b < size; b++)
            at += (size_t)(a == b ? snprintf(row + at, sizeof row - at, " %7s", "-")
                                  : snprintf(row + at, sizeof row - at, " %7.2f",
                                             rates[a * size + b]));
        snprintf(key, sizeof key, "  rank %d", a);
        doctor_line(r, key, "%s", row);
    }
}

static status_t meet_all(struct links *l)
{
    const int rank = comm_rank(l->world), size = comm_size(l->world);
    double *rates = calloc((size_t)size * (size_t)(size + 1), sizeof *rates);
    status_t st = comm_agree(
        l->world,
        rates ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for %d ranks", size));
    if (st != STATUS_OK) {
        free(rates);
        return st;
    }
    double *mine = rates + (size_t)size * (size_t)size;
    for (int round = 0; round < doctor_rounds(size); round++) {
        const int partner = doctor_partner(size, rank, round);
        l->tag = 1 + round;
        comm_barrier(l->world);
        if (partner < 0) continue;
        const status_t met = meet(l, partner, &mine[partner]);
        if (st == STATUS_OK) st = met;
    }
    comm_gather_all(l->world, mine, (size_t)size * sizeof *mine, rates);
    for (int a = 0; a < size; a++) /* the two ends began and ended at different times */
        for (int b = 0; b < a; b++) {
            double *ab = &rates[a * size + b], *ba = &rates[b * size + a];
            *ab = *ba = *ab < *ba ? *ab : *ba;
        }
    if (rank == 0) print_rates(l->report, rates, size);
    free(rates);
    return comm_agree(l->world, st);
}

/* ---- both ------------------------------------------------------------------------------------ */

static status_t take_memory(struct links *l)
{
    const size_t bytes = REDUCED * sizeof(float);
    struct arena measure = arena_measure();
    void *p;
    TRY(comm_request_create(&l->request, l->world, REDUCED, &measure));
    l->arena.capacity_bytes = arena_align(measure.peak_bytes + 1);
    TRY(device_alloc(l->device, l->arena.capacity_bytes, "messages", &p));
    l->arena = arena_over(p, l->arena.capacity_bytes);
    TRY(comm_request_create(&l->request, l->world, REDUCED, &l->arena));
    TRY(device_alloc(l->device, bytes, "a vector", &p));
    l->vector = p;
    TRY(device_alloc_host(l->device, bytes, "a vector", &p));
    l->host = p;
    return STATUS_OK;
}

static void release(struct links *l)
{
    const size_t bytes = REDUCED * sizeof(float);
    void *block = l->arena.base, *vector = l->vector, *host = l->host;
    comm_request_destroy(&l->request);
    device_free(l->device, &block, l->arena.capacity_bytes);
    device_free(l->device, &vector, bytes);
    device_free_host(l->device, &host, bytes);
}

status_t doctor_links(struct doctor_report *r, struct comm *world, struct device *dev,
                      const struct doctor_note *notes, double limit_seconds)
{
    struct links l = {.report = r,
                      .world = world,
                      .device = dev,
                      .notes = notes,
                      .limit_seconds = limit_seconds};
    status_t st = comm_agree(world, take_memory(&l));
    if (st == STATUS_OK) st = reduce_all(&l);
    if (st == STATUS_OK) st = meet_all(&l);
    release(&l);
    return st;
}
