/* model_impl - blocks, inside src/model only.
 *
 * "All rows" are the N = B*T rows of a micro-batch, "own rows" those of the residual stream that
 * this rank has of them (tp.h); C, F, W and so on are this rank's shares of the widths. */
#pragma once

#include "core/log.h"
#include "model/model.h"

/* A linear layer's parameters and gradients; b.n_dims == 0: no bias. */
struct linear {
    struct tensor w, b, dw, db;
};

struct norm {
    struct tensor w, b, dw, db;
};

struct block {
    struct norm norm1, norm2;
    struct norm qk_norm;              /* w.n_dims == 0: none; w of queries, then keys */
    struct linear qkv, out, up, down; /* up: gate | up for SwiGLU */
    bool turns;                       /* by rotary positions */
    int unit;                         /* of the parameter table */
};

/* What forward of one block makes.  Of what is recomputed only the shapes outlive it. */
struct block_saved {
    struct tensor x; /* [own,C] input */
    struct tensor h1,
        stats1;        /* [all,C], [own] what the attention half reads; of its norm */
    struct tensor qkv; /* [all,(H+2K)D] after rotary */
    struct tensor qk,
        qk_sums; /* [all,(H+K)D], [all,2] before the norm of queries and keys */
    struct tensor att, lse; /* [all,H*D], [B*H,T] */
    struct tensor a1,
        a2;           /* [own,C] outputs of the halves in front of norms that come last */
    struct tensor x2; /* [own,C] after the attention half */
    struct tensor h2, stats2; /* [all,C], [own] */
    struct tensor u;          /* [all,F or 2F] before the activation */
    struct tensor g;          /* [all,F] after it; made again in backward */
};

/* What backward leaves to the weight gradients, when they come later. */
struct block_later {
    struct block_saved saved;
    struct tensor d_out, d_x2;      /* [own,C] gradients of what the two halves put out */
    struct tensor du, dqkv;         /* [all,F or 2F], [all,W] */
    struct tensor dnorm1w, dnorm1b; /* [C], fp32: the norms' own gradients of this pass */
    struct tensor dnorm2w, dnorm2b;
    struct tensor dqk_norm; /* [(H+K)D], fp32 */
};

struct slot {
    struct block_saved *saved; /* [layers of the chunk] */
    struct tensor out;         /* [own,C] of a chunk with the head */
    void *memory;
};

struct weight_slot {
    struct block_later *later; /* [layers of the chunk] */
    void *memory;
};

struct chunk {
    int first, end; /* of model.blocks */
    bool embeds, heads;
    int n_slots, n_weight_slots;
    struct slot *slots;
    struct weight_slot *weight_slots;
    size_t slot_bytes, weight_slot_bytes;
};

struct model {
    struct arch arch; /* the whole model's */
    struct shard shard;
    struct shard_widths widths; /* this rank's shares */
    const struct param_table *params;
    float *const *unit_grads; /* NULL: none */
    struct tp *tp;
    struct cp *cp;
    struct nn *nn;
    struct device *device;
    struct arena *arena;
    enum model_recompute recompute;
    enum dtype dtype;
    float z_loss;
    int64_t T;                                       /* rows of a sequence here */
    struct tensor wte, wpe, dwte, dwpe, head, dhead; /* n_dims == 0: not here, or none */
    struct norm final_norm;
    int n_blocks;
    struct block *blocks;
    struct chunk chunks[SHARD_MAX_CHUNKS];
    float *rope_table; /* [max_positions, arch_rope_dims / 2, 2] */
    /* kv heads that several tensor-parallel ranks hold: number here, or -1 */
    int n_shared;
    int64_t *shared;
};

/* ---- bind.c ------------------------------------------------------------------------------ */

/* Views of all weights and gradients, found by name. */
void model_bind_all(struct model *m, void *params, float *const *unit_grads);

/* ---- linear.c: products, and what tensor parallelism sends around them --------------------- */

/* h's own rows are set: gathers all, and y = h w^T + b over all rows; u and y for GELU. */
void column_fwd(struct model *m, struct tensor *y, const struct tensor *h,
                const struct linear *l);
void column_gelu_fwd(struct model *m, struct tensor *y, struct tensor *u,
                     const struct tensor *h, const struct linear *l);
/* y[own] = sum over ranks of x w^T, + b + residual[own] */
void row_fwd(struct model *m, struct tensor *y, const struct tensor *x,
             const struct linear *l, const struct tensor *residual);

