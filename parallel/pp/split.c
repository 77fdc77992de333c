#include "parallel/pp/split.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/log.h"

/* Fill parts from the front with as much as `limit` allows; true if that is enough. */
static bool fill(const double *costs, int64_t n, double first_extra, double last_extra,
                 int n_parts, double limit, int64_t *first_layer)
{
    int64_t at = 0;
    for (int part = 0; part < n_parts; part++) {
        const int64_t most = n - (n_parts - 1 - part); /* the others need a layer each */
        double cost =
            (part == 0 ? first_extra : 0) + (part == n_parts - 1 ? last_extra : 0);
        first_layer[part] = at;
        cost += costs[at++];
        if (cost > limit) return false;
        while (at < most && cost + costs[at] <= limit) cost += costs[at++];
    }
    first_layer[n_parts] = at;
    return at == n;
}

void pp_split(const double *costs, int64_t n, double first_extra, double last_extra,
              int n_parts, int64_t *first_layer)
{
    CHECK(n_parts >= 1 && n >= n_parts);
    double low = 0, high = first_extra + last_extra;
    for (int64_t i = 0; i < n; i++) high += costs[i];
    /* the best limit is one of finitely many sums; halving the interval so often meets the last one
     * that is too small from above */
    for (int i = 0; i < 100; i++) {
        const double middle = low + (high - low) / 2;
        if (fill(costs, n, first_extra, last_extra, n_parts, middle, first_layer))
            high = middle;
        else
            low = middle;
    }
    CHECK(fill(costs, n, first_extra, last_extra, n_parts, high, first_layer));
}

status_t pp_split_parse(const char *list, int64_t n, int n_parts, int64_t *first_layer)
{
    const char *p = list;
    int64_t at = 0;
    int parts = 0;
    bool ok = true;
    while (ok && parts < n_parts) {
        char *end;
        const long long layers = strtoll(p, &end, 10);
        ok = end != p && layers >= 1 && layers <= n - at && *p != '-' && *p != '+';
        if (!ok) break;
        first_layer[parts++] = at;
        at += layers;
        p = end;
        while (*p == ' ') p++;
        if (*p != ',') break;
        p++;
    }
    first_layer[parts] = at;
    if (ok && *p == '\0' && p > list && p[-1] != ',' && parts == n_parts && at == n)
        return STATUS_OK;
    return status_set(
        STATUS_CONFIG,
        "parallel.stages: \"%.200s\" does not cut %lld layers into %d part%s; "
        "valid: auto, or %d number%s of at least 1 whose sum is %lld, with "
        "commas",
        list, (long long)n, n_parts, n_parts == 1 ? "" : "s", n_parts,
        n_parts == 1 ? "" : "s", (long long)n);
}
