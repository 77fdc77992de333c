/* @devices cpu cuda    @seeds 20
 * What every device promises: copies, order between queues, marks, recorded work, and what it says
 * when there is no memory. */
#include <string.h>
#include <unistd.h>

#include "device/device.h"
#include "harness/harness.h"

enum { BYTES = 40000, ROUNDS = 40 };

static struct device *opened(void)
{
    struct device *d = NULL;
    const status_t st = test_device_open(&d);
    if (st != STATUS_OK) print_message("%s\n", status_message());
    assert_int_equal(st, STATUS_OK);
    return d;
}

/* Page-locked, filled with `byte`; to be given back by give(). */
static unsigned char *staging(struct device *d, size_t bytes, int byte)
{
    void *p = NULL;
    ASSERT_OK(device_alloc_host(d, bytes, "a test", &p));
    memset(p, byte, bytes);
    return p;
}

static void give(struct device *d, unsigned char *p, size_t bytes)
{
    void *block = p;
    device_free_host(d, &block, bytes);
}

static unsigned char *block(struct device *d, int byte)
{
    unsigned char *host = test_alloc(BYTES);
    memset(host, byte, BYTES);
    return bytes_on_device(d, host, BYTES);
}

static void assert_bytes(const unsigned char *p, int byte)
{
    for (int i = 0; i < BYTES; i++)
        if (p[i] != byte) fail_msg("byte %d is %d, not %d", i, p[i], byte);
}

TEST(memory_is_shared_where_that_was_asked_for)
{
    struct device *d = opened();
    struct device_block block, other;
    void *alone = NULL, *p = NULL, *q = NULL;
    size_t offset = 0;
    ASSERT_OK(device_alloc_shared(d, BYTES, "a test", &alone));
    device_set_shared(d, true);
    ASSERT_OK(device_alloc_shared(d, BYTES, "a test", &p));
    ASSERT_OK(device_alloc_shared(d, BYTES, "a test", &q));
    assert_int_equal(device_allocated_bytes(d), 3 * BYTES);
    assert_false(device_find_shared(d, alone, 1, &block, &offset));
    if (device_is_host(d)) {
        assert_true(device_find_shared(d, (char *)p + 100, BYTES - 100, &block, &offset));
        assert_int_equal(offset, 100);
        assert_int_equal(block.bytes, BYTES);
        assert_false(device_find_shared(d, (char *)p + 100, BYTES - 99, &block, &offset));
        assert_true(device_find_shared(d, q, BYTES, &other, &offset));
        assert_true(block.id != other.id && block.fd != other.fd);
        /* what is written into the file is in memory */
        assert_int_equal(pwrite(block.fd, "yoke", 4, 200), 4);
        assert_memory_equal((char *)p + 200, "yoke", 4);
        device_free(d, &p, BYTES);
        assert_true(device_find_shared(d, q, BYTES, &other, &offset));
    }
    device_free(d, &q, BYTES);
    device_free(d, &p, BYTES);
    device_free(d, &alone, BYTES);
    assert_int_equal(device_allocated_bytes(d), 0);
    test_device_close(&d);
}

TEST(fresh_memory_is_zero)
{
    struct device *d = opened();
    void *p = NULL, *h = NULL;
    unsigned char *host = test_alloc(BYTES);
    memset(host, 7, BYTES);
    ASSERT_OK(device_alloc(d, BYTES, "a test", &p));
    device_copy_out(d, host, p, BYTES);
    assert_bytes(host, 0);
    ASSERT_OK(device_alloc_host(d, BYTES, "a test", &h));
    assert_bytes(h, 0);
    device_free(d, &p, BYTES);
    device_free_host(d, &h, BYTES);
    assert_null(p);
    assert_null(h);
    test_device_close(&d);
}

TEST(fresh_memory_may_be_used_in_any_queue_at_once)
{
    struct device *d = opened();
    unsigned char *in = staging(d, BYTES, 6), *out = test_alloc(BYTES);
    for (int q = 0; q < DEVICE_QUEUES; q++) {
        void *p = NULL;
        ASSERT_OK(device_alloc(d, BYTES, "a test", &p));
        device_queue_copy_in(d, (enum device_queue)q, p, in, BYTES);
        device_wait(d);
        device_copy_out(d, out, p, BYTES);
        assert_bytes(out, 6); /* no zero came late */
        device_free(d, &p, BYTES);
    }
    give(d, in, BYTES);
    test_device_close(&d);
}