/* dh[all] = dy w summed over ranks, in the own rows; if `weights`, dw += dy^T h between the product
 * and the end of that sum: h's own rows are set, it gathers all. */
void column_bwd(struct model *m, struct tensor *dh, const struct tensor *dy,
                const struct tensor *h, struct linear *l, bool weights);
/* db += sum dy, which column_bwd leaves to those who read dy anyway */
void column_bias_bwd(struct model *m, const struct tensor *dy, struct linear *l);
/* dy[all], of which the own rows are set, is gathered; dx = dy w */
void row_bwd(struct model *m, struct tensor *dx, const struct tensor *dy,
             const struct linear *l);
/* With dy[all] gathered:   dw += dy^T x      db += sum dy */
void row_weights(struct model *m, const struct tensor *dy, const struct tensor *x,
                 struct linear *l);
/* The gradients of weights and biases alone; h and dy have their own rows. */
void column_weights_later(struct model *m, const struct tensor *dy,
                          const struct tensor *h, struct linear *l);
void row_weights_later(struct model *m, const struct tensor *dy, const struct tensor *x,
                       struct linear *l);

/* ---- block.c, block_bwd.c ------------------------------------------------------------------ */

void norm_fwd(struct model *m, struct tensor *y, struct tensor *stats,
              const struct tensor *x, const struct tensor *residual, struct norm *p);
void norm_bwd(struct model *m, struct tensor *dx, const struct tensor *dy,
              const struct tensor *x, const struct tensor *stats, struct norm *p,
              enum nn_accum mode);
/* Space for norm_fwd's statistics of N rows. */
struct tensor norm_stats(const struct model *m, struct arena *arena, int64_t N);

/* Norms are made again where it saves memory, and where their rows would have to be gathered
 * again anyway. */
bool block_keeps_norms(const struct model *m);
/* Take what one block makes for B sequences of T rows from two arenas (x is the caller's): what
 * is kept for backward and what only forward needs. */
void block_take(struct model *m, struct block_saved *s, int64_t B, int64_t T,
                struct arena *kept, struct arena *work);

struct nn_attention attention_of(const struct model *m, const struct model_input *in);
struct nn_rope rope_of(const struct model *m, const int32_t *positions);

/* s->x -> s->h1, and s->x2 (s->x, if halves are parallel) -> s->h2: own rows, norm included where
 * it comes first. */
void block_read1(struct model *m, struct block *b, struct block_saved *s);
void block_read2(struct model *m, struct block *b, struct block_saved *s);
void block_activate(struct model *m, struct block_saved *s); /* s->u -> s->g */

/* s->x -> s->qkv, rotary included. */
void block_project(struct model *m, struct block *b, struct block_saved *s,
                   const int32_t *positions);
/* s->x, s->att -> out: the rest of the block after attention. */
void block_finish(struct model *m, struct block *b, struct block_saved *s,
                  struct tensor *out);
/* s->x -> out [own,C]. */
void block_fwd(struct model *m, struct block *b, struct block_saved *s,
               struct tensor *out, const struct model_input *in);
/* dx[all]: gradient of the block's output in the own rows, becomes that of its input.  With
 * `later`, weight gradients are left to block_weights. */
void block_bwd(struct model *m, struct block *b, struct block_saved *s, struct tensor *dx,
               const struct model_input *in, struct block_later *later);
void block_weights(struct model *m, struct block *b, struct block_later *later);
void block_later_take(struct model *m, struct block_later *l, int64_t B, int64_t T,
                      struct arena *arena);

/* ---- qk_norm.c ----------------------------------------------------------------------------- */

/* The q and k columns of s->qkv, normalised over the heads of all tensor-parallel ranks. */
void qk_norm_fwd(struct model *m, struct block *b, struct block_saved *s);
/* dqkv in place; the gradient of the norm goes to dw. */
void qk_norm_bwd(struct model *m, struct block *b, const struct block_saved *s,
                 struct tensor *dqkv, struct tensor *dw);

/* ---- replicated.c -------------------------------------------------------------------------- */

/* Sum over tensor-parallel ranks what each has a part of, in unit u, block b of it (NULL: none). */
void sum_replicated(struct model *m, int unit, struct block *b);
status_t find_shared(struct model *m);

/* ---- memory -------------------------------------------------------------------------------- */

/* Activations from an arena, or from the working one. */
struct tensor take_from(struct model *m, struct arena *arena, int64_t rows, int64_t cols);
struct tensor model_take(struct model *m, int64_t rows, int64_t cols);
