/* Signals during training are noticed, and cost nothing. */
#include "harness/harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "device/device.h"
#include "nn/nn.h"
#include "train/signals.h"

static void pause_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* How a child ends that starts, arms if told so, and is sent the signals one by one.  If none
 * ends it, its exit code is the one that signals_received tells. */
static int ended_by(bool arm, const int *signals, int n)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signals_start();
        if (arm) signals_arm();
        if (write(ready[1], "x", 1) != 1) _exit(1);
        for (int i = 0; i < 100; i++) pause_ms(10); /* with one signal: goes on working */
        _exit(signals_received());
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    for (int i = 0; i < n; i++) {
        assert_int_equal(kill(child, signals[i]), 0);
        pause_ms(100);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    close(ready[0]);
    close(ready[1]);
    return status;
}

/* Must come before any test that makes threads: they inherit what is blocked. */
TEST(before_the_run_a_signal_ends_the_process)
{
    const int status = ended_by(false, &(int){SIGTERM}, 1);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

TEST(during_the_run_a_signal_is_kept)
{
    const int wanted[] = {SIGTERM, SIGINT, SIGUSR1};
    for (int i = 0; i < 3; i++) {
        const int status = ended_by(true, &wanted[i], 1);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), wanted[i]);
    }
}

TEST(a_second_interrupt_ends_the_process)
{
    const int status = ended_by(true, (int[]){SIGINT, SIGINT}, 2);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGINT);
}

static atomic_bool done;

static void *send_signals(void *unused)
{
    (void)unused;
    while (!done) {
        kill(getpid(), SIGUSR1);
        const struct timespec t = {.tv_nsec = 300000};
        nanosleep(&t, NULL);
    }
    return NULL;
}

/* The sizes at which oneDNN keeps its stack pointer on the heap.  Were there a handler, glibc
 * would end this process with "corrupted size". */
TEST(signals_during_matrix_products_leave_the_heap_alone)
{
    struct tensor x = randn_2d(1, 1024, 192), w = randn_2d(2, 192, 192);
    struct tensor y = randn_2d(3, 1024, 192), want = randn_2d(4, 1024, 192);
    struct device *device = NULL;
    struct nn *nn = NULL;
    pthread_t sender;
    signals_start();
    signals_arm();
    ASSERT_OK(device_open(&device, "cpu", 0));
    ASSERT_OK(nn_create(&nn, device, 2, 0));
    nn_matmul_nn(nn, &want, &x, &w, NN_ASSIGN);
    assert_int_equal(pthread_create(&sender, NULL, send_signals, NULL), 0);
    for (int i = 0; i < 300; i++) {
        nn_matmul_nn(nn, &y, &x, &w, NN_ASSIGN);
        free(malloc(3000));
    }
    done = true;
    pthread_join(sender, NULL);
    assert_int_equal(signals_received(), SIGUSR1);
    assert_memory_equal(y.data, want.data, tensor_bytes(&y));
    nn_destroy(&nn);
    device_close(&device);
}
