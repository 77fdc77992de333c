#include "train/parts.h"

int64_t parts_unit_align(const struct config *c, const struct layout *l)
{
    return c->zero == 2 ? dp_padded_elements(1, comm_size(l->data)) : 0;
}

int parts_near(const struct parts_options *o, int *index)
{
    *index = 0;
    return o->config->zero == 0 ? 1 : comm_near(o->layout->data, index);
}

int64_t parts_padded_elements(const struct parts_options *o)
{
    return dp_padded_elements(o->params->n_elements, comm_size(o->layout->data));
}

struct dp_buckets parts_buckets(const struct parts_options *o)
{
    const struct param_table *t = o->params;
    if (o->config->zero == 2) return dp_buckets_between(t->unit, t->n_units);
    return dp_buckets_padded(parts_padded_elements(o),
                             (o->config->bucket_mb << 20) / (int64_t)sizeof(float),
                             comm_size(o->layout->data));
}

int64_t parts_micro_batches(const struct config *c, const struct layout *l)
{
    struct loader_options o = layout_loader_options(l, c);
    int64_t most = loader_micro_batches(&o);
    for (o.rank = 0; c->zero == 2 && o.rank < o.size; o.rank++) {
        const int64_t n = loader_micro_batches(&o);
        if (n > most) most = n;
    }
    return most;
}

status_t parts_schedule(struct pp_schedule *s, const struct config *c,
                        const struct layout *l)
{
    return pp_schedule_build(s, (enum pp_kind)c->pipeline, l->shard.n_stages,
                             l->shard.n_chunks, (int)parts_micro_batches(c, l));
}

enum model_recompute parts_recompute(const struct config *c)
{
    static const enum model_recompute recompute[] = {
        [CONFIG_RECOMPUTE_NONE] = MODEL_RECOMPUTE_NONE,
        [CONFIG_RECOMPUTE_SELECTIVE] = MODEL_RECOMPUTE_SELECTIVE,
        [CONFIG_RECOMPUTE_FULL] = MODEL_RECOMPUTE_FULL};
    return recompute[c->recompute];
}

struct tp_options parts_tp(const struct parts_options *o)
{
    const struct config *c = o->config;
    const int size = comm_size(o->layout->tp);
    const int64_t rows = c->micro_batch * o->layout->T;
    return (struct tp_options){
        .comm = o->layout->tp,
        .sequence_parallel = c->sequence_parallel,
        .dtype = o->dtype,
        .max_rows = rows,
        .width = c->arch.hidden,
        .max_replicated = model_replicated_elements(&c->arch, o->params, size,
                                                    c->sequence_parallel, rows),
        /* maximum, sum and target of each row from each rank */
        .max_gathered_bytes = 3 * size * rows * (int64_t)sizeof(float)};
}

struct cp_options parts_cp(const struct parts_options *o)
{
    const struct config *c = o->config;
    const struct shard *s = &o->layout->shard;
    const struct shard_widths w = shard_widths(&c->arch, s->tp_rank, s->tp_size);
    return (struct cp_options){.comm = o->layout->cp,
                               .dtype = o->dtype,
                               .max_B = c->micro_batch,
                               .T = c->sequence_length,
                               .kv_width = 2 * w.kv_heads * c->arch.head_size};
}

int64_t parts_twin_elements(const struct parts_options *o)
{
    const struct shard *s = &o->layout->shard;
    const bool ends = shard_has_embedding(s, 0) || shard_has_head(s, s->n_chunks - 1);
    if (!o->config->arch.tied_embeddings || s->n_stages == 1 || !ends) return 0;
    int64_t first, count;
    if (o->config->zero < 2) return o->params->params[0].n;
    comm_slice(o->params->unit[1], comm_size(o->layout->data), comm_rank(o->layout->data),
               &first, &count);
    return count;
}

struct pp_options parts_pp(const struct parts_options *o, const struct pp_schedule *s)
{
    const struct config *c = o->config;
    const int64_t all = c->micro_batch * o->layout->T;
    const int tp = comm_size(o->layout->tp);
    int64_t first, own = all;
    if (tp > 1 && c->sequence_parallel) comm_slice(all, tp, 0, &first, &own);
    return (struct pp_options){.comm = o->layout->pp,
                               .schedule = s,
                               .max_own = own, /* rank 0 never has fewer than another */
                               .max_all = all,
                               .width = c->arch.hidden,
                               .max_sum = parts_twin_elements(o),
                               .dtype = o->dtype};
}

struct inputs_shape parts_inputs(const struct parts_options *o,
                                 const struct pp_schedule *s)
{
    const struct config *c = o->config;
    const struct mesh *m = &o->layout->mesh;
    const int stage = m->coord[MESH_PP];
    return (struct inputs_shape){
        .max_B = c->micro_batch,
        .T = c->sequence_length,
        .cp_rank = m->coord[MESH_CP],
        .cp_size = m->size[MESH_CP],
        /* the next is looked at while the last is worked on */
        .slots = m->size[MESH_PP] > 1 ? s->stages[stage].window + 1 : 1};
}

struct model_options parts_model(const struct parts_options *o,
                                 const struct pp_schedule *s, struct tp *tp,
                                 struct cp *cp)
{
    const struct config *c = o->config;
    const struct layout *l = o->layout;
    const struct pp_list *list = &s->stages[l->mesh.coord[MESH_PP]];
    const bool pipeline = l->mesh.size[MESH_PP] > 1;
    return (struct model_options){.arch = &c->arch,
                                  .params = o->params,
                                  .shard = &l->shard,
                                  .tp = tp,
                                  .cp = cp,
                                  .max_B = c->micro_batch,
                                  .T = l->T,
                                  .slots = pipeline ? list->slots : NULL,
                                  .weight_slots = pipeline ? list->weight_slots : NULL,
                                  .dtype = o->dtype,
                                  .documents = c->document_mask,
                                  .z_loss = (float)c->z_loss,
                                  .recompute = parts_recompute(c)};
}
