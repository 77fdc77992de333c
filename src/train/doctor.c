#include "train/doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "train/doctor_impl.h"
#include "train/place.h"

/* The comm's own limit comes later than that of a link, whose sentence says more. */
static const double comm_seconds_more = 10;

struct doctor {
    struct comm *world;
    const struct doctor_options *options;
    struct doctor_report report;
    FILE *silence;             /* where all but rank 0 report to */
    struct device *cpu, *gpu;  /* of this rank; gpu may be NULL */
    struct doctor_note *notes; /* [size] */
    status_t first;            /* fault */
    char sentence[2048];
};

static bool wants_gpu(const struct doctor *d)
{
    return d->options->device != CONFIG_DEVICE_CPU;
}

/* What this rank sees.  A missing GPU is part of the note; a status is what keeps from looking. */
static status_t take_note(struct doctor *d, struct doctor_note *mine)
{
    mine->index = -1;
    TRY(comm_agree(d->world, launch_note_take(&mine->launch, "")));
    TRY(place_local_rank(&mine->local, d->world));
    if (!wants_gpu(d)) return STATUS_OK;
    mine->gpu = device_count("cuda", &mine->n_visible);
    if (mine->gpu == STATUS_OK)
        mine->gpu = device_open(&d->gpu, "cuda", mine->local % mine->n_visible);
    if (mine->gpu == STATUS_OK) {
        mine->index = mine->local % mine->n_visible;
        device_describe(d->gpu, &mine->info);
    } else {
        strncpy(mine->sentence, status_message(), sizeof mine->sentence - 1);
    }
    return STATUS_OK;
}

static int ranks_of_host(const struct doctor *d, int rank)
{
    int n = 0;
    for (int i = 0; i < comm_size(d->world); i++)
        n += strcmp(d->notes[i].launch.host, d->notes[rank].launch.host) == 0;
    return n;
}

static void write_host(struct doctor *d, struct doctor_report *r)
{
    const int rank = comm_rank(d->world), n = ranks_of_host(d, rank);
    const struct doctor_note *mine = &d->notes[rank];
    doctor_host(r, &mine->launch, n);
    doctor_shared_memory(r, n);
    if (rank > 0) doctor_network(r); /* rank 0 has done so before MPI started */
    doctor_gpus(r, mine, d->gpu, n == 1);
}

/* The first rank of each host writes about it; rank 0 prints. */
static status_t report_hosts(struct doctor *d)
{
    const int rank = comm_rank(d->world), size = comm_size(d->world);
    char *text = NULL, *all = NULL;
    size_t bytes = 0, *sizes = calloc((size_t)size, sizeof *sizes);
    struct doctor_report mine = {.out = open_memstream(&text, &bytes)};
    status_t st = mine.out && sizes ? STATUS_OK
                                    : status_set(STATUS_NOMEM, "no memory for a report");
    if (st == STATUS_OK && d->notes[rank].local == 0) write_host(d, &mine);
    if (mine.out && fclose(mine.out) != 0 && st == STATUS_OK)
        st = status_set(STATUS_NOMEM, "no memory for a report");
    st = comm_agree(d->world, st);
    if (st == STATUS_OK) {
        int64_t n_advices = mine.n_advices;
        comm_gather_bytes(d->world, text, bytes, 0, &all, sizes);
        comm_sum_i64(d->world, &n_advices, 1);
        size_t n = 0;
        for (int i = 0; i < size; i++) n += sizes[i];
        if (rank == 0) fwrite(all, 1, n, d->report.out);
        d->report.n_advices += (int)n_advices;
    }
    free(all);
    free(text);
    free(sizes);
    return st;
}

/* The first fault is what doctor_run returns; further ones are in the report. */
static void fault(struct doctor *d, status_t st)
{
    if (st == STATUS_OK) return;
    if (d->first == STATUS_OK) {
        d->first = st;
        snprintf(d->sentence, sizeof d->sentence, "%s", status_message());
    } else {
        doctor_advice(&d->report, "%s", status_message());
    }
}

/* Were the ranks started as they should be?  The same notes everywhere, so the same verdict. */
static status_t judge_launch(struct doctor *d)
{
    const int size = comm_size(d->world);
    struct launch_note *launch = malloc((size_t)size * sizeof *launch);
    status_t st = launch
                      ? STATUS_OK
                      : status_set(STATUS_NOMEM, "no memory for notes of %d ranks", size);
    st = comm_agree(d->world, st);
    for (int i = 0; i < size && st == STATUS_OK; i++) launch[i] = d->notes[i].launch;
    if (st == STATUS_OK) st = launch_judge(launch, size);
    for (int i = 0; i < size && st == STATUS_OK; i++) {
        char line[1024], warning[1024];
        launch_describe(launch, size, i, 0, line, warning, sizeof line);
        if (d->notes[i].local == 0 && warning[0])
            doctor_advice(&d->report, "%s", warning);
    }
    free(launch);
    return st;
}

