/* A library for LD_PRELOAD that makes the file system fail when and how it is told, so that the real
 * program, libhdf5 included, can be tried.
 *
 *   YOKE_FAULTS_ROOT    the run folder; counted are calls that change it itself or step-* in it
 *   YOKE_FAULTS_RANK    only this rank (of mpirun; 0 without) is disturbed
 *   YOKE_FAULTS         WHAT@FIRST or WHAT@FIRST-LAST: from the FIRST-th counted call to the LAST-th
 *   YOKE_FAULTS_TRACE   a file that gets one line a counted call
 *   YOKE_FAULTS_BACKUP  an empty folder on the same file system, for `power`
 *
 * WHAT is
 *   kill     the process kills itself before the call
 *   power    the same, and what no fsync has made durable is lost: written files lose their second
 *            half; files made, renamed or removed are as before unless their folder was synced
 *   ENOSPC, EIO    the call fails
 *   short    a write writes half */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILES = 4096, MAX_UNDO = 4096 };
enum what { NOTHING, KILL, POWER, FAIL, SHORT };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static bool ready, chosen;
static char root[PATH_MAX], backup[PATH_MAX];
static enum what what;
static int fail_errno, trace = -1;
static long first, last, calls;

static char dirty[MAX_FILES][PATH_MAX]; /* written since their fsync */
static int n_dirty;

/* What happened to a folder since it was synced, to be taken back last first. */
enum change { MADE, MADE_FOLDER, REMOVED, RENAMED };
static struct undo {
    enum change change;
    char path[PATH_MAX], from[PATH_MAX];
    int kept; /* number of the file in `backup` that was there before; -1: none */
} undos[MAX_UNDO];
static int n_undos, n_kept;

/* The real ones. */
static int (*real_open)(const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_rmdir)(const char *);

static void *find(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (!p) abort();
    return p;
}

static void parse(const char *text)
{
    char name[16];
    if (!text || sscanf(text, "%15[A-Za-z]@%ld-%ld", name, &first, &last) < 2) return;
    if (last == 0) last = first;
    what = strcmp(name, "kill") == 0    ? KILL
           : strcmp(name, "power") == 0 ? POWER
           : strcmp(name, "short") == 0 ? SHORT
                                        : FAIL;
    fail_errno = strcmp(name, "EIO") == 0 ? EIO : ENOSPC;
}

/* POSIX lets dlsym's result be called; ISO C does not know how to say so. */
#define REAL(f) *(void **)&real_##f = find(#f)

static void set_up(void)
{
    if (ready) return;
    ready = true;
    REAL(open), REAL(write), REAL(pwrite), REAL(ftruncate), REAL(fsync), REAL(rename);
    REAL(unlink), REAL(unlinkat), REAL(mkdir), REAL(rmdir);
    const char *r = getenv("YOKE_FAULTS_ROOT"), *b = getenv("YOKE_FAULTS_BACKUP");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *mine = getenv("YOKE_FAULTS_RANK");
    const char *t = getenv("YOKE_FAULTS_TRACE");
    chosen = r && strcmp(rank ? rank : "0", mine ? mine : "0") == 0;
    snprintf(root, sizeof root, "%s", r ? r : "");
    snprintf(backup, sizeof backup, "%s", b ? b : "");
    if (chosen) parse(getenv("YOKE_FAULTS"));
    if (chosen && t)
        trace = real_open(t, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* ---- which calls count ------------------------------------------------------------------------- */

static bool counted(const char *path)
{
    const size_t n = strlen(root);
    if (!chosen || strncmp(path, root, n) != 0) return false;
    return path[n] == '\0' || strncmp(path + n, "/step-", 6) == 0;
}

static void absolute(char out[PATH_MAX], const char *path)
{
    char here[PATH_MAX];
    if (path[0] == '/' || !getcwd(here, sizeof here))
        snprintf(out, PATH_MAX, "%s", path);
    else if (snprintf(out, PATH_MAX, "%s/%s", here, path) >= PATH_MAX)
        abort();
}

static void path_of(char out[PATH_MAX], int fd)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = '\0';
}

static bool same_parent(const char *path, const char *folder)
{
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) : 0;
    return n == strlen(folder) && strncmp(path, folder, n) == 0;
}

