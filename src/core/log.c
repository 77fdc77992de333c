#include "core/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
    int rank, size;
    long long step;
    bool quiet;     /* log_info says nothing */
    bool transient; /* the cursor stands behind a line of log_progress */
    void (*abort_all)(int exit_code);
    pthread_mutex_t lock;
} sink = {.rank = 0, .size = 1, .step = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

void log_init(int rank, int size)
{
    sink.rank = rank;
    sink.size = size;
}

int log_rank(void)
{
    return sink.rank;
}

void log_set_abort(void (*abort_all)(int exit_code))
{
    sink.abort_all = abort_all;
}

void log_set_step(long long step)
{
    sink.step = step;
}

long long log_step(void)
{
    return sink.step;
}

static void emit(const char *level, const char *fmt, va_list args)
{
    char line[4096];
    int n = 0;
    if (sink.size > 1 && level[0])
        n = snprintf(line, sizeof line, "yoke[rank %d]: %s", sink.rank, level);
    else
        n = snprintf(line, sizeof line, "yoke: %s", level);
    vsnprintf(line + n, sizeof line - (size_t)n, fmt, args);
    status_one_line(line);
    pthread_mutex_lock(&sink.lock);
    if (sink.transient) fputs("\r\033[K", stderr);
    sink.transient = false;
    fprintf(stderr, "%s\n", line); /* one write: lines of several ranks do not mix */
    fflush(stderr);
    pthread_mutex_unlock(&sink.lock);
}

bool log_set_quiet(bool quiet)
{
    const bool before = sink.quiet;
    sink.quiet = quiet;
    return before;
}

void log_info(const char *fmt, ...)
{
    if (sink.rank != 0 || sink.quiet) return;
    va_list args;
    va_start(args, fmt);
    emit("", fmt, args);
    va_end(args);
}

void log_warn(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    emit("warning: ", fmt, args);
    va_end(args);
}

void log_error(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    emit("error: ", fmt, args);
    va_end(args);
}

bool log_is_terminal(void)
{
    return isatty(STDERR_FILENO) == 1;
}

void log_progress(const char *fmt, ...)
{
    if (sink.rank != 0 || !log_is_terminal()) return;
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    pthread_mutex_lock(&sink.lock);
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
    sink.transient = true;
    pthread_mutex_unlock(&sink.lock);
}

_Noreturn void log_die(status_t status, const char *file, int line, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    char host[256] = "?";
    gethostname(host, sizeof host - 1);
    if (sink.step >= 0)
        log_error("rank %d on %s, step %lld, %s:%d: %s", sink.rank, host, sink.step, file,
                  line, text);
    else
        log_error("rank %d on %s, %s:%d: %s", sink.rank, host, file, line, text);
    if (sink.abort_all) sink.abort_all(status_exit_code(status));
    _exit(status_exit_code(status));
}
