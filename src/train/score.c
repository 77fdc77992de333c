#include "train/score.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"

/* Room on the host for one micro-batch of windows. */
struct room {
    int32_t *memory;
    struct batch batch;
    int32_t *owner, *owner_here; /* of whole windows; of this rank's rows of them */
    float *row_loss;             /* of this rank's rows */
};

static status_t room_take(struct room *r, const struct inference *i)
{
    const int64_t N = i->config.micro_batch * i->config.sequence_length;
    r->memory = malloc((size_t)(6 * N) * sizeof *r->memory);
    r->row_loss = malloc((size_t)N * sizeof *r->row_loss);
    r->batch = (struct batch){.T = i->config.sequence_length,
                              .tokens = r->memory,
                              .targets = r->memory + N,
                              .positions = r->memory + 2 * N,
                              .doc_start = r->memory + 3 * N};
    r->owner = r->memory + 4 * N;
    r->owner_here = r->memory + 5 * N;
    return r->memory && r->row_loss
               ? STATUS_OK
               : status_set(STATUS_NOMEM, "no memory for %jd tokens", (intmax_t)N);
}

static void room_release(struct room *r)
{
    free(r->row_loss);
    free(r->memory);
}

/* Losses of this rank's rows to the answers they are of. */
static void collect(double *loglikelihood, struct inference *i, struct room *r)
{
    const int64_t n = r->batch.B * i->inputs.rows;
    const struct mesh *m = &i->layout.mesh;
    const int32_t *owner = r->owner;
    if (m->size[MESH_CP] > 1) {
        cp_pick(r->owner_here, r->owner, r->batch.B, r->batch.T, m->size[MESH_CP],
                m->coord[MESH_CP]);
        owner = r->owner_here;
    }
    device_copy_out(i->device, r->row_loss, i->row_loss, (size_t)n * sizeof(float));
    for (int64_t k = 0; k < n; k++)
        if (owner[k] >= 0) loglikelihood[owner[k]] -= (double)r->row_loss[k];
}

static void tell(double *told, int64_t done, int64_t count)
{
    enum { SECONDS = 10 };
    if (log_rank() != 0 || clock_seconds() - *told < SECONDS) return;
    log_info("evaluation: %jd of %jd windows", (intmax_t)done, (intmax_t)count);
    *told = clock_seconds();
}

/* Windows [first, end), which the ranks of a pipeline go through together. */
static void run(double *loglikelihood, struct inference *i,
                const struct task_tokens *tokens, struct room *r, int64_t first,
                int64_t end)
{
    const bool counts = layout_counts_loss(&i->layout);
    double told = clock_seconds();
    struct batch *b = &r->batch;
    inputs_clear_sums(&i->inputs);
    for (int64_t at = first; at < end; at += b->B) {
        b->B = end - at < i->config.micro_batch ? end - at : i->config.micro_batch;
        task_tokens_fill(tokens, at, b, r->owner);
        const struct model_input in = inputs_load(&i->inputs, 0, b);
        inference_loss(i, &in, &i->inputs.sums->loss);
        if (counts) collect(loglikelihood, i, r);
        tell(&told, at + b->B - first, end - first);
    }
    inputs_read_sums(&i->inputs); /* waits, so the batch may go */
}

status_t score_answers(double *loglikelihood, struct inference *i,
                       const struct task_tokens *tokens)
{
    const struct mesh *m = &i->layout.mesh;
    struct room r = {0};
    int64_t first, count;
    memset(loglikelihood, 0, (size_t)tokens->n * sizeof *loglikelihood);
    status_t st = tokens->n <= INT_MAX
                      ? room_take(&r, i)
                      : status_set(STATUS_DATA, "more than %d answers", INT_MAX);
    st = comm_agree(i->world, st);
    if (st == STATUS_OK) {
        comm_slice(tokens->n_windows, m->size[MESH_DP], m->coord[MESH_DP], &first,
                   &count);
        run(loglikelihood, i, tokens, &r, first, first + count);
        comm_sum_f64(i->world, loglikelihood, (int)tokens->n);
    }
    room_release(&r);
    return st;
}
