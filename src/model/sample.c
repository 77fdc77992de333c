#include "model/sample.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"

status_t sample_check(const struct sample_options *o)
{
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return status_set(STATUS_USAGE, "--temperature %g: must be 0 or more",
                          o->temperature);
    if (o->top_k < 0)
        return status_set(STATUS_USAGE, "--top-k %jd: must be 0 or more",
                          (intmax_t)o->top_k);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return status_set(STATUS_USAGE, "--top-p %g: must be above 0 and at most 1",
                          o->top_p);
    return STATUS_OK;
}

static int32_t most_likely(const float *logits, int64_t V)
{
    int64_t best = 0;
    for (int64_t i = 1; i < V; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

static int more_likely(const void *a, const void *b, void *logits)
{
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    const float x = ((const float *)logits)[i], y = ((const float *)logits)[j];
    if (x != y) return x > y ? -1 : 1;
    return i < j ? -1 : 1;
}

int32_t sample_token(const float *logits, int64_t V, const struct sample_options *o,
                     uint64_t draw, int32_t *order)
{
    if (o->temperature == 0) return most_likely(logits, V);
    for (int64_t i = 0; i < V; i++) order[i] = (int32_t)i;
    qsort_r(order, (size_t)V, sizeof *order, more_likely, (void *)(uintptr_t)logits);
    const int64_t k = o->top_k > 0 && o->top_k < V ? o->top_k : V;
    const double top = logits[order[0]];
    double total = 0, kept = 0;
    for (int64_t i = 0; i < k; i++)
        total += exp((logits[order[i]] - top) / o->temperature);
    int64_t n = 0;
    while (n < k && kept < o->top_p * total)
        kept += exp((logits[order[n++]] - top) / o->temperature);
    const double u = rng_uniform(o->key, draw) * kept;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += exp((logits[order[i]] - top) / o->temperature);
        if (u < sum) return order[i];
    }
    return order[n - 1];
}