TEST(every_byte_handed_out_is_counted)
{
    struct device *d = opened();
    void *p = NULL, *h = NULL;
    assert_int_equal(device_allocated_bytes(d), 0);
    ASSERT_OK(device_alloc(d, 1000, "a test", &p));
    ASSERT_OK(device_alloc_host(d, 300, "a test", &h));
    assert_int_equal(device_allocated_bytes(d), 1000);
    assert_int_equal(device_host_bytes(d), 300);
    device_free(d, &p, 1000);
    device_free_host(d, &h, 300);
    assert_int_equal(device_allocated_bytes(d) + device_host_bytes(d), 0);
    test_device_close(&d);
}

TEST(copies_bring_back_what_went_in)
{
    static const size_t sizes[] = {0, 1, 63, 4096, BYTES - 1};
    struct device *d = opened();
    unsigned char *p = block(d, 9), *in = test_alloc(BYTES), *out = test_alloc(BYTES);
    for (int i = 0; i < BYTES; i++) in[i] = (unsigned char)(i * 7);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        memset(out, 3, BYTES);
        device_copy_in(d, p, in, sizes[k]);
        device_copy_out(d, out, p, sizes[k]);
        assert_memory_equal(out, in, sizes[k]);
        if (sizes[k] < BYTES) assert_int_equal(out[sizes[k]], 3);
    }
    test_device_close(&d);
}

TEST(zeroing_comes_after_what_was_queued)
{
    struct device *d = opened();
    unsigned char *p = block(d, 9), *out = test_alloc(BYTES);
    unsigned char *in = staging(d, BYTES, 5);
    device_queue_copy_in(d, DEVICE_COMPUTE, p, in, BYTES);
    device_zero(d, p, BYTES / 2);
    device_copy_out(d, out, p, BYTES);
    for (int i = 0; i < BYTES; i++) assert_int_equal(out[i], i < BYTES / 2 ? 0 : 5);
    give(d, in, BYTES);
    test_device_close(&d);
}

TEST(a_large_block_is_zeroed_to_its_last_byte_and_no_further)
{
    enum { LARGE = 9 << 16, ZEROED = LARGE - 77 }; /* more than one thread's worth */
    struct device *d = opened();
    void *p = NULL;
    unsigned char *in = test_alloc(LARGE), *out = test_alloc(LARGE);
    ASSERT_OK(device_alloc(d, LARGE, "a test", &p));
    memset(in, 5, LARGE);
    device_copy_in(d, p, in, LARGE);
    device_zero(d, (char *)p + 1, ZEROED);
    device_copy_out(d, out, p, LARGE);
    memset(in + 1, 0, ZEROED);
    assert_memory_equal(out, in, LARGE);
    device_free(d, &p, LARGE);
    test_device_close(&d);
}

/* One block of device memory is filled in one queue and read in another, over and over. */
static void ping_pong(struct device *d, enum device_queue a, enum device_queue b)
{
    unsigned char *p = block(d, 0), *in = staging(d, (size_t)ROUNDS * BYTES, 0);
    unsigned char *out = staging(d, (size_t)ROUNDS * BYTES, 0xee);
    for (int i = 0; i < ROUNDS; i++) memset(in + i * BYTES, i + 1, BYTES);
    for (int i = 0; i < ROUNDS; i++) {
        device_queue_copy_in(d, a, p, in + i * BYTES, BYTES);
        device_order(d, a, b);
        device_queue_copy_out(d, b, out + i * BYTES, p, BYTES);
        device_order(d, b, a);
    }
    device_wait(d);
    for (int i = 0; i < ROUNDS; i++) assert_bytes(out + i * BYTES, i + 1);
    give(d, in, (size_t)ROUNDS * BYTES);
    give(d, out, (size_t)ROUNDS * BYTES);
}

TEST(order_between_queues_is_kept_both_ways)
{
    struct device *d = opened();
    ping_pong(d, DEVICE_COPY, DEVICE_COMPUTE);
    ping_pong(d, DEVICE_COMPUTE, DEVICE_COMM);
    test_device_close(&d);
}

