#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "train/metrics_impl.h"
#include "train/tensorboard.h"

struct metrics {
    char path[PATH_MAX];
    int fd;
    struct tensorboard *events; /* NULL if not wanted, or given up */
    char run_dir[PATH_MAX];
    int64_t n_steps;
    int64_t lost; /* records that could not be written */
    struct metrics_record last;
    double step_seconds; /* smoothed, for the ETA; 0: not known yet */
    double drawn;        /* when the bar was drawn last */
};

static status_t open_file(struct metrics *m)
{
    m->fd = open(m->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (m->fd >= 0) return STATUS_OK;
    return status_set(STATUS_IO, "%s: cannot open: %s", m->path, strerror(errno));
}

status_t metrics_open(struct metrics **m, const char *run_dir, int64_t n_steps,
                      int64_t resumed_step, int64_t resumed_bytes, bool tensorboard)
{
    *m = NULL;
    struct metrics *made = calloc(1, sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for metrics");
    made->fd = -1;
    made->n_steps = n_steps;
    snprintf(made->run_dir, sizeof made->run_dir, "%s", run_dir);
    file_join(made->path, sizeof made->path, run_dir, "metrics.jsonl");

    status_t st = STATUS_OK;
    if (tensorboard) st = tensorboard_open(&made->events, run_dir, resumed_step);
    if (st != STATUS_OK) goto out;
    /* step 0 may have an evaluation; a run from the start writes that again */
    st =
        metrics_truncate(made->path, resumed_step > 0 ? resumed_step : -1, resumed_bytes);
    if (st == STATUS_OK) st = open_file(made);
out:
    if (st != STATUS_OK) {
        tensorboard_close(&made->events);
        free(made);
        return st;
    }
    *m = made;
    return STATUS_OK;
}

/* Append a line whole or not at all. */
static bool append(struct metrics *m, const char *line, size_t bytes)
{
    struct stat before;
    if (fstat(m->fd, &before) != 0) return false;
    ssize_t n = 0;
    do n = write(m->fd, line, bytes);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)bytes) return true;
    if (n >= 0) { /* the disk is full: take the torn line back */
        if (ftruncate(m->fd, before.st_size) != 0) return false;
        errno = ENOSPC;
    }
    return false;
}

static void write_line(struct metrics *m, const char *line, size_t bytes)
{
    if (append(m, line, bytes)) return;
    if (m->lost++ == 0)
        log_warn("%s: cannot write a record: %s; training goes on without it", m->path,
                 strerror(errno));
}

static void write_events(struct metrics *m, int64_t step,
                         const struct tensorboard_scalar *scalars, int n)
{
    if (!m->events) return;
    if (tensorboard_write(m->events, step, scalars, n) == STATUS_OK) return;
    log_warn("%s; no more TensorBoard events", status_message());
    m->lost++;
    tensorboard_close(&m->events);
}

static double eta_seconds(const struct metrics *m, int64_t step)
{
    return m->step_seconds > 0 ? m->step_seconds * (double)(m->n_steps - step)
                               : (double)NAN;
}

static void draw(struct metrics *m, int64_t step)
{
    char line[METRICS_LINE_BYTES];
    progress_bar(line, sizeof line, step, &m->last, m->n_steps, eta_seconds(m, step));
    log_progress("%s", line);
    m->drawn = clock_seconds();
}

void metrics_train(struct metrics *m, const struct metrics_record *r)
{
    char line[METRICS_LINE_BYTES];
    write_line(m, line, metrics_train_line(line, r));
    const struct tensorboard_scalar scalars[] = {
        {"train/loss", r->loss},     {"train/grad_norm", r->grad_norm},
        {"train/lr", r->lr},         {"train/tokens_per_second", r->tokens_per_second},
        {"train/z_loss", r->z_loss}, /* the last: it may be left out */
    };
    const int n = (int)(sizeof scalars / sizeof scalars[0]);
    write_events(m, r->step, scalars, r->z_loss != 0 ? n : n - 1);

    m->last = *r;
    if (isfinite(r->seconds) && r->seconds > 0)
        m->step_seconds =
            m->step_seconds > 0 ? 0.8 * m->step_seconds + 0.2 * r->seconds : r->seconds;
    if (log_is_terminal()) {
        draw(m, r->step);
        return;
    }
    progress_line(line, sizeof line, r, m->n_steps, eta_seconds(m, r->step));
    log_info("%s", line);
}

void metrics_validation(struct metrics *m, const struct metrics_eval *e)
{
    char line[METRICS_LINE_BYTES];
    write_line(m, line, metrics_eval_line(line, e));
    const struct tensorboard_scalar scalar = {"validation/loss", e->loss};
    write_events(m, e->step, &scalar, 1);
    log_info(
        "step %lld/%lld%s%s validation loss %.4f perplexity %.2f over %lld sequences",
        (long long)e->step, (long long)m->n_steps, e->stage ? " " : "",
        e->stage ? e->stage : "", e->loss, e->perplexity, (long long)e->sequences);
}

/* The file may be replaced, so it is opened again. */
status_t metrics_roll_back(struct metrics *m, const struct metrics_rollback *r)
{
    char line[METRICS_LINE_BYTES];
    const bool events = m->events != NULL;
    TRY(metrics_truncate(m->path, r->step, 0));
    close(m->fd);
    m->fd = -1;
    TRY(open_file(m));
    write_line(m, line, metrics_rollback_line(line, r));
    tensorboard_close(&m->events);
    return events ? tensorboard_open(&m->events, m->run_dir, r->step) : STATUS_OK;
}

int64_t metrics_bytes(const struct metrics *m)
{
    struct stat info;
    return fstat(m->fd, &info) == 0 ? (int64_t)info.st_size : 0;
}

void metrics_progress(struct metrics *m, int64_t step)
{
    if (log_is_terminal() && clock_seconds() - m->drawn >= 0.1) draw(m, step);
}

status_t metrics_sync(struct metrics *m)
{
    if (fdatasync(m->fd) == 0 || errno == EINVAL) return STATUS_OK;
    return status_set(STATUS_IO, "%s: cannot fsync: %s", m->path, strerror(errno));
}

status_t metrics_close(struct metrics **m)
{
    struct metrics *closing = *m;
    if (!closing) return STATUS_OK;
    status_t st = STATUS_OK;
    if (closing->fd >= 0 && close(closing->fd) != 0)
        st =
            status_set(STATUS_IO, "%s: cannot close: %s", closing->path, strerror(errno));
    else if (closing->lost > 0)
        st = status_set(STATUS_IO, "%s: %lld records could not be written", closing->path,
                        (long long)closing->lost);
    tensorboard_close(&closing->events);
    free(closing);
    *m = NULL;
    return st;
}
