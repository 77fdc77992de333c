/* @devices cpu cuda    @timeout 120
 * What goes wrong with a GPU ends in one sentence that names the device and the reason.  Each fault
 * is tried in a process of its own; they are faults of the emulated device, elsewhere there is
 * nothing to try. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/device.h"
#include "harness/harness.h"
#include "nn/nn.h"

enum { NO_EMULATION = 77, DIED = 9, DEFECT = 70, SAID_BYTES = 8192, N = 4096 };

/* Run `body` in a child with the fault; its exit code, and what it wrote to stderr. */
static int with_fault(const char *fault, void (*body)(void), char said[SAID_BYTES])
{
    int ends[2], status = 0;
    size_t n = 0;
    if (strcmp(test_device_name(), "cuda") != 0) skip();
    fflush(stdout);
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        setenv("YOKE_EMULATION_FAULT", fault, 1);
        alarm(60);
        body();
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got; n + 1 < SAID_BYTES; n += (size_t)got)
        if ((got = read(ends[0], said + n, SAID_BYTES - 1 - n)) <= 0) break;
    said[n] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_EMULATION) skip();
    return WEXITSTATUS(status);
}

/* It must end with `code`, in one sentence with all of the words. */
static void expect(const char *fault, void (*body)(void), int code,
                   const char *const *words)
{
    char said[SAID_BYTES];
    const int got = with_fault(fault, body, said);
    if (got != code) fail_msg("%s: exit code %d, not %d: %s", fault, got, code, said);
    const char *line = strstr(said, "error: ");
    if (!line || strstr(line + 1, "error: "))
        fail_msg("%s: not one error: %s", fault, said);
    for (; *words; words++)
        if (!strstr(line, *words)) fail_msg("%s: lacks \"%s\": %s", fault, *words, said);
}
#define EXPECT(fault, body, code, ...)                                                   \
    expect(fault, body, code, (const char *const[]){__VA_ARGS__, NULL})

static void end_with(status_t st)
{
    if (st != STATUS_OK) log_error("%s", status_message());
    _exit(status_exit_code(st));
}

/* Opened with whatever is wrong with it; a machine that is no emulation has none of the faults. */
static struct device *opened(void)
{
    struct device *d = NULL;
    const status_t st = device_open(&d, "cuda", 0);
    if (st != STATUS_OK) end_with(st);
    if (!device_symbol(d, "emulation_fault")) _exit(NO_EMULATION);
    return d;
}

static void *taken(struct device *d, size_t bytes)
{
    void *p = NULL;
    const status_t st = device_alloc(d, bytes, "a test", &p);
    if (st != STATUS_OK) end_with(st);
    return p;
}

/* ---- opening ----------------------------------------------------------------------------------- */

static void open_only(void)
{
    struct device *d = opened();
    device_close(&d);
}

TEST(an_old_driver_is_named_with_what_is_needed)
{
    EXPECT("old_driver", open_only, 9, "driver is too old", "580");
}

TEST(a_driver_without_a_gpu_is_told_from_no_driver)
{
    unsetenv("CUDA_VISIBLE_DEVICES");
    EXPECT("no_device", open_only, 9, "no GPU is visible",
           "CUDA_VISIBLE_DEVICES is not set");
    setenv("CUDA_VISIBLE_DEVICES", "7,9", 1);
    EXPECT("no_device", open_only, 9, "CUDA_VISIBLE_DEVICES is 7,9");
    unsetenv("CUDA_VISIBLE_DEVICES");
}

TEST(an_old_gpu_is_refused_with_what_would_do)
{
    EXPECT("arch=61", open_only, 9, "0000:01:00.0 has compute capability 6.1", "7.0");
}

static void open_the_third(void)
{
    struct device *d = opened();
    device_close(&d);
    end_with(device_open(&d, "cuda", 2));
}

TEST(a_gpu_that_is_not_visible_is_refused_with_how_many_are)
{
    EXPECT("devices=2", open_the_third, 9, "there is no device 2: 2 are visible");
}

/* ---- memory ------------------------------------------------------------------------------------ */

static void take_two(void)
{
    struct device *d = opened();
    taken(d, 600000);
    taken(d, 600000);
}

TEST(missing_memory_is_told_with_what_is_free_and_what_there_is)
{
    EXPECT("oom=1000000", take_two, 7, "cuda 0000:01:00.0", "600000 bytes of a test",
           "of 1000000 are free");
}

static void take_host(void)
{
    struct device *d = opened();
    void *p = NULL;
    end_with(device_alloc_host(d, 600000, "a test", &p));
}

TEST(missing_page_locked_memory_is_told)
{
    EXPECT("oom_host=100000", take_host, 7, "page-locked", "600000 bytes of a test");
}

/* ---- work -------------------------------------------------------------------------------------- */

static void compute(void)
{
    struct device *d = opened();
    struct nn *nn = NULL;
    const struct tensor x = tensor_1d(taken(d, N * sizeof(float)), DTYPE_F32, N);
    struct tensor y = tensor_1d(taken(d, N * sizeof(float)), DTYPE_BF16, N);
    const status_t st = nn_create(&nn, d, 1, 0);
    if (st != STATUS_OK) end_with(st);
    nn_cast(nn, &y, &x);
    device_wait(d);
}

