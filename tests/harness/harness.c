#include "harness/harness.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "core/rng.h"

enum { MAX_TESTS = 256, MAX_BLOCKS = 65536, MAX_KEYS = 64, MAX_KEPT = 1 << 20 };

static struct CMUnitTest tests[MAX_TESTS];
static size_t n_tests;
static void *blocks[MAX_BLOCKS];
static int n_blocks;
static struct comm *world;
static char folder[PATH_MAX];

static int release_all(void **state)
{
    (void)state;
    test_device_close_all();
    while (n_blocks > 0) free(blocks[--n_blocks]);
    return 0;
}

void test_register(const char *name, void (*body)(void **state))
{
    if (n_tests == MAX_TESTS) abort();
    tests[n_tests++] = (struct CMUnitTest){
        .name = name, .test_func = body, .teardown_func = release_all};
}

void *test_alloc(size_t bytes)
{
    if (n_blocks == MAX_BLOCKS) abort();
    const size_t rounded = (bytes + 63) / 64 * 64;
    void *p = aligned_alloc(64, rounded ? rounded : 64);
    if (!p) abort();
    memset(p, 0, rounded ? rounded : 64);
    blocks[n_blocks++] = p;
    return p;
}

/* The same numbers are asked for again and again, and take longer to make than what is tested with
 * them: the first ones of a key are kept. */
static void normal(uint64_t key, float *x, int64_t n)
{
    static struct {
        uint64_t key;
        float *x;
        int64_t n;
    } kept[MAX_KEYS];
    int i = 0;
    while (i < MAX_KEYS && kept[i].x && kept[i].key != key) i++;
    const int64_t from_kept = i == MAX_KEYS ? 0 : n < MAX_KEPT ? n : MAX_KEPT;
    if (i < MAX_KEYS && from_kept > kept[i].n) {
        kept[i].key = key;
        kept[i].x = realloc(kept[i].x, (size_t)from_kept * sizeof *x);
        if (!kept[i].x) abort();
        rng_normal(key, (uint64_t)kept[i].n, kept[i].x + kept[i].n,
                   from_kept - kept[i].n);
        kept[i].n = from_kept;
    }
    if (from_kept > 0) memcpy(x, kept[i].x, (size_t)from_kept * sizeof *x);
    rng_normal(key, (uint64_t)from_kept, x + from_kept, n - from_kept);
}

struct tensor randn_1d(uint64_t key, int64_t n)
{
    float *x = test_alloc((size_t)n * sizeof *x);
    normal(key, x, n);
    return tensor_1d(x, DTYPE_F32, n);
}

struct tensor randn_2d(uint64_t key, int64_t rows, int64_t cols)
{
    const struct tensor flat = randn_1d(key, rows * cols);
    return tensor_2d(flat.data, DTYPE_F32, rows, cols);
}

double nmse(const float *a, const float *b, int64_t n)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        error += d * d;
        size += (double)b[i] * (double)b[i];
    }
    return size > 0 ? error / size : error;
}

struct comm *test_world(void)
{
    if (!world) {
        const status_t st = comm_start(&world, NULL, NULL);
        if (st != STATUS_OK) {
            fprintf(stderr, "comm_start: %s\n", status_message());
            exit(1);
        }
    }
    return world;
}

int test_rank(int *n_ranks)
{
    *n_ranks = world ? comm_size(world) : 1;
    return world ? comm_rank(world) : 0;
}

const char *test_folder(void)
{
    if (folder[0]) return folder;
    if (!world || comm_rank(world) == 0) {
        const char *tmp = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/yoke-test-XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(folder)) abort();
    }
    if (world) comm_broadcast(world, folder, sizeof folder, 0);
    return folder;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

int main(void)
{
    const int failed = _cmocka_run_group_tests("yoke", tests, n_tests, NULL, NULL);
    if (world) comm_barrier(world);
    if (folder[0] && (!world || comm_rank(world) == 0))
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (world) comm_finish(&world);
    return failed ? 1 : 0;
}
