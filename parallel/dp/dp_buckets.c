#include "parallel/dp/dp.h"

#include "core/log.h"

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct dp_buckets dp_buckets_make(int64_t n_elements, int64_t bucket_elements)
{
    CHECK(n_elements >= 0 && bucket_elements > 0);
    /* not (n + b - 1) / b: a bucket size may be "larger than anything" */
    const int64_t whole = n_elements / bucket_elements;
    const int64_t rest = n_elements % bucket_elements;
    return (struct dp_buckets){.n_elements = n_elements,
                               .bucket_elements = bucket_elements,
                               .n_buckets = whole + (rest > 0)};
}

struct dp_buckets dp_buckets_padded(int64_t n_elements, int64_t bucket_elements, int size)
{
    CHECK(n_elements == dp_padded_elements(n_elements, size) && bucket_elements > 0);
    if (bucket_elements > n_elements) bucket_elements = n_elements > 0 ? n_elements : 1;
    return dp_buckets_make(n_elements, dp_padded_elements(bucket_elements, size));
}

struct dp_buckets dp_buckets_between(const int64_t *bounds, int64_t n)
{
    struct dp_buckets b = {.n_elements = bounds[n], .n_buckets = n, .bounds = bounds};
    CHECK(bounds[0] == 0);
    for (int64_t i = 0; i < n; i++) {
        CHECK(bounds[i] <= bounds[i + 1]);
        if (bounds[i + 1] - bounds[i] > b.bucket_elements)
            b.bucket_elements = bounds[i + 1] - bounds[i];
    }
    return b;
}

void dp_bucket(const struct dp_buckets *b, int64_t k, int64_t *start, int64_t *end)
{
    CHECK(k >= 0 && k < b->n_buckets);
    if (b->bounds) {
        *start = b->bounds[b->n_buckets - 1 - k];
        *end = b->bounds[b->n_buckets - k];
        return;
    }
    *end = b->n_elements - k * b->bucket_elements;
    *start = *end - min_i64(*end, b->bucket_elements);
}

int64_t dp_bucket_of(const struct dp_buckets *b, int64_t x)
{
    CHECK(x >= 0 && x < b->n_elements);
    if (!b->bounds) return (b->n_elements - 1 - x) / b->bucket_elements;
    int64_t low = 0, high = b->n_buckets; /* bounds[low] <= x < bounds[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (b->bounds[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return b->n_buckets - 1 - low;
}

int64_t dp_buckets_behind(const struct dp_buckets *b, int64_t low)
{
    CHECK(low >= 0);
    if (low == 0) return b->n_buckets; /* the last bucket may be short */
    if (low >= b->n_elements) return 0;
    int64_t k = dp_bucket_of(b, low);
    for (; k < b->n_buckets;
         k++) { /* it may begin with low, and empty ones before it do */
        int64_t start, end;
        dp_bucket(b, k, &start, &end);
        if (start < low) break;
    }
    return k;
}

int64_t dp_padded_elements(int64_t n, int size)
{
    CHECK(n >= 0 && size > 0);
    const int64_t step = (int64_t)size * (ARENA_ALIGN_BYTES / (int64_t)sizeof(float));
    return (n + step - 1) / step * step;
}
