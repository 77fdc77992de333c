/* model_impl - blocks, inside src/model only. */
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
    struct linear qkv, out, up, down; /* up: gate | up for SwiGLU */
    int64_t low, high;                /* flat indices of its parameters: [low, high) */
};

/* What forward of one block makes; N rows. */
struct block_saved {
    struct tensor x;          /* [N,C] input */
    struct tensor h1, stats1; /* [N,C] after the first norm */
    struct tensor qkv;        /* [N,(H+2K)D] after rotary */
    struct tensor att, lse;   /* [N,H*D], [B*H,T] */
    struct tensor x2;         /* [N,C] after the attention half */
    struct tensor h2, stats2; /* [N,C] */
    struct tensor u, g;       /* [N,F or 2F], [N,F] before and after the activation */
};

struct model {
    struct arch arch;
    const struct param_table *params;
    struct nn *nn;
    struct device *device;
    struct arena *arena;
    enum model_recompute recompute;
    enum dtype dtype;
    int64_t head_low, head_high; /* flat indices of the LM head and of ... */
    int64_t norm_low, norm_high; /* ... the final norm */
    struct tensor wte, wpe, dwte, dwpe, head, dhead; /* wpe.n_dims == 0: rotary */
    struct norm final_norm;
    struct block *blocks;
    struct block_saved *saved;
    float *rope_table; /* [max_positions, head_size / 2, 2] */
};

/* Layers by name: `flat` is NULL while measuring. */
void block_bind(struct model *m, struct block *b, int64_t layer, void *params,
                float *grads);
struct norm model_bind_norm(const struct model *m, const char *name, void *params,
                            float *grads);
struct tensor model_bind(const struct model *m, const char *name, void *flat,
                         enum dtype t);

void norm_fwd(struct model *m, struct tensor *y, struct tensor *stats,
              const struct tensor *x, struct norm *p);
void norm_bwd(struct model *m, struct tensor *dx, const struct tensor *dy,
              const struct tensor *x, const struct tensor *stats, struct norm *p);
/* Space for norm_fwd's statistics of N rows. */
struct tensor norm_stats(struct model *m, int64_t N);

/* Take what one block keeps from the arena (x is the caller's). */
void block_take(struct model *m, struct block_saved *s, int64_t B, int64_t T);

/* s->x -> s->qkv, rotary included. */
void block_project(struct model *m, struct block *b, struct block_saved *s,
                   const int32_t *positions);
/* s->x, s->att -> out: the rest of the block after attention. */
void block_finish(struct model *m, struct block *b, struct block_saved *s,
                  struct tensor *out);
/* s->x -> out. */
void block_fwd(struct model *m, struct block *b, struct block_saved *s,
               struct tensor *out, const struct model_input *in);
/* dx: gradient of the block's output, becomes that of its input. */
void block_bwd(struct model *m, struct block *b, struct block_saved *s, struct tensor *dx,
               const struct model_input *in);

/* Activations from the arena. */
struct tensor model_take(struct model *m, int64_t rows, int64_t cols);
