#include "train/space.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/quota.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"

double space_checkpoint_bytes(int64_t n_parameters)
{
    return 12.0 * 1.01 * (double)n_parameters + 1e6;
}

/* The run folder, or, if it is not made yet, the first of its parents that is there. */
static void existing_folder(char folder[PATH_MAX], const char *run_dir)
{
    snprintf(folder, PATH_MAX, "%s", run_dir);
    while (!file_exists(folder)) {
        char *slash = strrchr(folder, '/');
        if (!slash)
            snprintf(folder, PATH_MAX, ".");
        else
            slash[slash == folder ? 1 : 0] = '\0';
    }
}

/* The device that the file system of `folder` is mounted from; "" where it is none. */
static void mounted_device(char device[PATH_MAX], const char *folder)
{
    struct stat info;
    char line[2 * PATH_MAX], source[PATH_MAX];
    unsigned major, minor;
    device[0] = '\0';
    FILE *f = fopen("/proc/self/mountinfo", "r");
    if (!f || stat(folder, &info) != 0) {
        if (f) fclose(f);
        return;
    }
    while (fgets(line, sizeof line, f)) {
        const char *rest = strstr(line, " - ");
        if (sscanf(line, "%*d %*d %u:%u", &major, &minor) == 2 &&
            makedev(major, minor) == info.st_dev && rest &&
            sscanf(rest, " - %*s %4095s", source) == 1 && source[0] == '/')
            memcpy(device, source, PATH_MAX);
    }
    fclose(f);
}

/* Bytes that the user's quota on that file system leaves; infinite without one, and where the
 * file system does not tell (network file systems tell through what is free). */
static double quota_room(const char *folder)
{
    char device[PATH_MAX];
    struct dqblk quota;
    mounted_device(device, folder);
    if (!device[0] || quotactl((int)QCMD((unsigned)Q_GETQUOTA, USRQUOTA), device,
                               (int)getuid(), (char *)&quota) != 0)
        return 1e300;
    if (quota.dqb_bhardlimit == 0) return 1e300;
    const double limit = (double)quota.dqb_bhardlimit * 1024; /* in blocks of 1 KiB */
    return limit > (double)quota.dqb_curspace ? limit - (double)quota.dqb_curspace : 0;
}

static double free_bytes(const char *folder)
{
    struct statvfs fs;
    if (statvfs(folder, &fs) != 0) return 1e300; /* not every file system tells */
    return (double)fs.f_bavail * (double)fs.f_frsize;
}

/* Checkpoints that are there at once if all are new: one more than stays. */
static double most_at_once(const struct config *c)
{
    const double steps = (double)c->steps;
    const double saves =
        c->checkpoint_interval > 0 ? steps / (double)c->checkpoint_interval + 1 : 1;
    if (c->keep.last == 0 && c->keep.every == 0 && c->keep.best == 0) return saves;
    double kept =
        (double)(c->keep.last > 1 ? c->keep.last : 1) + (double)c->keep.best + 1;
    if (c->keep.every > 0) kept += steps / (double)c->keep.every;
    return kept < saves ? kept : saves;
}

static status_t check_folder(const struct trainer *t)
{
    char folder[PATH_MAX];
    const double need = space_checkpoint_bytes(t->whole.n_real);
    existing_folder(folder, t->config->run_dir);
    const double room = free_bytes(folder), quota = quota_room(folder);
    const double least = quota < room ? quota : room;
    const double all = need * most_at_once(t->config);
    log_info("checkpoint: %.1f MB each, %.1f GB free in %s%s", need * 1e-6, least * 1e-9,
             folder, quota < room ? " (quota)" : "");
    if (need > least)
        return status_set(STATUS_IO,
                          "train.run_dir: a checkpoint takes %.2f GB, %s has %.2f GB %s",
                          need * 1e-9, folder, least * 1e-9,
                          quota < room ? "left of this user's quota" : "free");
    if (all > least)
        log_warn("the checkpoints of the whole run take up to %.1f GB, %s has %.1f GB: "
                 "checkpoint.keep_last, keep_every and keep_best say which stay",
                 all * 1e-9, folder, least * 1e-9);
    return STATUS_OK;
}

/* ulimit -f, for this rank's shard. */
static status_t check_file_limit(const struct trainer *t)
{
    struct rlimit limit;
    const double need = 12.0 * (double)t->plan.owned_elements + 1e6;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        need <= (double)limit.rlim_cur)
        return STATUS_OK;
    return status_set(STATUS_IO,
                      "rank %d: its part of a checkpoint takes %.2f GB, files may have "
                      "%.2f GB (ulimit -f)",
                      comm_rank(t->world), need * 1e-9, (double)limit.rlim_cur * 1e-9);
}

status_t space_check(const struct trainer *t)
{
    status_t st = comm_rank(t->world) == 0 ? check_folder(t) : STATUS_OK;
    if (st == STATUS_OK) st = check_file_limit(t);
    return comm_agree(t->world, st);
}