/* ---- what a power cut leaves -------------------------------------------------------------------- */

static void keep_name(char out[PATH_MAX], int k)
{
    if (snprintf(out, PATH_MAX, "%s/%d", backup, k) >= PATH_MAX) abort();
}

/* A second name for what is at `path`, so that it can come back; -1 if nothing is. */
static int keep(const char *path)
{
    char name[PATH_MAX];
    keep_name(name, n_kept);
    return link(path, name) == 0 ? n_kept++ : -1;
}

static void remember(enum change change, const char *path, const char *from, int kept)
{
    if (what != POWER) return;
    if (n_undos == MAX_UNDO) abort();
    struct undo *u = &undos[n_undos++];
    u->change = change;
    u->kept = kept;
    snprintf(u->path, sizeof u->path, "%s", path);
    snprintf(u->from, sizeof u->from, "%s", from ? from : "");
}

static void mark_dirty(const char *path)
{
    if (what != POWER) return;
    for (int i = 0; i < n_dirty; i++)
        if (strcmp(dirty[i], path) == 0) return;
    if (n_dirty == MAX_FILES) abort();
    snprintf(dirty[n_dirty++], PATH_MAX, "%s", path);
}

/* A file, or what happened in a folder, is durable from now on. */
static void mark_durable(const char *path)
{
    for (int i = 0; i < n_dirty; i++)
        if (strcmp(dirty[i], path) == 0) {
            memmove(dirty[i], dirty[n_dirty - 1], PATH_MAX);
            n_dirty--;
            break;
        }
    int n = 0;
    for (int i = 0; i < n_undos; i++)
        if (!same_parent(undos[i].path, path)) undos[n++] = undos[i];
    n_undos = n;
}

static void rename_dirty(const char *from, const char *to)
{
    for (int i = 0; i < n_dirty; i++)
        if (strcmp(dirty[i], from) == 0) snprintf(dirty[i], PATH_MAX, "%s", to);
}

static void put_back(const struct undo *u)
{
    char name[PATH_MAX];
    if (u->kept < 0) return;
    keep_name(name, u->kept);
    (void)!link(name, u->path);
}

static void lose_power(void)
{
    for (int i = 0; i < n_dirty; i++) {
        struct stat s;
        if (stat(dirty[i], &s) == 0) (void)!truncate(dirty[i], s.st_size / 2);
    }
    while (n_undos > 0) {
        const struct undo *u = &undos[--n_undos];
        if (u->change == MADE) real_unlink(u->path);
        if (u->change == MADE_FOLDER) real_rmdir(u->path);
        if (u->change == RENAMED) real_rename(u->path, u->from);
        if (u->change == REMOVED || u->change == RENAMED) put_back(u);
    }
}

/* ---- one counted call ----------------------------------------------------------------------------- */

/* True: it is to fail, errno is set.  *half: it is to write half.  Locks until `done`. */
static bool disturb(const char *call, const char *path, bool *half)
{
    pthread_mutex_lock(&mutex);
    calls++;
    if (half) *half = false;
    if (trace >= 0) dprintf(trace, "%ld %s %s\n", calls, call, path + strlen(root));
    if (what == NOTHING || calls < first || calls > last) return false;
    if (what == POWER) lose_power();
    if (what == POWER || what == KILL) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (what == SHORT) {
        if (half) *half = true;
        return false;
    }
    errno = fail_errno;
    return true;
}

static void done(void)
{
    const int error = errno;
    pthread_mutex_unlock(&mutex);
    errno = error;
}

/* ---- what the program calls instead ------------------------------------------------------------------ */

