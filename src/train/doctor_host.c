/* One machine: processor, memory, limits, shared memory. */
#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nn/nn.h"
#include "train/doctor_impl.h"

void doctor_line(struct doctor_report *r, const char *key, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(r->out, "  %-14s ", key);
    vfprintf(r->out, fmt, args);
    fputc('\n', r->out);
    va_end(args);
}

void doctor_advice(struct doctor_report *r, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("  ! ", r->out);
    vfprintf(r->out, fmt, args);
    fputc('\n', r->out);
    va_end(args);
    r->n_advices++;
}

const char *doctor_bytes(double bytes)
{
    enum { TEXTS = 4 };
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    static _Thread_local char texts[TEXTS][32];
    static _Thread_local int next;
    char *text = texts[next++ % TEXTS];
    int unit = 0;
    for (; bytes >= 1024 && unit < 5; unit++) bytes /= 1024;
    snprintf(text, sizeof texts[0], unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

/* How many folders a pattern matches. */
static int count_matches(const char *pattern)
{
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0) return 0;
    const int n = (int)found.gl_pathc;
    globfree(&found);
    return n;
}

static void cpu_section(struct doctor_report *r, const struct launch_note *here)
{
    struct device *cpu = NULL;
    struct nn *nn = NULL;
    struct device_info info = {0};
    char cores[256];
    const int n = launch_count_cores(here->cores);
    const int nodes = count_matches("/sys/devices/system/node/node[0-9]*");
    const char *isa = "?";
    if (device_open(&cpu, "cpu", 0) == STATUS_OK) {
        device_describe(cpu, &info);
        if (nn_create(&nn, cpu, 1, 0) == STATUS_OK) isa = nn_isa(nn, DTYPE_F32);
    }
    launch_name_cores(here->cores, cores, sizeof cores);
    doctor_line(r, "processor", "%s; kernels for %s; products of bf16 %s",
                info.model[0] ? info.model : "?", isa,
                nn_cpu_bf16() ? nn_cpu_bf16() : "no faster than fp32");
    doctor_line(r, "cores",
                "this rank may use %d of %ld: %s; %d physical; %d NUMA node%s", n,
                sysconf(_SC_NPROCESSORS_ONLN), cores, here->physical_cores,
                nodes ? nodes : 1, nodes > 1 ? "s" : "");
    if (here->quota_cores > 0 && here->quota_cores < n)
        doctor_advice(r,
                      "the container may use the time of %d cores only: raise its CPU "
                      "limit, or train.threads %d",
                      here->quota_cores, here->quota_cores);
    nn_destroy(&nn);
    device_close(&cpu);
}

/* "MemAvailable:  123 kB" of /proc/meminfo in bytes; 0 if it is not there. */
static double memory_field(const char *field)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtod(line + strlen(field), NULL);
    if (f) fclose(f);
    return kib * 1024;
}

static const char *limit_text(int resource, bool is_bytes)
{
    static _Thread_local char text[32];
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) return "?";
    if (limit.rlim_cur == RLIM_INFINITY) return "unlimited";
    if (is_bytes) return doctor_bytes((double)limit.rlim_cur);
    snprintf(text, sizeof text, "%llu", (unsigned long long)limit.rlim_cur);
    return text;
}

/* The word in brackets of a file that lists what a setting may be; "?" without one. */
static void chosen_word(const char *path, char *word, size_t bytes)
{
    char line[128] = "";
    FILE *f = fopen(path, "r");
    if (!f || !fgets(line, sizeof line, f)) line[0] = '\0';
    if (f) fclose(f);
    const char *open = strchr(line, '[');
    snprintf(word, bytes, "%.*s", open ? (int)strcspn(open + 1, "]") : 1,
             open ? open + 1 : "?");
}

/* A rank that has company on its host keeps weights, gradients and activations in shared memory. */
static void large_pages(struct doctor_report *r)
{
    char own[32], shared[32];
    chosen_word("/sys/kernel/mm/transparent_hugepage/enabled", own, sizeof own);
    chosen_word("/sys/kernel/mm/transparent_hugepage/shmem_enabled", shared,
                sizeof shared);
    doctor_line(r, "large pages", "of a rank's own memory %s, of shared memory %s", own,
                shared);
    if (strcmp(own, "never") == 0)
        doctor_advice(r, "the kernel gives no large pages: echo madvise "
                         ">/sys/kernel/mm/transparent_hugepage/enabled");
}

