/* attention_view - queries and the keys they see, wherever both lie: what the kernels of attention
 * with a packed row and of attention to a part of the keys have in common. */
#pragma once

#include "nn/nn.h"

struct attention_view {
    int64_t B, H, K, D;
    int64_t Tq, Tk;            /* rows of a sequence */
    int64_t group, first;      /* head h uses kv head (h + first) / group */
    int64_t q_width, kv_width; /* numbers from one row to the next */
    int64_t k_at, v_at;        /* where keys and values begin in a row */
    /* row i of a sequence sees keys [low, high), neither of which decreases; [B * Tq] or NULL: from
     * the start, up to and with key i */
    const int32_t *low, *high;
    float scale;
};

static inline struct attention_view attention_view_of(const struct nn_attention *a)
{
    return (struct attention_view){.B = a->B,
                                   .H = a->H,
                                   .K = a->K,
                                   .D = a->D,
                                   .Tq = a->T,
                                   .Tk = a->T,
                                   .group = a->group,
                                   .first = a->first,
                                   .q_width = (a->H + 2 * a->K) * a->D,
                                   .kv_width = (a->H + 2 * a->K) * a->D,
                                   .k_at = a->H * a->D,
                                   .v_at = (a->H + a->K) * a->D,
                                   .low = a->doc_start,
                                   .high = NULL,
                                   .scale = a->scale};
}

static inline struct attention_view
attention_view_of_part(const struct nn_attention_part *p)
{
    return (struct attention_view){.B = p->B,
                                   .H = p->H,
                                   .K = p->K,
                                   .D = p->D,
                                   .Tq = p->Tq,
                                   .Tk = p->Tk,
                                   .group = p->group,
                                   .first = p->first,
                                   .q_width = (p->H + 2 * p->K) * p->D,
                                   .kv_width = 2 * p->K * p->D,
                                   .k_at = 0,
                                   .v_at = p->K * p->D,
                                   .low = p->low,
                                   .high = p->high,
                                   .scale = p->scale};
}
