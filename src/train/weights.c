#include "train/weights.h"

status_t weights_alloc(void **w, struct comm *data, struct device *d, size_t bytes)
{
    static const char purpose[] = "weights";
    return data ? comm_window_alloc(data, d, bytes, purpose, w)
                : device_alloc(d, bytes, purpose, w);
}

void weights_free(void **w, struct comm *data, struct device *d, size_t bytes)
{
    if (data)
        comm_window_free(data, d, w);
    else if (d)
        device_free(d, w, bytes);
}

static void touch(char *w, struct device *d, enum dtype t, int64_t first, int64_t n)
{
    const size_t element = dtype_bytes(t);
    device_zero(d, w + (size_t)first * element, (size_t)n * element);
}

void weights_touch(void *w, const struct dp *dp, struct device *d, enum dtype t,
                   bool together)
{
    if (!together) touch(w, d, t, 0, dp_n_elements(dp));
    for (int64_t i = 0; together && i < dp_n_owned(dp); i++) {
        int64_t start, count;
        dp_owned(dp, i, &start, &count);
        touch(w, d, t, start, count);
    }
}
