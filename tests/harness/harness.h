/* harness - what every unit test needs: registration, random tensors, comparison, ranks.
 *
 *   TEST(sentence_that_states_the_property) { ... assert_true(x); CHECK_CLOSE(...); }
 *
 * Tests register themselves; the harness has main().  A test file runs as its own process (or
 * as several under mpirun, see tests/CMakeLists.txt) with a timeout. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/log.h"
#include "core/status.h"
#include "core/tensor.h"
#include "device/device.h"
#include "parallel/comm/comm.h"

void test_register(const char *name, void (*body)(void **state));
/* For device.c: rank and number of ranks if test_world was used, else 0 of 1. */
int test_rank(int *n_ranks);
/* For harness.c: close what is open. */
void test_device_close_all(void);

#define TEST(name)                                                                       \
    static void name(void **state);                                                      \
    __attribute__((constructor)) static void register_##name(void)                       \
    {                                                                                    \
        test_register(#name, name);                                                      \
    }                                                                                    \
    static void name(__attribute__((unused)) void **state)

/* The call must succeed; its sentence is printed if it does not. */
#define ASSERT_OK(expr)                                                                  \
    do {                                                                                 \
        const status_t assert_ok_ = (expr);                                              \
        if (assert_ok_ != STATUS_OK)                                                     \
            fail_msg("%s: %s: %s", #expr, status_name(assert_ok_), status_message());    \
    } while (0)

/* The call must be refused with `status` and a sentence that contains `words`. */
#define ASSERT_REFUSED(expr, status, words)                                              \
    do {                                                                                 \
        const status_t refused_ = (expr);                                                \
        if (refused_ != (status))                                                        \
            fail_msg("%s: got %s (%s), want %s", #expr, status_name(refused_),           \
                     status_message(), status_name(status));                             \
        if (!strstr(status_message(), words))                                            \
            fail_msg("%s: message lacks \"%s\": %s", #expr, words, status_message());    \
    } while (0)

/* fp32 tensors of standard normal numbers, a function of the key; freed by test_release_all,
 * which the harness calls after each test. */
struct tensor randn_1d(uint64_t key, int64_t n);
struct tensor randn_2d(uint64_t key, int64_t rows, int64_t cols);
void *test_alloc(size_t bytes); /* zeroed, 64-byte aligned, freed after the test */

/* Normalised mean squared error sum (a-b)^2 / sum b^2 over n elements. */
double nmse(const float *a, const float *b, int64_t n);

#define CHECK_CLOSE(a, b, limit)                                                         \
    do {                                                                                 \
        const double close_ = nmse(tensor_f32(a), tensor_f32(b), tensor_elements(b));    \
        if (!(close_ <= (limit)))                                                        \
            fail_msg("%s against %s: NMSE %.3g > %.3g", #a, #b, close_,                  \
                     (double)(limit));                                                   \
    } while (0)

/* ---- device.c: the device under test ------------------------------------------------------ */

/* $YOKE_TEST_DEVICE: "cpu" (also without it) or "cuda". */
const char *test_device_name(void);
/* Open it: a device for each rank of test_world as far as there are enough of them.  Several may
 * be open at once. */
MUST_USE status_t test_device_open(struct device **d);
MUST_USE status_t test_named_device_open(struct device **d, const char *name);
/* Close it and free all that the functions below made on it; what a failed test leaves open is
 * closed after the test. */
void test_device_close(struct device **d);

/* A copy of fp32 host numbers in the memory of `d`, rounded to nearest even to type `t`. */
struct tensor on_device(struct device *d, const struct tensor *host, enum dtype t);
/* An output before the call: NaN everywhere, so that what is not assigned shows. */
struct tensor dirty_on_device(struct device *d, enum dtype t, int64_t rows, int64_t cols);
void *bytes_on_device(struct device *d, const void *host, size_t bytes);
int32_t *ints_on_device(struct device *d, const int32_t *host, int64_t n);
/* Numbers of a device as fp32 in host memory, behind all that is in the compute queue. */
struct tensor to_host(struct device *d, const struct tensor *x);
/* Host numbers rounded to `t` in place: what the device computes with; returns x. */
struct tensor rounded(struct tensor x, enum dtype t);

/* ---- harness.c: ranks and files ----------------------------------------------------------- */

/* All ranks of this test; starts MPI at first use. */
struct comm *test_world(void);

/* An empty folder of this test process (rank 0's, the same path on all ranks of a test started
 * under mpirun), removed at the end.  Collective if test_world was used before. */
const char *test_folder(void);