TEST(a_mark_orders_another_queue_behind_it)
{
    struct device *d = opened();
    struct device_mark *filled = NULL, *read = NULL;
    unsigned char *p = block(d, 0), *in = staging(d, (size_t)ROUNDS * BYTES, 0);
    unsigned char *out = staging(d, (size_t)ROUNDS * BYTES, 0xee);
    ASSERT_OK(device_mark_create(&filled, d));
    ASSERT_OK(device_mark_create(&read, d));
    for (int i = 0; i < ROUNDS; i++) memset(in + i * BYTES, i + 1, BYTES);
    for (int i = 0; i < ROUNDS; i++) {
        device_mark_order(read, DEVICE_COPY); /* in the first round it was never set */
        device_queue_copy_in(d, DEVICE_COPY, p, in + i * BYTES, BYTES);
        device_mark_set(filled, DEVICE_COPY);
        device_mark_order(filled, DEVICE_COMM);
        device_queue_copy_out(d, DEVICE_COMM, out + i * BYTES, p, BYTES);
        device_mark_set(read, DEVICE_COMM);
    }
    device_wait(d);
    for (int i = 0; i < ROUNDS; i++) assert_bytes(out + i * BYTES, i + 1);
    device_mark_destroy(&filled);
    device_mark_destroy(&read);
    assert_null(filled);
    give(d, in, (size_t)ROUNDS * BYTES);
    give(d, out, (size_t)ROUNDS * BYTES);
    test_device_close(&d);
}

TEST(the_host_finds_what_is_before_a_mark)
{
    struct device *d = opened();
    struct device_mark *m = NULL;
    unsigned char *p = block(d, 4), *out = staging(d, BYTES, 0xee);
    ASSERT_OK(device_mark_create(&m, d));
    assert_true(device_mark_done(m)); /* never set */
    device_mark_wait(m);
    device_queue_copy_out(d, DEVICE_COPY, out, p, BYTES);
    device_mark_set(m, DEVICE_COPY);
    device_mark_wait(m);
    assert_true(device_mark_done(m));
    assert_bytes(out, 4);
    memset(out, 0xee, BYTES);
    device_queue_copy_out(d, DEVICE_COPY, out, p, BYTES);
    device_mark_set(m, DEVICE_COPY);
    while (!device_mark_done(m))
        continue; /* asking is enough for it to be done at last */
    assert_bytes(out, 4);
    device_mark_destroy(&m);
    give(d, out, BYTES);
    test_device_close(&d);
}

TEST(copies_from_ordinary_memory_are_behind_what_is_queued)
{
    struct device *d = opened();
    unsigned char *p = block(d, 1), *in = staging(d, BYTES, 2), *out = test_alloc(BYTES);
    unsigned char *ordinary = test_alloc(BYTES);
    memset(ordinary, 3, BYTES);
    device_queue_copy_in(d, DEVICE_COMPUTE, p, in, BYTES);
    device_copy_in(d, p, ordinary, BYTES);
    memset(ordinary, 4, BYTES); /* the call has returned: it is ours again */
    device_copy_out(d, out, p, BYTES);
    assert_bytes(out, 3);
    give(d, in, BYTES);
    test_device_close(&d);
}

TEST(recorded_work_runs_once_for_each_replay)
{
    struct device *d = opened();
    unsigned char *p = block(d, 1), *in = staging(d, BYTES, 2),
                  *out = staging(d, BYTES, 9);
    device_wait(d);
    if (device_record_begin(d)) {
        device_queue_copy_in(d, DEVICE_COMPUTE, p, in, BYTES);
        device_order(d, DEVICE_COMPUTE, DEVICE_COMM); /* a fork that joins again */
        device_queue_copy_out(d, DEVICE_COMM, out, p, BYTES);
        device_order(d, DEVICE_COMM, DEVICE_COMPUTE);
        device_zero(d, p, BYTES);
        struct device_graph *g = device_record_end(d);
        assert_non_null(g);
        device_wait(d);
        assert_bytes(out, 9); /* nothing has run */
        for (int i = 0; i < 3; i++) {
            memset(in, 20 + i, BYTES);
            device_replay(d, g);
            device_wait(d);
            assert_bytes(out, 20 + i);
        }
        device_copy_out(d, out, p, BYTES);
        assert_bytes(out, 0);
        device_graph_destroy(d, &g);
        assert_null(g);
    } else {
        assert_true(device_is_host(d)); /* only the CPU cannot */
    }
    give(d, in, BYTES);
    give(d, out, BYTES);
    test_device_close(&d);
}

