#include "train/launch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/env.h"
#include "core/hash.h"
#include "core/log.h"

/* How many ranks a launcher says it started.  The one nearest to the process comes first: inside
 * a Slurm job, mpirun's own count is the one that matters. */
static const char *const size_variables[] = {
    "OMPI_COMM_WORLD_SIZE", /* Open MPI's mpirun */
    "PMI_SIZE",             /* mpirun of MPICH, Intel MPI; srun --mpi=pmi2 */
    "SLURM_STEP_NUM_TASKS", /* srun */
    "SLURM_NTASKS",         /* the job, also in a batch script that forgot srun */
};

static void take_size(struct launch_note *n)
{
    for (size_t i = 0; i < sizeof size_variables / sizeof *size_variables; i++) {
        const char *text = config_env(size_variables[i]);
        char *end = NULL;
        const long value = text ? strtol(text, &end, 10) : 0;
        if (value < 1 || value > INT_MAX || *end) continue;
        n->started = (int)value;
        snprintf(n->size_variable, sizeof n->size_variable, "%s", size_variables[i]);
        return;
    }
}

int launch_early_rank(void)
{
    static const char *const variables[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK",
                                            "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const char *text = config_env(variables[i]);
        if (text) return (int)strtol(text, NULL, 10);
    }
    return 0;
}

/* Cores' worth of time that the container grants to all its processes; 0: no limit. */
static int read_quota(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    long long quota = 0, period = 0; /* or "max" instead of the first */
    const int n = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    if (n != 2 || quota <= 0 || period <= 0) return 0;
    const long long cores = quota / period;
    return cores < 1 ? 1 : cores > LAUNCH_MAX_CPUS ? LAUNCH_MAX_CPUS : (int)cores;
}

static status_t take_binary(struct launch_note *n)
{
    static const char path[] = "/proc/self/exe";
    enum { BLOCK_BYTES = 1 << 16 };
    FILE *f = fopen(path, "rb");
    if (!f) return status_set(STATUS_LAUNCH, "%s: %s", path, strerror(errno));
    struct hash_stream *hash = hash_stream_create();
    char block[BLOCK_BYTES];
    size_t bytes;
    while ((bytes = fread(block, 1, sizeof block, f)) > 0)
        hash_stream_update(hash, block, bytes);
    n->binary = hash_stream_finish(&hash);
    const int failed = ferror(f);
    fclose(f);
    if (failed) return status_set(STATUS_LAUNCH, "%s: cannot be read", path);
    return STATUS_OK;
}

status_t launch_note_take(struct launch_note *n, const char *config_text)
{
    memset(n, 0, sizeof *n); /* notes travel as bytes */
    if (gethostname(n->host, sizeof n->host - 1) != 0) strcpy(n->host, "?");
    n->config = hash_xxh3(config_text, strlen(config_text));
    n->quota_cores = read_quota("/sys/fs/cgroup/cpu.max");
    launch_libraries(n->libraries, sizeof n->libraries);
    take_size(n);
    TRY(launch_take_cores(n));
    return take_binary(n);
}

/* ---- judging ----------------------------------------------------------------------------- */

static bool same_host(const struct launch_note *a, const struct launch_note *b)
{
    return strcmp(a->host, b->host) == 0;
}

static bool same_binary(const struct launch_note *a, const struct launch_note *b)
{
    return a->binary == b->binary;
}

static bool same_libraries(const struct launch_note *a, const struct launch_note *b)
{
    return strcmp(a->libraries, b->libraries) == 0;
}

/* The first words in which two lists differ. */
static void first_difference(const char *a, const char *b, char one[64], char other[64])
{
    while (*a && *b) {
        const size_t n = strcspn(a, " "), m = strcspn(b, " ");
        if (n != m || memcmp(a, b, n) != 0) break;
        a += n + (a[n] == ' ');
        b += m + (b[m] == ' ');
    }
    if (!*a) a = "none";
    if (!*b) b = "none";
    snprintf(one, 64, "%.*s", (int)strcspn(a, " "), a);
    snprintf(other, 64, "%.*s", (int)strcspn(b, " "), b);
}

static bool same_config(const struct launch_note *a, const struct launch_note *b)
{
    return a->config == b->config;
}

