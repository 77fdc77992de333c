/* Waiting for other ranks, with an end.
 *
 * A rank whose wait has taken too long cannot know by itself who is to blame: in a collective
 * everybody waits for everybody.  So it tells all ranks of the job what it waits for, and every
 * rank that is waiting too answers in kind, whichever comm it waits on.  Ranks that give no answer
 * within GRACE_SECONDS are named: they hang, are dead, or are busy with something else.  The
 * lowest rank that waits speaks for all and ends the job. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "parallel/comm/comm_mpi_impl.h"

static const double LOOK_SECONDS = 0.01;  /* between looks for words of others */
static const double GRACE_SECONDS = 2;    /* time to answer */
static const double TOLD_SECONDS = 0.3;   /* an honest wait is shorter */
static const double SPEAKER_SECONDS = 10; /* time for the speaker to end the job */

enum { TAG_WORD, NAMED_MAX = 8, YIELD_AFTER = 20, SLEEP_AFTER = 2000 };

struct word {
    char waits_in[96];
    double seconds;
};

struct comm_wait comm_wait_begin(const struct comm *c, const char *operation, int64_t n)
{
    const double now = clock_seconds();
    return (struct comm_wait){.c = c,
                              .operation = operation,
                              .n = n,
                              .start = now,
                              .next_look = now + LOOK_SECONDS};
}

void comm_wait_pause(struct comm_wait *w)
{
    w->n_pauses++;
    if (w->n_pauses > SLEEP_AFTER)
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    else if (w->n_pauses > YIELD_AFTER)
        sched_yield();
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* Take in what others have said; words[rank].waits_in stays empty for the silent. */
static void listen(const struct comm *world, struct word *words)
{
    for (;;) {
        int there = 0;
        MPI_Status status;
        if (MPI_Iprobe(MPI_ANY_SOURCE, TAG_WORD, world->mpi->words, &there, &status) ||
            !there)
            return;
        if (MPI_Recv(&words[status.MPI_SOURCE], sizeof *words, MPI_BYTE,
                     status.MPI_SOURCE, TAG_WORD, world->mpi->words, MPI_STATUS_IGNORE))
            return;
    }
}

static int n_silent(const struct comm *world, const struct word *words)
{
    int n = 0;
    for (int rank = 0; rank < world->size; rank++) n += !words[rank].waits_in[0];
    return n;
}

/* "no answer from rank 2; rank 0 waits in barrier (5.0 s), ..." */
static void describe(const struct comm *world, const struct word *words, char *text,
                     size_t bytes)
{
    size_t at = 0;
    const int silent = n_silent(world, words);
    if (!silent) at += (size_t)snprintf(text, bytes, "every rank waits");
    for (int rank = 0, named = 0; rank < world->size && at < bytes; rank++) {
        if (words[rank].waits_in[0] || named > NAMED_MAX) continue;
        if (named++ == NAMED_MAX)
            at += (size_t)snprintf(text + at, bytes - at, " and %d more",
                                   silent - NAMED_MAX);
        else
            at += (size_t)snprintf(text + at, bytes - at, "%s %d",
                                   named == 1 ? "no answer from rank" : ",", rank);
    }
    for (int rank = 0, named = 0; rank < world->size && at < bytes; rank++) {
        if (!words[rank].waits_in[0] || named++ >= NAMED_MAX) continue;
        at += (size_t)snprintf(text + at, bytes - at, "%s rank %d waits in %s (%.1f s)",
                               named == 1 ? ";" : ",", rank, words[rank].waits_in,
                               words[rank].seconds);
    }
}

static _Noreturn void give_up(const struct comm_wait *w)
{
    const struct comm *world = w->c->world;
    struct word *words = calloc((size_t)world->size, sizeof *words);
    struct word *mine = words ? &words[world->rank] : NULL;
    if (!mine) die_with(STATUS_COMM, "%s took too long", w->operation);
    snprintf(mine->waits_in, sizeof mine->waits_in, w->n > 0 ? "%s of %lld" : "%s",
             w->operation, (long long)w->n);
    mine->seconds = clock_seconds() - w->start;
    const struct word said = *mine;
    for (int rank = 0; rank < world->size; rank++) {
        MPI_Request never_asked; /* the job ends here */
        if (rank != world->rank)
            MPI_Isend(&said, sizeof said, MPI_BYTE, rank, TAG_WORD, world->mpi->words,
                      &never_asked);
    }
    const double start = clock_seconds();
    while (n_silent(world, words) && clock_seconds() - start < GRACE_SECONDS) {
        listen(world, words);
        nap();
    }
    int speaker = 0;
    while (!words[speaker].waits_in[0]) speaker++;
    while (speaker != world->rank && clock_seconds() - start < SPEAKER_SECONDS) {
        listen(world, words); /* MPI moves on only inside its calls */
        nap();
    }
    double longest = 0;
    for (int rank = 0; rank < world->size; rank++)
        if (words[rank].seconds > longest) longest = words[rank].seconds;
    char text[1500];
    describe(world, words, text, sizeof text);
    if (world->line) world->library->abort(comm_line(w->c));
    die_with(STATUS_COMM, "waited %.1f s for other ranks (the limit is %g): %s", longest,
             w->c->timeout_seconds, text);
}

/* The clock says it is time, and the next time is set. */
static bool due(struct comm_wait *w, double now)
{
    if (now < w->next_look) return false;
    w->next_look = now + LOOK_SECONDS;
    return true;
}

void comm_set_told(struct comm *world, bool (*told)(void))
{
    CHECK(world->world == world);
    world->told = told;
}

/* Once in a wait. */
static void say_where(const struct comm_wait *w, double now)
{
    struct comm *world = w->c->world;
    char host[256] = "?";
    if (!world->told || world->said || now - w->start < TOLD_SECONDS || !world->told())
        return;
    world->said = true;
    gethostname(host, sizeof host - 1);
    log_warn(
        "rank %d on %s, step %lld: told to end while waiting (%.1f s) for other ranks in "
        "%s of %lld: one of them may have died",
        world->rank, host, log_step(), now - w->start, w->operation, (long long)w->n);
}

static void look(const struct comm_wait *w, double now)
{
    say_where(w, now);
    const double limit = w->c->timeout_seconds;
    int somebody_gave_up = 0;
    /* also without a limit: MPI may have to move what others wait for */
    if (MPI_Iprobe(MPI_ANY_SOURCE, TAG_WORD, w->c->world->mpi->words, &somebody_gave_up,
                   MPI_STATUS_IGNORE) == MPI_SUCCESS &&
        somebody_gave_up)
        give_up(w);
    if (limit > 0 && now - w->start > limit) give_up(w);
}

void comm_wait_look(struct comm_wait *w)
{
    const double now = clock_seconds();
    if (due(w, now)) look(w, now);
}

void comm_wait_more(struct comm_wait *w)
{
    comm_progress(w->c->world);
    const double now = clock_seconds();
    if (!due(w, now)) return;
    look(w, now); /* first: this wait says more than the device's */
    if (w->c->world->requests) comm_watch(w->c->world);
}