TEST(what_cannot_be_recorded_is_no_failure)
{
    struct device *d = opened();
    unsigned char *p = block(d, 1), *in = staging(d, BYTES, 2), *out = test_alloc(BYTES);
    if (device_record_begin(d)) {
        device_zero(d, p, BYTES);
        device_order(d, DEVICE_COMPUTE, DEVICE_COMM); /* a fork that never joins */
        device_queue_copy_in(d, DEVICE_COMM, p, in, BYTES);
        assert_null(device_record_end(d));
        device_copy_out(d, out, p, BYTES); /* and nothing of it has run */
        assert_bytes(out, 1);

        void *never = NULL;
        assert_true(device_record_begin(d));
        device_zero(d, p, BYTES);
        assert_int_not_equal(device_alloc(d, BYTES, "a test", &never), STATUS_OK);
        device_zero(d, p, BYTES); /* too late to be recorded, but no failure */
        assert_null(device_record_end(d));
        device_copy_out(d, out, p, BYTES);
        assert_bytes(out, 1);
    }
    give(d, in, BYTES);
    test_device_close(&d);
}

TEST(too_much_memory_is_refused_with_what_is_free)
{
    struct device *d = opened();
    struct device_info info;
    void *p = &info; /* dirty */
    device_describe(d, &info);
    assert_true(info.total_bytes > 0 && info.free_bytes <= info.total_bytes);
    ASSERT_REFUSED(device_alloc(d, (size_t)1 << 60, "a test", &p), STATUS_NOMEM,
                   "a test");
    assert_null(p);
    assert_non_null(strstr(status_message(), "are free"));
    assert_non_null(strstr(status_message(), "1152921504606846976"));
    ASSERT_OK(device_alloc(d, BYTES, "a test", &p)); /* it goes on */
    device_free(d, &p, BYTES);
    test_device_close(&d);
}

TEST(a_number_that_no_device_has_is_refused)
{
    struct device *d = NULL;
    ASSERT_REFUSED(device_open(&d, test_device_name(), 4096), STATUS_DEVICE, "4096");
    ASSERT_REFUSED(device_open(&d, test_device_name(), -1), STATUS_DEVICE, "-1");
    ASSERT_REFUSED(device_open(&d, "abacus", 0), STATUS_DEVICE, "cpu, cuda");
    assert_null(d);
}

TEST(a_device_says_what_it_is)
{
    struct device *d = opened();
    struct device_info info;
    memset(&info, 0xff, sizeof info);
    device_describe(d, &info);
    assert_string_equal(device_name(d), test_device_name());
    assert_true(strlen(info.model) > 0);
    assert_true(device_supports(d, DTYPE_F32));
    assert_int_equal(device_is_host(d), strcmp(device_name(d), "cpu") == 0);
    if (!device_is_host(d)) {
        assert_true(strlen(info.id) > 0 && info.major >= 7);
        assert_non_null(strstr(info.libraries, "driver"));
        assert_non_null(device_symbol(d, "yoke_cuda_version"));
    }
    assert_null(device_symbol(d, "no_such_symbol"));
    test_device_close(&d);
}

static void count_calls(void *context)
{
    ++*(int *)context;
}

TEST(a_wait_that_ends_in_time_is_no_failure)
{
    struct device *d = opened();
    int calls = 0;
    unsigned char *p = block(d, 1), *out = staging(d, BYTES, 0);
    device_set_watch(d, 60, count_calls, &calls);
    for (int i = 0; i < ROUNDS; i++) device_queue_copy_out(d, DEVICE_COMM, out, p, BYTES);
    device_wait(d);
    assert_bytes(out, 1);
    device_set_watch(d, 0, NULL, NULL);
    give(d, out, BYTES);
    test_device_close(&d);
}
