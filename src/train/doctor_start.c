/* Starting MPI is where a machine with a bad network hangs first, and nothing of ours runs then:
 * hence a thread with a clock. */
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "train/doctor_impl.h"

struct guard {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over;
    double seconds;
};

static void *guard_start(void *context)
{
    struct guard *g = context;
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    /* the first rank speaks; the others a little later, if it cannot */
    end.tv_sec += (time_t)g->seconds + (launch_early_rank() == 0 ? 1 : 3);
    pthread_mutex_lock(&g->lock);
    int rc = 0;
    while (!g->over && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&g->changed, &g->lock, &end);
    const bool over = g->over;
    pthread_mutex_unlock(&g->lock);
    if (over) return NULL;
    status_set(
        STATUS_COMM,
        "MPI did not start within %g s: some rank was not started, or ranks do not reach "
        "each other: see the interfaces above and run again with mpirun --mca "
        "btl_tcp_if_include NAME --mca oob_tcp_if_include NAME",
        g->seconds);
    die_with(STATUS_COMM, "%s", status_message());
}

status_t doctor_start(struct comm **world, const struct doctor_options *o, FILE *report,
                      int *argc, char ***argv)
{
    struct guard g = {.lock = PTHREAD_MUTEX_INITIALIZER,
                      .changed = PTHREAD_COND_INITIALIZER,
                      .seconds = o->limit_seconds};
    pthread_t thread;
    if (launch_early_rank() == 0) {
        char host[256] = "?";
        struct doctor_report r = {.out = report};
        gethostname(host, sizeof host - 1);
        fprintf(report, "yoke %s\n\nnetwork of %s\n", YOKE_VERSION, host);
        doctor_network(&r);
        fflush(report);
    }
    if (pthread_create(&thread, NULL, guard_start, &g) != 0)
        return status_set(STATUS_NOMEM, "no thread to watch MPI start");
    const status_t st = comm_start(world, argc, argv);
    pthread_mutex_lock(&g.lock);
    g.over = true;
    pthread_cond_signal(&g.changed);
    pthread_mutex_unlock(&g.lock);
    pthread_join(thread, NULL);
    return st;
}
