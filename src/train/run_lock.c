#include "train/run_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config/env.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"

enum { TEXT_BYTES = 512, BEATS = 6, POLLS = 60 };

struct run_lock {
    char path[PATH_MAX];
    struct run_lock_holder me;
    int64_t beat;
    double beat_seconds;
    bool made; /* the folder, for this lock */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stop;
};

/* ---- who is who ------------------------------------------------------------------------------- */

/* When process `pid` was started; -1 if there is none, or only its remains. */
static int64_t process_start(int64_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    /* the name, in brackets, may hold anything; the state follows, the start is 19 fields on */
    const char *at = strrchr(text, ')');
    if (!at || strlen(at) < 3 || at[2] == 'Z' || at[2] == 'X') return -1;
    for (int field = 0; at && field < 20; field++) at = strchr(at + 1, ' ');
    return at ? strtoll(at, NULL, 10) : -1;
}

static void read_line(const char *path, char *out, size_t bytes)
{
    FILE *f = fopen(path, "r");
    out[0] = '\0';
    if (f && fgets(out, (int)bytes, f)) out[strcspn(out, "\n")] = '\0';
    if (f) fclose(f);
}

static void copy_text(char *out, size_t bytes, const char *text)
{
    snprintf(out, bytes, "%.*s", (int)bytes - 1, text ? text : "");
}

static struct run_lock_holder myself(void)
{
    struct run_lock_holder h = {.pid = getpid(), .start = process_start(getpid())};
    const char *restart = config_env("SLURM_RESTART_COUNT");
    gethostname(h.host, sizeof h.host - 1);
    read_line("/proc/sys/kernel/random/boot_id", h.boot, sizeof h.boot);
    if (readlink("/proc/self/ns/pid", h.namespace, sizeof h.namespace - 1) < 0)
        h.namespace[0] = '\0';
    copy_text(h.job, sizeof h.job, config_env("SLURM_JOB_ID"));
    h.restart = restart ? strtoll(restart, NULL, 10) : 0;
    return h;
}

enum run_lock_verdict run_lock_judge(const struct run_lock_holder *theirs,
                                     const struct run_lock_holder *mine, bool alive)
{
    const bool here = strcmp(theirs->host, mine->host) == 0 &&
                      strcmp(theirs->boot, mine->boot) == 0 &&
                      strcmp(theirs->namespace, mine->namespace) == 0;
    if (here) return alive ? RUN_LOCK_HELD : RUN_LOCK_STALE;
    const bool same_job = mine->job[0] && strcmp(theirs->job, mine->job) == 0;
    return same_job && theirs->restart < mine->restart ? RUN_LOCK_STALE
                                                       : RUN_LOCK_UNKNOWN;
}

/* ---- the text --------------------------------------------------------------------------------- */

/* Always TEXT_BYTES long, so that it is replaced by one write. */
static void format(const struct run_lock_holder *h, int64_t beat, char text[TEXT_BYTES])
{
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:I, s:I}", "host", h->host, "boot",
                  h->boot, "namespace", h->namespace, "pid", (json_int_t)h->pid, "start",
                  (json_int_t)h->start, "job", h->job, "restart", (json_int_t)h->restart,
                  "beat", (json_int_t)beat);
    memset(text, ' ', TEXT_BYTES);
    const size_t n = o ? json_dumpb(o, text, TEXT_BYTES - 1, 0) : 0;
    if (n == 0 || n > TEXT_BYTES - 1) die("the lock of a run cannot be written down");
    text[TEXT_BYTES - 1] = '\n';
    json_decref(o);
}

