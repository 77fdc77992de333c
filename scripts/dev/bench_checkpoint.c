/* How fast is a checkpoint, against the file system's own speed in the same run?
 *
 *   cc -O2 -std=c11 -D_GNU_SOURCE -Isrc -I. scripts/dev/bench_checkpoint.c \
 *      build/libyoke_checkpoint.a build/libyoke_model.a ... -o /tmp/bench_checkpoint
 *   mpirun -n 1 /tmp/bench_checkpoint FOLDER
 *
 * A model of GPT-2's size, ranges as ZeRO cuts them (124 buckets, each cut among the ranks). */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"

enum { BUCKETS = 124, KINDS = 3, CHUNK = 64 << 20 };

static void must(status_t st)
{
    if (st != STATUS_OK) die("%s", status_message());
}

/* Wall time, and processor time, which a busy machine disturbs less. */
struct watch {
    double wall;
    clock_t cpu;
};

static struct watch begin(void)
{
    return (struct watch){clock_seconds(), clock()};
}

static void report(const char *what, double bytes, struct watch w)
{
    const double wall = clock_seconds() - w.wall;
    const double cpu = (double)(clock() - w.cpu) / CLOCKS_PER_SEC;
    printf("%-24s %6.2f s %6.2f GB/s   %6.2f s cpu\n", what, wall, bytes / wall / 1e9,
           cpu);
    fflush(stdout);
}

/* The same bytes by plain write into a file of known size, and read back warm.  Twice, the
 * second time reported: whoever comes first pays for the pages that the system must clear. */
static void plain(const char *folder, char *data, size_t bytes)
{
    char path[PATH_MAX];
    file_join(path, sizeof path, folder, "plain");
    for (int times = 0; times < 2; times++) {
        struct watch start = begin();
        const int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0666);
        if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) die("cannot make %s", path);
        for (size_t i = 0; i < bytes;) {
            const size_t n = bytes - i < CHUNK ? bytes - i : CHUNK;
            if (pwrite(fd, data + i, n, (off_t)i) != (ssize_t)n) die("write failed");
            i += n;
        }
        if (fsync(fd) != 0) die("fsync failed");
        if (times == 1) report("plain write and fsync", (double)bytes, start);
        start = begin();
        for (size_t i = 0; i < bytes;) {
            const size_t n = bytes - i < CHUNK ? bytes - i : CHUNK;
            if (pread(fd, data + i, n, (off_t)i) != (ssize_t)n) die("read failed");
            i += n;
        }
        if (times == 1) report("plain warm read", (double)bytes, start);
        close(fd);
        unlink(path);
    }
}

int main(int argc, char **argv)
{
    struct comm *world;
    must(comm_start(&world, &argc, &argv));
    const int rank = comm_rank(world), size = comm_size(world);
    struct arch a = {.n_layers = 12,
                     .hidden = 768,
                     .n_heads = 12,
                     .n_kv_heads = 12,
                     .head_size = 64,
                     .ffn = 3072,
                     .vocab_size = 50257,
                     .max_positions = 1024};
    must(arch_family(&a, "gpt2"));
    struct param_table t;
    must(param_table_init(&t, &a));

    struct checkpoint_range ranges[BUCKETS];
    int64_t mine = 0;
    for (int b = 0; b < BUCKETS; b++) {
        int64_t start, n, first;
        comm_slice(t.n_elements, BUCKETS, b, &start, &n);
        comm_slice(n, size, rank, &first, &ranges[b].count);
        ranges[b].start = start + first;
        mine += ranges[b].count;
    }
    float *state = malloc((size_t)mine * KINDS * 4), *at = state;
    if (!state) die("no memory");
    for (int64_t i = 0; i < KINDS * mine; i++)
        state[i] = (float)(i * 2654435761u % 1000003);
    for (int b = 0; b < BUCKETS; b++, at += ranges[b - 1].count) {
        ranges[b].master = at;
        ranges[b].exp_avg = at + mine;
        ranges[b].exp_avg_sq = at + 2 * mine;
    }
    const double bytes = 12.0 * (double)t.n_real;
    if (rank == 0) printf("%lld parameters, %d ranks\n", (long long)t.n_real, size);
    for (int round = 0; round < 5; round++) {
        struct checkpoint_meta meta = {.step = round};
        comm_barrier(world);
        if (size == 1) plain(argv[1], (char *)state, (size_t)mine * KINDS * 4);
        struct watch start = begin();
        must(checkpoint_save(argv[1], world, &t, ranges, BUCKETS, &meta));
        if (rank == 0) report("checkpoint_save", bytes, start);
        char path[PATH_MAX];
        struct checkpoint *c;
        must(checkpoint_find_latest(argv[1], path));
        comm_barrier(world);
        start = begin();
        must(checkpoint_open(&c, path));
        if (rank == 0)
            printf("%-24s %6.4f s\n", "checkpoint_open", clock_seconds() - start.wall);
        start = begin();
        must(checkpoint_read(c, &t, ranges, BUCKETS));
        comm_barrier(world);
        if (rank == 0) report("checkpoint_read, warm", bytes, start);
        start = begin();
        if (rank == 0) must(checkpoint_verify(c, 0, 1));
        if (rank == 0) report("checkpoint_verify, warm", bytes, start);
        if (rank == 0)
            printf("bytes on disk are %.6f of 12 a parameter\n",
                   (double)checkpoint_bytes(c) / bytes);
        checkpoint_close(&c);
    }
    free(state);
    param_table_release(&t);
    comm_finish(&world);
    return 0;
}
