/* attention_reference - attention and its gradient as plain loops in double. */
#pragma once

#include "each_nn.h"

struct attention_reference {
    double *y, *lse, *dqkv;
};

/* The number q[b,i,h,d] of a row of qkv, or k, or v. */
static inline int64_t at_q(const struct nn_attention *a, int64_t b, int64_t i, int64_t h)
{
    return ((b * a->T + i) * (a->H + 2 * a->K) + h) * a->D;
}

static inline int64_t at_k(const struct nn_attention *a, int64_t b, int64_t i, int64_t h)
{
    return at_q(a, b, i,
                a->H + (a->group ? (h + a->first) / a->group : h / (a->H / a->K)));
}

static inline int64_t at_v(const struct nn_attention *a, int64_t b, int64_t i, int64_t h)
{
    return at_k(a, b, i, h) + a->K * a->D;
}

static inline double dot(const double *u, const double *v, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += u[i] * v[i];
    return s;
}

/* One query row of one head: P into p[T], y into y[D]; returns the log-sum-exp. */
static inline double attention_row(const struct nn_attention *a, const double *qkv,
                                   int64_t b, int64_t h, int64_t i, double *p, double *y)
{
    const int64_t start = a->doc_start ? a->doc_start[b * a->T + i] : 0;
    double max = -HUGE_VAL, sum = 0;
    for (int64_t j = start; j <= i; j++) {
        p[j] =
            (double)a->scale * dot(qkv + at_q(a, b, i, h), qkv + at_k(a, b, j, h), a->D);
        max = fmax(max, p[j]);
    }
    for (int64_t j = start; j <= i; j++) sum += exp(p[j] - max);
    for (int64_t d = 0; d < a->D; d++) y[d] = 0;
    for (int64_t j = start; j <= i; j++) {
        p[j] = exp(p[j] - max) / sum;
        for (int64_t d = 0; d < a->D; d++) y[d] += p[j] * qkv[at_v(a, b, j, h) + d];
    }
    return max + log(sum);
}

static inline void attention_row_bwd(const struct nn_attention *a, double *dqkv,
                                     const double *qkv, const double *dy, const double *y,
                                     const double *p, int64_t b, int64_t h, int64_t i)
{
    const int64_t start = a->doc_start ? a->doc_start[b * a->T + i] : 0;
    const int64_t q = at_q(a, b, i, h);
    const double delta = dot(dy, y, a->D);
    for (int64_t j = start; j <= i; j++) {
        const int64_t k = at_k(a, b, j, h), v = at_v(a, b, j, h);
        const double ds = p[j] * (dot(dy, qkv + v, a->D) - delta) * (double)a->scale;
        for (int64_t d = 0; d < a->D; d++) {
            dqkv[v + d] += p[j] * dy[d];
            dqkv[q + d] += ds * qkv[k + d];
            dqkv[k + d] += ds * qkv[q + d];
        }
    }
}

/* Everything; dy: [N, H*D].  dqkv only if dy is given.  Freed after the test. */
static inline struct attention_reference
attention_expected(const struct nn_attention *a, const double *qkv, const double *dy)
{
    const int64_t N = a->B * a->T, W = (a->H + 2 * a->K) * a->D, HD = a->H * a->D;
    struct attention_reference r = {.y = test_alloc((size_t)(N * HD) * sizeof(double)),
                                    .lse =
                                        test_alloc((size_t)(N * a->H) * sizeof(double)),
                                    .dqkv = test_alloc((size_t)(N * W) * sizeof(double))};
    double *p = test_alloc((size_t)a->T * sizeof *p);
    for (int64_t n = 0; n < N; n++) {
        const int64_t b = n / a->T, i = n % a->T;
        for (int64_t h = 0; h < a->H; h++) {
            double *y = r.y + n * HD + h * a->D;
            r.lse[(b * a->H + h) * a->T + i] = attention_row(a, qkv, b, h, i, p, y);
            if (dy)
                attention_row_bwd(a, r.dqkv, qkv, dy + n * HD + h * a->D, y, p, b, h, i);
        }
    }
    return r;
}