static bool parse(const char text[TEXT_BYTES], struct run_lock_holder *h)
{
    const char *host, *boot, *namespace, *job;
    json_int_t pid, start, restart, beat;
    json_t *o = json_loadb(text, strnlen(text, TEXT_BYTES), 0, NULL);
    const bool ok =
        o && json_unpack(o, "{s:s, s:s, s:s, s:I, s:I, s:s, s:I, s:I}", "host", &host,
                         "boot", &boot, "namespace", &namespace, "pid", &pid, "start",
                         &start, "job", &job, "restart", &restart, "beat", &beat) == 0;
    if (ok) {
        *h = (struct run_lock_holder){.pid = pid, .start = start, .restart = restart};
        copy_text(h->host, sizeof h->host, host);
        copy_text(h->boot, sizeof h->boot, boot);
        copy_text(h->namespace, sizeof h->namespace, namespace);
        copy_text(h->job, sizeof h->job, job);
    }
    json_decref(o);
    return ok;
}

static bool same_holder(const struct run_lock_holder *a, const struct run_lock_holder *b)
{
    return a->pid == b->pid && a->start == b->start && strcmp(a->host, b->host) == 0 &&
           strcmp(a->boot, b->boot) == 0 && strcmp(a->namespace, b->namespace) == 0;
}

/* False if there is no lock; the text is all zero where the file is shorter. */
static bool read_text(const char *path, char text[TEXT_BYTES])
{
    memset(text, 0, TEXT_BYTES);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    if (pread(fd, text, TEXT_BYTES, 0) < 0) memset(text, 0, TEXT_BYTES);
    close(fd);
    return true;
}

static bool write_text(const char *path, int flags, const char text[TEXT_BYTES])
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
    if (fd < 0) return false;
    const bool ok = pwrite(fd, text, TEXT_BYTES, 0) == TEXT_BYTES;
    const int error = errno;
    const bool closed = close(fd) == 0; /* other machines see it from here on */
    if (!ok) errno = error;
    return ok && closed;
}

/* ---- while it is held --------------------------------------------------------------------------- */

/* Is there somebody else's lock in place of this one? */
static bool is_lost(const struct run_lock *l)
{
    char text[TEXT_BYTES];
    struct run_lock_holder found;
    return read_text(l->path, text) && parse(text, &found) &&
           !same_holder(&found, &l->me);
}

static void beat(struct run_lock *l)
{
    char text[TEXT_BYTES];
    if (is_lost(l)) return;
    format(&l->me, ++l->beat, text);
    /* one that is gone is made again; that it cannot be written is no reason to stop */
    if (!write_text(l->path, 0, text) && errno == ENOENT)
        (void)!write_text(l->path, O_CREAT | O_EXCL, text);
}

static void *keep_beating(void *lock)
{
    struct run_lock *l = lock;
    pthread_mutex_lock(&l->mutex);
    while (!l->stop) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        const double at = (double)until.tv_nsec * 1e-9 + l->beat_seconds;
        until.tv_sec += (time_t)at;
        until.tv_nsec = (long)((at - (double)(time_t)at) * 1e9);
        pthread_cond_timedwait(&l->wake, &l->mutex, &until);
        if (!l->stop) beat(l);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

static status_t start(struct run_lock *l)
{
    pthread_condattr_t clock;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &clock);
    pthread_condattr_destroy(&clock);
    if (pthread_create(&l->thread, NULL, keep_beating, l) == 0) return STATUS_OK;
    unlink(l->path);
    return status_set(STATUS_NOMEM, "cannot start the thread that keeps %s", l->path);
}

/* ---- getting it --------------------------------------------------------------------------------- */

/* Put a stale lock out of the way.  If by now it is another one, that somebody has just made, it goes
 * back; its owner makes it again if not even that works. */
static void remove_stale(const struct run_lock *l, const char stale[TEXT_BYTES])
{
    char aside[PATH_MAX], text[TEXT_BYTES];
    if (snprintf(aside, sizeof aside, "%s.%s.%" PRId64, l->path, l->me.host, l->me.pid) >=
        PATH_MAX)
        return;
    if (rename(l->path, aside) != 0) return;
    if (read_text(aside, text) && memcmp(text, stale, TEXT_BYTES) != 0)
        (void)!link(aside, l->path);
    unlink(aside);
}