TEST(a_gpu_without_code_in_the_plugin_is_named_by_the_first_kernel)
{
    EXPECT("arch=70", compute, DIED, "compute capability 7.0", "cast",
           "no code for this GPU");
}

TEST(a_kernel_that_cannot_be_launched_is_named)
{
    EXPECT("launch=cast", compute, DIED, "cast", "emulated device at 0000:01:00.0",
           "cudaErrorLaunchOutOfResources");
}

TEST(a_kernel_that_fails_is_told_with_how_to_name_it)
{
    unsetenv("YOKE_DEBUG_SYNC");
    EXPECT("fault=cast", compute, DIED, "YOKE_DEBUG_SYNC=1", "cudaErrorLaunchFailure");
}

TEST(a_kernel_that_fails_is_named_where_every_launch_is_waited_for)
{
    setenv("YOKE_DEBUG_SYNC", "1", 1);
    EXPECT("fault=cast", compute, DIED, "0000:01:00.0", "(cast<",
           "cudaErrorLaunchFailure");
    unsetenv("YOKE_DEBUG_SYNC");
}

static void fail_beside_another(int close_first)
{
    struct device *both[2] = {opened(), NULL}, *left;
    if (device_open(&both[1], "cuda", 1) != STATUS_OK) end_with(STATUS_DEVICE);
    left = both[!close_first];
    device_close(&both[close_first]);
    void *p = taken(left, N);
    device_zero(left, p, N);
    device_wait(left);
}

static void fail_first(void)
{
    fail_beside_another(1);
}

static void fail_second(void)
{
    fail_beside_another(0);
}

TEST(of_two_devices_the_one_that_is_left_is_named)
{
    EXPECT("ecc=2", fail_first, DIED, "0000:01:00.0");
    EXPECT("ecc=2", fail_second, DIED, "0000:02:00.0");
}

TEST(a_memory_error_is_told_as_one)
{
    EXPECT("ecc=3", compute, DIED, "0000:01:00.0", "ECC", "nvidia-smi -q -d ECC");
}

/* Operation 1 is the zeroing of the block by device_alloc: with hang=2 this one never ends. */
static struct device *hanging(void **p)
{
    struct device *d = opened();
    *p = taken(d, N);
    device_set_watch(d, 0.3, NULL, NULL);
    device_zero(d, *p, N);
    return d;
}

static void wait_for_ever(void)
{
    void *p;
    device_wait(hanging(&p));
}

TEST(a_wait_past_the_timeout_ends_and_names_the_queue)
{
    EXPECT("hang=2", wait_for_ever, DIED, "waited", "s for queue compute",
           "0000:01:00.0");
}

static void wait_for_another_queue(void)
{
    void *p;
    struct device *d = hanging(&p);
    device_order(d, DEVICE_COMPUTE, DEVICE_COMM);
    device_order(d, DEVICE_COMM, DEVICE_COPY);
    struct device_mark *m = NULL;
    if (device_mark_create(&m, d) != STATUS_OK) end_with(STATUS_DEVICE);
    device_mark_set(m, DEVICE_COPY);
    device_mark_wait(m);
}

TEST(a_mark_that_never_comes_ends_too)
{
    EXPECT("hang=2", wait_for_another_queue, DIED, "waited", "s for a mark");
}

/* A copy to ordinary memory would wait inside the driver, where no clock runs. */
static void copy_out_behind(void)
{
    char host[N];
    void *p;
    struct device *d = hanging(&p);
    device_copy_out(d, host, p, N);
}

TEST(a_copy_behind_work_that_hangs_ends_too)
{
    EXPECT("hang=2", copy_out_behind, DIED, "waited", "s for queue compute");
}

static void look(void *context)
{
    if (++*(int *)context == 3) die("somebody knows better");
}

static void wait_watched(void)
{
    int calls = 0;
    void *p;
    struct device *d = hanging(&p);
    device_set_watch(d, 60, look, &calls);
    device_wait(d);
}

TEST(who_watches_a_wait_can_end_it_with_a_better_reason)
{
    EXPECT("hang=2", wait_watched, DEFECT, "somebody knows better");
}

static void record(void)
{
    struct device *d = opened();
    if (device_record_begin(d)) end_with(status_set(STATUS_INTERNAL, "it records"));
    if (device_record_begin(d)) end_with(status_set(STATUS_INTERNAL, "it records"));
    log_error("goes on");
    _exit(0);
}

TEST(a_device_that_cannot_record_says_so_once_and_goes_on)
{
    char said[SAID_BYTES];
    assert_int_equal(with_fault("graphs=no", record, said), 0);
    const char *first = strstr(said, "cudaStreamBeginCapture");
    assert_non_null(first);
    assert_null(strstr(first + 1, "cudaStreamBeginCapture"));
    assert_non_null(strstr(said, "goes on without recorded work"));
}
