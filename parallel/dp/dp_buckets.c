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

void dp_bucket(const struct dp_buckets *b, int64_t k, int64_t *start, int64_t *end)
{
    CHECK(k >= 0 && k < b->n_buckets);
    *end = b->n_elements - k * b->bucket_elements;
    *start = *end - min_i64(*end, b->bucket_elements);
}

int64_t dp_buckets_behind(const struct dp_buckets *b, int64_t low)
{
    CHECK(low >= 0);
    if (low == 0) return b->n_buckets; /* the last bucket may be short */
    return low < b->n_elements ? (b->n_elements - low) / b->bucket_elements : 0;
}

int64_t dp_padded_elements(int64_t n, int size)
{
    CHECK(n >= 0 && size > 0);
    const int64_t step = (int64_t)size * (ARENA_ALIGN_BYTES / (int64_t)sizeof(float));
    return (n + step - 1) / step * step;
}