static status_t judge_gpu(const struct doctor *d)
{
    const struct doctor_note *mine = &d->notes[comm_rank(d->world)];
    status_t st = STATUS_OK;
    if (d->gpu)
        st = doctor_compute(d->gpu, &mine->info);
    else if (d->options->device == CONFIG_DEVICE_CUDA)
        st = status_set(mine->gpu, "%s", mine->sentence);
    return comm_agree(d->world, st);
}

/* NCCL was not taken although every rank has a GPU of its own: training would be slower than it
 * could be. */
static void regret_nccl(struct doctor *d, const char *why)
{
    const int size = comm_size(d->world);
    if (d->options->transport != COMM_TRANSPORT_AUTO ||
        strcmp(comm_transport_name(d->world), "nccl") == 0)
        return;
    for (int i = 0; i < size; i++)
        if (doctor_sharer(d->notes, i) >= 0) return;
    doctor_advice(&d->report, "NCCL does not work, which costs speed: %s: %s", why,
                  doctor_cure(d->notes, true, 0, size - 1));
}

/* In host memory, then in that of the GPUs if every rank has one. */
static void try_links(struct doctor *d)
{
    const double limit = d->options->limit_seconds;
    const int size = comm_size(d->world);
    FILE *out = d->report.out;
    const char *why = "";
    bool gpus = true;
    if (size == 1) return;
    for (int i = 0; i < size; i++) gpus = gpus && d->notes[i].index >= 0;
    fprintf(out, "\nvectors in host memory over mpi\n");
    fflush(out);
    fault(d, doctor_links(&d->report, d->world, d->cpu, d->notes, limit));
    if (!gpus) return;
    const status_t st = comm_use_device(d->world, d->gpu, d->options->transport, &why);
    fault(d, st);
    if (st != STATUS_OK) return;
    fprintf(out, "\nvectors in GPU memory over %s (%s)\n", comm_transport_name(d->world),
            why);
    regret_nccl(d, why);
    fflush(out);
    fault(d, doctor_links(&d->report, d->world, d->gpu, d->notes, limit));
}

static void verdict(struct doctor *d)
{
    const int n = d->report.n_advices;
    if (d->first != STATUS_OK)
        fprintf(d->report.out, "\nsomething does not work\n");
    else if (n > 0)
        fprintf(d->report.out, "\nwhat was tried works; see the %d line%s with !\n", n,
                n > 1 ? "s" : "");
    else
        fprintf(d->report.out, "\nwhat was tried works\n");
    fflush(d->report.out);
}

status_t doctor_create(struct doctor **out, struct comm *world,
                       const struct doctor_options *o, FILE *report)
{
    const int size = comm_size(world);
    struct doctor *d = calloc(1, sizeof *d);
    status_t st = STATUS_OK;
    if (d) d->notes = calloc((size_t)size, sizeof *d->notes);
    if (!d || !d->notes)
        st = status_set(STATUS_NOMEM, "no memory for notes of %d ranks", size);
    if (d)
        *d = (struct doctor){
            .world = world, .options = o, .report.out = report, .notes = d->notes};
    *out = d;
    if (st == STATUS_OK) st = device_open(&d->cpu, "cpu", 0);
    if (st == STATUS_OK && comm_rank(world) > 0) {
        d->silence = d->report.out = fopen("/dev/null", "w");
        if (!d->silence) st = status_set(STATUS_IO, "/dev/null: %s", strerror(errno));
    }
    st = comm_agree(world, st);
    if (st != STATUS_OK) doctor_destroy(out);
    return st;
}

void doctor_destroy(struct doctor **d)
{
    if (!*d) return;
    device_close(&(*d)->gpu);
    device_close(&(*d)->cpu);
    if ((*d)->silence) fclose((*d)->silence);
    free((*d)->notes);
    free(*d);
    *d = NULL;
}

status_t doctor_run(struct doctor *d)
{
    struct doctor_note mine = {0};
    comm_set_timeout(d->world, d->options->limit_seconds + comm_seconds_more);
    TRY(take_note(d, &mine));
    comm_gather_all(d->world, &mine, sizeof mine, d->notes);
    TRY(report_hosts(d));
    if (comm_size(d->world) > 1) doctor_ranks(&d->report, d->notes, comm_size(d->world));
    fault(d, judge_launch(d));
    fault(d, judge_gpu(d));
    try_links(d);
    verdict(d);
    return d->first == STATUS_OK ? STATUS_OK : status_set(d->first, "%s", d->sentence);
}