/* "rank 3" or "ranks 0-2, 5": those for which same(note, model) is `wanted`; how many. */
static int name_ranks(char *out, size_t bytes, const struct launch_note *notes, int size,
                      const struct launch_note *model,
                      bool (*same)(const struct launch_note *,
                                   const struct launch_note *),
                      bool wanted)
{
    char list[256] = "";
    int n = 0;
    size_t used = 0;
    for (int first = 0; first < size; first++) {
        if (same(&notes[first], model) != wanted) continue;
        int last = first;
        while (last + 1 < size && same(&notes[last + 1], model) == wanted) last++;
        n += last - first + 1;
        char one[32];
        if (last > first)
            snprintf(one, sizeof one, "%s%d-%d", used ? ", " : "", first, last);
        else
            snprintf(one, sizeof one, "%s%d", used ? ", " : "", first);
        if (used + strlen(one) + sizeof ", ..." < sizeof list)
            used += (size_t)sprintf(list + used, "%s", one);
        else if (list[used - 1] != '.')
            used += (size_t)sprintf(list + used, ", ...");
        first = last;
    }
    snprintf(out, bytes, "rank%s %s", n > 1 ? "s" : "", list);
    return n;
}

status_t launch_judge(const struct launch_note *notes, int size)
{
    const struct launch_note *mine = &notes[0];
    if (mine->started && mine->started != size) {
        const bool slurm = strncmp(mine->size_variable, "SLURM_", 6) == 0;
        return status_set(
            STATUS_LAUNCH, "MPI connects %d rank%s, but %s says that %d were started: %s",
            size, size > 1 ? "s" : "", mine->size_variable, mine->started,
            slurm
                ? "start yoke with srun --mpi=pmix or with mpirun (or unset the variable "
                  "to run one process)"
                : "this mpirun belongs to another MPI than the one yoke is linked with; "
                  "use that one's mpirun (ldd shows which libmpi it is)");
    }
    char ranks[300];
    int n = name_ranks(ranks, sizeof ranks, notes, size, mine, same_binary, false);
    if (n > 0)
        return status_set(STATUS_LAUNCH,
                          "%s run%s another yoke binary than rank 0 on %s: install the "
                          "same build on all hosts",
                          ranks, n == 1 ? "s" : "", mine->host);
    n = name_ranks(ranks, sizeof ranks, notes, size, mine, same_libraries, false);
    for (int r = 0; n > 0; r++) {
        if (same_libraries(&notes[r], mine)) continue;
        char here[64], there[64];
        first_difference(mine->libraries, notes[r].libraries, here, there);
        return status_set(
            STATUS_LAUNCH,
            "%s %s other versions of libraries than rank 0 on %s: %s instead of "
            "%s; install or load the same on all hosts",
            ranks, n == 1 ? "has" : "have", mine->host, there, here);
    }
    n = name_ranks(ranks, sizeof ranks, notes, size, mine, same_config, false);
    if (n > 0)
        return status_set(STATUS_LAUNCH,
                          "%s %s another configuration than rank 0 on %s: give all ranks "
                          "the same file and the same --set",
                          ranks, n == 1 ? "has" : "have", mine->host);
    return STATUS_OK;
}

static bool same_cores(const struct launch_note *a, const struct launch_note *b)
{
    return memcmp(a->cores, b->cores, sizeof a->cores) == 0;
}

static bool share_a_core(const struct launch_note *a, const struct launch_note *b)
{
    for (int i = 0; i < LAUNCH_MASK_WORDS; i++)
        if (a->cores[i] & b->cores[i]) return true;
    return false;
}

void launch_divide(const struct launch_note *notes, int size, int rank, int wanted,
                   struct launch_share *s)
{
    const struct launch_note *mine = &notes[rank];
    int on_host = 0;
    *s = (struct launch_share){.threads = wanted};
    memcpy(s->cores, mine->cores, sizeof s->cores);
    for (int r = 0; r < size; r++) {
        if (!same_host(&notes[r], mine)) continue;
        on_host++;
        if (same_cores(&notes[r], mine)) {
            s->n_ranks++;
            s->index += r < rank;
        } else if (share_a_core(&notes[r], mine)) {
            s->overlaps = true;
        }
    }
    if (wanted > 0) return;
    s->threads = mine->physical_cores / s->n_ranks;
    const int quota = mine->quota_cores;
    if (quota && quota / on_host < s->threads) s->threads = quota / on_host;
    if (s->threads < 1) s->threads = 1;
}

int launch_threads(const struct launch_note *notes, int size, int rank, int wanted)
{
    struct launch_share s;
    launch_divide(notes, size, rank, wanted, &s);
    return s.threads;
}

/* What the ranks of one host have between them. */
struct host {
    int n_ranks, n_threads;
    int least_threads, most_threads, fewest_cores;
    int cores, all_cores; /* that some rank may use; that the launcher has */
};

