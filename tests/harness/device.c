#include "harness/harness.h"

#include <math.h>

enum { MAX_DEVICES = 8, MAX_DEVICE_BLOCKS = 4096 };

static struct device *open_devices[MAX_DEVICES];
static struct block {
    struct device *device;
    void *p;
    size_t bytes;
} blocks[MAX_DEVICE_BLOCKS];
static int n_blocks;

const char *test_device_name(void)
{
    const char *name = getenv("YOKE_TEST_DEVICE");
    return name && *name ? name : "cpu";
}

status_t test_named_device_open(struct device **d, const char *name)
{
    int count, n_ranks, at = 0;
    const int rank = test_rank(&n_ranks);
    *d = NULL;
    TRY(device_count(name, &count));
    if (count == 0) return STATUS_DEVICE; /* the message says why */
    TRY(device_open(d, name, rank % count));
    while (at < MAX_DEVICES && open_devices[at]) at++;
    if (at == MAX_DEVICES) abort();
    open_devices[at] = *d;
    return STATUS_OK;
}

status_t test_device_open(struct device **d)
{
    return test_named_device_open(d, test_device_name());
}

void test_device_close(struct device **d)
{
    int kept = 0;
    if (!*d) return;
    for (int i = 0; i < n_blocks; i++) {
        if (blocks[i].device == *d)
            device_free(*d, &blocks[i].p, blocks[i].bytes);
        else
            blocks[kept++] = blocks[i];
    }
    n_blocks = kept;
    for (int i = 0; i < MAX_DEVICES; i++)
        if (open_devices[i] == *d) open_devices[i] = NULL;
    device_close(d);
}

void test_device_close_all(void)
{
    for (int i = 0; i < MAX_DEVICES; i++) {
        struct device *d = open_devices[i];
        test_device_close(&d);
    }
}

void *bytes_on_device(struct device *d, const void *host, size_t bytes)
{
    struct block b = {.device = d, .bytes = bytes ? bytes : 1};
    if (n_blocks == MAX_DEVICE_BLOCKS) abort();
    ASSERT_OK(device_alloc(d, b.bytes, "a test", &b.p));
    blocks[n_blocks++] = b;
    device_copy_in(d, b.p, host, bytes);
    return b.p;
}

int32_t *ints_on_device(struct device *d, const int32_t *host, int64_t n)
{
    return bytes_on_device(d, host, (size_t)n * sizeof *host);
}

struct tensor on_device(struct device *d, const struct tensor *host, enum dtype t)
{
    struct tensor y = *host;
    y.dtype = t;
    void *bits = host->data;
    if (t != DTYPE_F32) {
        bits = test_alloc(tensor_bytes(&y));
        dtype_convert(bits, t, tensor_f32(host), DTYPE_F32, tensor_elements(host));
    }
    y.data = bytes_on_device(d, bits, tensor_bytes(&y));
    return y;
}

struct tensor dirty_on_device(struct device *d, enum dtype t, int64_t rows, int64_t cols)
{
    float *x = test_alloc((size_t)(rows * cols) * sizeof *x);
    for (int64_t i = 0; i < rows * cols; i++) x[i] = NAN;
    const struct tensor host = tensor_2d(x, DTYPE_F32, rows, cols);
    return on_device(d, &host, t);
}

struct tensor to_host(struct device *d, const struct tensor *x)
{
    struct tensor y = *x;
    void *bits = test_alloc(tensor_bytes(x));
    device_copy_out(d, bits, x->data, tensor_bytes(x));
    y.dtype = DTYPE_F32;
    y.data = bits;
    if (x->dtype == DTYPE_F32) return y;
    y.data = test_alloc(tensor_bytes(&y));
    dtype_convert(y.data, DTYPE_F32, bits, x->dtype, tensor_elements(x));
    return y;
}

struct tensor rounded(struct tensor x, enum dtype t)
{
    const int64_t n = tensor_elements(&x);
    if (t == DTYPE_F32) return x;
    uint16_t *bits = test_alloc((size_t)n * sizeof *bits);
    dtype_convert(bits, t, tensor_f32(&x), DTYPE_F32, n);
    dtype_convert(x.data, DTYPE_F32, bits, t, n);
    return x;
}