static void memory_section(struct doctor_report *r)
{
    struct rlimit locked;
    doctor_line(r, "memory", "%s, of which %s are available",
                doctor_bytes(memory_field("MemTotal:")),
                doctor_bytes(memory_field("MemAvailable:")));
    doctor_line(r, "limits", "address space %s, locked memory %s, open files %s",
                limit_text(RLIMIT_AS, true), limit_text(RLIMIT_MEMLOCK, true),
                limit_text(RLIMIT_NOFILE, false));
    large_pages(r);
    if (getrlimit(RLIMIT_AS, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY)
        doctor_advice(r,
                      "the address space is limited, which CUDA does not bear: ulimit -v "
                      "unlimited");
    if (count_matches("/sys/class/infiniband/*") > 0 &&
        getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY)
        doctor_advice(r,
                      "InfiniBand works in locked memory, of which only %s are allowed: "
                      "ulimit -l unlimited",
                      limit_text(RLIMIT_MEMLOCK, true));
}

void doctor_host(struct doctor_report *r, const struct launch_note *here, int n_ranks)
{
    char mpi[256];
    fprintf(r->out, "\nhost %s (%d rank%s)\n", here->host, n_ranks,
            n_ranks > 1 ? "s" : "");
    cpu_section(r, here);
    memory_section(r);
    comm_describe_mpi(mpi, sizeof mpi);
    doctor_line(r, "MPI", "%s", mpi);
}

/* ---- what ranks of one host talk through ----------------------------------------------------- */

/* May another process of this user read our memory?  0, or the errno.  Open MPI's ranks do so
 * ("cma"); containers and hardened kernels forbid it. */
static int probe_single_copy(void)
{
    static volatile long word = 0x5eed;
    const pid_t parent = getpid();
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* as Open MPI does */
    const pid_t child = fork();
    if (child < 0) return errno;
    if (child == 0) {
        long got = 0;
        struct iovec here = {&got, sizeof got}, there = {(void *)&word, sizeof word};
        word = 1; /* of the child alone: it must not read its own */
        const ssize_t n = process_vm_readv(parent, &here, 1, &there, 1, 0);
        const int failure = n < 0 ? errno : EIO;
        _exit(n == (ssize_t)sizeof got && got == 0x5eed ? 0 : failure);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return EIO;
    return WEXITSTATUS(status);
}

void doctor_shared_memory(struct doctor_report *r, int n_ranks)
{
    static const double wanted = 64.0 * 1024 * 1024; /* a rank: Open MPI and NCCL */
    struct statvfs shm;
    if (statvfs("/dev/shm", &shm) != 0) {
        doctor_line(r, "/dev/shm", "none: %s", strerror(errno));
        doctor_advice(
            r, "ranks of this host need shared memory: mount a tmpfs on /dev/shm, or "
               "mpirun --mca btl_vader_backing_directory /tmp");
    } else {
        const double all = (double)shm.f_blocks * (double)shm.f_frsize;
        const double left = (double)shm.f_bavail * (double)shm.f_frsize;
        doctor_line(r, "/dev/shm", "%s, of which %s are free", doctor_bytes(all),
                    doctor_bytes(left));
        if (left < wanted * n_ranks)
            doctor_advice(
                r,
                "/dev/shm should have %s a rank: start the container with "
                "--shm-size=1g, or mpirun --mca btl_vader_backing_directory /tmp",
                doctor_bytes(wanted));
    }
    const int failure = probe_single_copy();
    doctor_line(r, "single copy", "%s%s",
                failure ? "not allowed: process_vm_readv: "
                        : "ranks may read each other's "
                          "memory (process_vm_readv)",
                failure ? strerror(failure) : "");
    if (failure)
        doctor_advice(
            r, "messages between ranks of this host are copied twice; Open MPI is told "
               "so by OMPI_MCA_btl_vader_single_copy_mechanism=none, a container "
               "allows it with --cap-add=SYS_PTRACE");
}