static struct host survey(const struct launch_note *notes, int size, int rank, int wanted)
{
    struct host h = {.least_threads = INT_MAX, .fewest_cores = INT_MAX};
    uint64_t any[LAUNCH_MASK_WORDS] = {0};
    for (int r = 0; r < size; r++) {
        if (!same_host(&notes[r], &notes[rank])) continue;
        const int threads = launch_threads(notes, size, r, wanted);
        const int cores = launch_count_cores(notes[r].cores);
        h.n_ranks++;
        h.n_threads += threads;
        if (threads < h.least_threads) h.least_threads = threads;
        if (threads > h.most_threads) h.most_threads = threads;
        if (cores < h.fewest_cores) h.fewest_cores = cores;
        if (notes[r].host_cores > h.all_cores) h.all_cores = notes[r].host_cores;
        for (int i = 0; i < LAUNCH_MASK_WORDS; i++) any[i] |= notes[r].cores[i];
    }
    h.cores = launch_count_cores(any);
    return h;
}

/* The option that gives every rank of the host its share of all cores. */
static void cure(const struct launch_note *n, const struct host *h, char *out,
                 size_t bytes)
{
    const int each = h->all_cores / h->n_ranks > 1 ? h->all_cores / h->n_ranks : 1;
    const int physical = each * n->physical_cores / launch_count_cores(n->cores);
    if (strncmp(n->size_variable, "SLURM_", 6) == 0)
        snprintf(out, bytes, "start with srun --cpus-per-task=%d", each);
    else
        snprintf(out, bytes,
                 "start with mpirun --bind-to none, or --map-by ppr:%d:node:PE=%d",
                 h->n_ranks, physical > 1 ? physical : 1); /* PE counts physical cores */
}

void launch_describe(const struct launch_note *notes, int size, int rank, int wanted,
                     char *line, char *warning, size_t bytes)
{
    const struct launch_note *n = &notes[rank];
    const struct host h = survey(notes, size, rank, wanted);
    char ranks[300], threads[48], option[128];
    name_ranks(ranks, sizeof ranks, notes, size, n, same_host, true);
    if (h.least_threads == h.most_threads)
        snprintf(threads, sizeof threads, "%d thread%s", h.least_threads,
                 h.least_threads > 1 ? "s" : "");
    else
        snprintf(threads, sizeof threads, "%d to %d threads", h.least_threads,
                 h.most_threads);
    snprintf(line, bytes, "host %s: %s, %d core%s, %s%s%s", n->host, ranks, h.cores,
             h.cores > 1 ? "s" : "", threads, h.n_ranks > 1 ? " each" : "",
             h.n_threads > h.cores ? " (more threads than cores)" : "");

    warning[0] = '\0';
    cure(n, &h, option, sizeof option);
    if (wanted > h.fewest_cores && (int64_t)wanted * h.n_ranks <= h.all_cores)
        snprintf(
            warning, bytes,
            "host %s: train.threads is %d, but a rank may use only %d of %d cores: %s",
            n->host, wanted, h.fewest_cores, h.all_cores, option);
    else if (wanted && h.n_threads > h.all_cores)
        snprintf(
            warning, bytes,
            "host %s: %d threads in all on %d cores: train.threads 0 picks what fits; "
            "or set OMP_WAIT_POLICY=passive, so that those that wait leave their cores "
            "to the others",
            n->host, h.n_threads, h.all_cores);
    else if (!wanted && h.cores < h.all_cores && h.fewest_cores == 1)
        snprintf(warning, bytes,
                 "host %s: pinning to 1 core a rank leaves %d of %d cores idle: %s",
                 n->host, h.all_cores - h.cores, h.all_cores, option);
}

/* Rank 0 speaks for all hosts. */
static void report(const struct launch_note *notes, int size, int wanted)
{
    for (int rank = 0; rank < size; rank++) {
        bool first = true; /* of its host */
        for (int r = 0; r < rank; r++)
            if (same_host(&notes[r], &notes[rank])) first = false;
        if (!first) continue;
        char line[1024], warning[1024];
        launch_describe(notes, size, rank, wanted, line, warning, sizeof line);
        log_info("%s", line);
        if (warning[0]) log_warn("%s", warning);
    }
}

status_t launch_check(struct comm *world, const char *config_text, int threads_wanted,
                      struct launch_share *share)
{
    const int rank = comm_rank(world), size = comm_size(world);
    struct launch_note mine;
    struct launch_note *notes = NULL;
    status_t st = launch_note_take(&mine, config_text);
    if (st == STATUS_OK) {
        notes = malloc((size_t)size * sizeof *notes);
        if (!notes)
            st = status_set(STATUS_NOMEM, "no memory for notes of %d ranks", size);
    }
    st = comm_agree(world, st);
    if (st != STATUS_OK) goto out;
    comm_gather_all(world, &mine, sizeof mine, notes);
    st = launch_judge(notes, size); /* the same notes everywhere, so the same verdict */
    if (st != STATUS_OK) goto out;
    launch_divide(notes, size, rank, threads_wanted, share);
    if (rank == 0) report(notes, size, threads_wanted);
out:
    free(notes);
    return st;
}
