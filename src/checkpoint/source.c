/* The tensors of a checkpoint, whole. */
#include "checkpoint/checkpoint_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"

enum { MAX_OPEN = 256 }; /* shards at a time */

struct reader {
    struct checkpoint *c;
    struct ckpt_order order;
    int *fd; /* of each shard; -1: not open */
    int n_open;
    float *buffer;
};

int64_t checkpoint_param_elements(const struct checkpoint_param *p)
{
    return p->shape[0] * p->shape[1];
}

int checkpoint_source_find(const struct checkpoint_source *s, const char *name)
{
    for (int i = 0; i < s->n_params; i++)
        if (strcmp(s->params[i].name, name) == 0) return i;
    return -1;
}

static void close_shards(struct reader *r)
{
    for (int64_t i = 0; r->fd && i < r->c->index.n_shards; i++) {
        if (r->fd[i] >= 0) close(r->fd[i]);
        r->fd[i] = -1;
    }
    r->n_open = 0;
}

static void reader_close(struct checkpoint_source *s)
{
    struct reader *r = s->state;
    close_shards(r);
    ckpt_order_release(&r->order);
    checkpoint_close(&r->c);
    free(r->fd);
    free(r->buffer);
    free(r);
}

static status_t shard_fd(struct reader *r, int64_t shard, int *fd)
{
    if (r->fd[shard] < 0) {
        if (r->n_open == MAX_OPEN) close_shards(r);
        TRY(ckpt_shard_open(r->c, shard, &r->fd[shard]));
        r->n_open++;
    }
    *fd = r->fd[shard];
    return STATUS_OK;
}

/* Elements [first, first + n) of piece p to their place in the tensor x. */
struct target {
    float *x;
    int64_t cols;
};

static void take(void *context, const struct ckpt_piece *p, int kind, int64_t first,
                 const float *data, int64_t n)
{
    const struct target *t = context;
    (void)kind;
    while (n > 0) {
        const int64_t row = first / p->cols, col = first % p->cols;
        const int64_t m = p->cols - col < n ? p->cols - col : n;
        memcpy(t->x + (p->row + row) * t->cols + p->col + col, data,
               (size_t)m * sizeof *data);
        first += m;
        data += m;
        n -= m;
    }
}

static status_t reader_read(struct checkpoint_source *s, int param,
                            enum checkpoint_kind kind, float *x)
{
    struct reader *r = s->state;
    struct target t = {x, s->params[param].shape[1]};
    for (int64_t j = r->order.first[param]; j < r->order.first[param + 1]; j++) {
        const struct ckpt_piece *p = &r->c->index.pieces[r->order.piece[j]];
        int fd;
        TRY(shard_fd(r, p->shard, &fd));
        TRY(ckpt_piece_read(r->c, fd, p, (int)kind, r->buffer, take, &t));
    }
    return STATUS_OK;
}

status_t ckpt_source_of(struct checkpoint_source *s, struct checkpoint *c)
{
    struct reader *r = calloc(1, sizeof *r);
    *s = (struct checkpoint_source){0};
    if (!r) {
        checkpoint_close(&c);
        return status_set(STATUS_NOMEM, "no memory to read a checkpoint");
    }
    *s = (struct checkpoint_source){.name = c->path,
                                    .meta = &c->meta,
                                    .params = c->index.params,
                                    .n_params = (int)c->index.n_params,
                                    .read = reader_read,
                                    .close = reader_close,
                                    .state = r};
    r->c = c;
    r->fd = malloc((size_t)c->index.n_shards * sizeof *r->fd + 1);
    r->buffer = malloc(CKPT_BUFFER * sizeof *r->buffer);
    for (int64_t i = 0; r->fd && i < c->index.n_shards; i++) r->fd[i] = -1;
    const status_t st =
        r->fd && r->buffer
            ? ckpt_order_init(&r->order, &c->index)
            : status_set(STATUS_NOMEM, "%s: no memory to read it", c->path);
    if (st != STATUS_OK) checkpoint_source_close(s);
    return st;
}

status_t checkpoint_source_open(struct checkpoint_source *s, const char *path)
{
    char latest[PATH_MAX], inside[PATH_MAX];
    struct checkpoint *c;
    *s = (struct checkpoint_source){0};
    if (!file_is_dir(path)) return ckpt_packed_open(s, path);
    file_join(inside, sizeof inside, path, "model.h5");
    if (!file_exists(inside)) {
        TRY(checkpoint_find_latest(path, latest));
        if (!latest[0])
            return status_set(STATUS_CHECKPOINT,
                              "%s: is neither a checkpoint (model.h5) nor a run folder "
                              "with one (step-*/model.h5)",
                              path);
        path = latest;
    }
    TRY(checkpoint_open(&c, path));
    return ckpt_source_of(s, c);
}

void checkpoint_source_close(struct checkpoint_source *s)
{
    if (s->close) s->close(s);
    *s = (struct checkpoint_source){0};
}