static status_t refuse(const struct run_lock *l, const char text[TEXT_BYTES])
{
    struct run_lock_holder h;
    if (!parse(text, &h))
        return status_set(STATUS_LOCKED, "%s: is held by another job", l->path);
    const char *job = h.job[0] ? ", Slurm job " : "";
    return status_set(STATUS_LOCKED,
                      "%s: process %" PRId64
                      " on %s%s%s is training into this folder; stop it, or choose "
                      "another train.run_dir",
                      l->path, h.pid, h.host, job, h.job);
}

/* The lock of somebody else is there: wait until it can be made anew, or is not to be had. */
static status_t wait_for(const struct run_lock *l, double patience)
{
    const double begin = clock_seconds();
    char first[TEXT_BYTES], text[TEXT_BYTES];
    bool told = false;
    if (!read_text(l->path, first)) return STATUS_OK;
    for (;;) {
        struct run_lock_holder h;
        if (!read_text(l->path, text)) return STATUS_OK;
        const bool known = parse(text, &h);
        const enum run_lock_verdict v =
            known ? run_lock_judge(&h, &l->me, process_start(h.pid) == h.start)
                  : RUN_LOCK_UNKNOWN;
        const bool over = clock_seconds() - begin >= patience;
        const bool changed = memcmp(text, first, TEXT_BYTES) != 0;
        if (v == RUN_LOCK_STALE || (v == RUN_LOCK_UNKNOWN && over && !changed)) {
            log_info("%s: is stale, of process %" PRId64 " on %s: taken over", l->path,
                     known ? h.pid : 0, known ? h.host : "an unknown host");
            remove_stale(l, text);
            return STATUS_OK;
        }
        if (over || (v == RUN_LOCK_UNKNOWN && changed && known)) return refuse(l, text);
        if (!told) log_info("%s: is there; is its holder alive?", l->path);
        told = true;
        const struct timespec pause = {.tv_nsec = (long)(patience / POLLS * 1e9)};
        nanosleep(&pause, NULL);
    }
}

static status_t acquire(struct run_lock *l, double patience)
{
    char text[TEXT_BYTES];
    for (;;) {
        format(&l->me, 0, text);
        if (write_text(l->path, O_CREAT | O_EXCL, text)) return start(l);
        if (errno != EEXIST)
            return status_set(STATUS_IO, "%s: cannot make it: %s", l->path,
                              strerror(errno));
        TRY(wait_for(l, patience));
    }
}

status_t run_lock_acquire(struct run_lock **lock, const char *run_dir, double patience)
{
    struct run_lock *l = calloc(1, sizeof *l);
    *lock = NULL;
    if (!l) return status_set(STATUS_NOMEM, "%s: no memory for its lock", run_dir);
    file_join(l->path, sizeof l->path, run_dir, "lock");
    l->me = myself();
    l->beat_seconds = patience / BEATS;
    l->made = !file_is_dir(run_dir);
    status_t st = file_make_dirs(run_dir);
    if (st != STATUS_OK) status_prefix(st, "train.run_dir");
    if (st == STATUS_OK) st = acquire(l, patience);
    if (st == STATUS_OK)
        *lock = l;
    else
        free(l);
    return st;
}

status_t run_lock_check(const struct run_lock *l)
{
    if (!l || !is_lost(l)) return STATUS_OK;
    return status_set(STATUS_LOCKED,
                      "%s: another job took this run for dead and goes on with it",
                      l->path);
}

void run_lock_release(struct run_lock **lock)
{
    struct run_lock *l = *lock;
    if (!l) return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->mutex);
    if (!is_lost(l)) unlink(l->path);
    if (l->made) {
        *strrchr(l->path, '/') = '\0';
        rmdir(l->path); /* stays if the run has put anything into it */
    }
    free(l);
    *lock = NULL;
}