static int any_open(const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    set_up();
    absolute(full, path);
    if (!(flags & (O_CREAT | O_TRUNC)) || !counted(full))
        return real_open(path, flags, mode);
    int fd = -1;
    if (!disturb("open", full, NULL)) {
        const bool there = access(full, F_OK) == 0;
        fd = real_open(path, flags, mode);
        if (fd >= 0 && !there) remember(MADE, full, NULL, -1);
        if (fd >= 0 && flags & O_TRUNC) mark_dirty(full);
    }
    done();
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return any_open(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return any_open(path, flags, mode);
}

static ssize_t any_write(int fd, const void *data, size_t n, off_t at, bool seek)
{
    char path[PATH_MAX];
    bool half;
    ssize_t written = -1;
    set_up();
    if (chosen) path_of(path, fd);
    if (!chosen || !counted(path))
        return seek ? real_pwrite(fd, data, n, at) : real_write(fd, data, n);
    if (!disturb("write", path, &half)) {
        const size_t m = half && n > 1 ? n / 2 : n;
        written = seek ? real_pwrite(fd, data, m, at) : real_write(fd, data, m);
        mark_dirty(path);
    }
    done();
    return written;
}

ssize_t write(int fd, const void *data, size_t n)
{
    return any_write(fd, data, n, 0, false);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    return any_write(fd, data, n, at, true);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off_t at);
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at)
{
    return any_write(fd, data, n, at, true);
}

static int any_ftruncate(int fd, off_t n)
{
    char path[PATH_MAX];
    set_up();
    path_of(path, fd);
    if (!counted(path)) return real_ftruncate(fd, n);
    int code = -1;
    if (!disturb("ftruncate", path, NULL)) {
        code = real_ftruncate(fd, n);
        mark_dirty(path);
    }
    done();
    return code;
}

int ftruncate(int fd, off_t n)
{
    return any_ftruncate(fd, n);
}

int ftruncate64(int fd, off_t n);
int ftruncate64(int fd, off_t n)
{
    return any_ftruncate(fd, n);
}

static int any_fsync(int fd)
{
    char path[PATH_MAX];
    set_up();
    path_of(path, fd);
    if (!counted(path)) return real_fsync(fd);
    int code = -1;
    if (!disturb("fsync", path, NULL)) {
        code = real_fsync(fd);
        if (code == 0) mark_durable(path);
    }
    done();
    return code;
}

int fsync(int fd)
{
    return any_fsync(fd);
}

int fdatasync(int fd)
{
    return any_fsync(fd);
}

int rename(const char *from, const char *to)
{
    char full_from[PATH_MAX], full_to[PATH_MAX];
    set_up();
    absolute(full_from, from);
    absolute(full_to, to);
    if (!counted(full_to)) return real_rename(from, to);
    int code = -1;
    if (!disturb("rename", full_to, NULL)) {
        const int kept = what == POWER ? keep(full_to) : -1;
        code = real_rename(from, to);
        if (code == 0) {
            remember(RENAMED, full_to, full_from, kept);
            rename_dirty(full_from, full_to);
        }
    }
    done();
    return code;
}

static int remove_file(const char *full, int dir, const char *path, int flags)
{
    int code = -1;
    if (!disturb("unlink", full, NULL)) {
        const int kept = what == POWER ? keep(full) : -1;
        code = real_unlinkat(dir, path, flags);
        if (code == 0 && kept >= 0) remember(REMOVED, full, NULL, kept);
    }
    done();
    return code;
}

int unlink(const char *path)
{
    char full[PATH_MAX];
    set_up();
    absolute(full, path);
    return counted(full) ? remove_file(full, AT_FDCWD, path, 0) : real_unlink(path);
}

int unlinkat(int dir, const char *path, int flags)
{
    char folder[PATH_MAX], full[2 * PATH_MAX];
    set_up();
    if (dir == AT_FDCWD || path[0] == '/')
        absolute(full, path);
    else {
        path_of(folder, dir);
        snprintf(full, sizeof full, "%s/%s", folder, path);
    }
    full[PATH_MAX - 1] = '\0';
    return counted(full) ? remove_file(full, dir, path, flags)
                         : real_unlinkat(dir, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
    char full[PATH_MAX];
    set_up();
    absolute(full, path);
    if (!counted(full)) return real_mkdir(path, mode);
    int code = -1;
    if (!disturb("mkdir", full, NULL)) {
        code = real_mkdir(path, mode);
        if (code == 0) remember(MADE_FOLDER, full, NULL, -1);
    }
    done();
    return code;
}

int rmdir(const char *path)
{
    char full[PATH_MAX];
    set_up();
    absolute(full, path);
    if (!counted(full)) return real_rmdir(path);
    int code = -1;
    if (!disturb("rmdir", full, NULL)) code = real_rmdir(path);
    done();
    return code;
}
