#include "train/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "parallel/cp/cp.h"
#include "parallel/pp/split.h"

/* ---- is it possible? ----------------------------------------------------------------------- */

static status_t check_batch(const struct config *c, const int sizes[MESH_AXES])
{
    const int64_t batch = config_global_batch(c);
    if (batch >= sizes[MESH_DP]) return STATUS_OK;
    return status_set(
        STATUS_CONFIG,
        "train.batch_sequences: %jd sequences a step cannot be shared by %d "
        "data-parallel ranks; valid: %d or more",
        (intmax_t)batch, sizes[MESH_DP], sizes[MESH_DP]);
}

static status_t check_stages(const struct config *c, const int sizes[MESH_AXES])
{
    const int pp = sizes[MESH_PP];
    const int64_t parts = pp * c->chunks;
    if (c->chunks > 1 && pp == 1)
        return status_set(STATUS_CONFIG,
                          "parallel.chunks: %jd parts a stage need parallel.pp of 2 or "
                          "more; valid without it: 1",
                          (intmax_t)c->chunks);
    if (parts <= c->arch.n_layers) return STATUS_OK;
    return status_set(STATUS_CONFIG,
                      "parallel.pp: %d stages of %jd parts are more than the %jd layers; "
                      "valid: 1 to %jd",
                      pp, (intmax_t)c->chunks, (intmax_t)c->arch.n_layers,
                      (intmax_t)(c->arch.n_layers / c->chunks));
}

/* Every rank must have rows of every sequence, and of those a part of its own. */
static status_t check_rows(const struct config *c, const int sizes[MESH_AXES])
{
    const int cp = sizes[MESH_CP], tp = sizes[MESH_TP];
    const int64_t T = c->sequence_length;
    if (cp > 1 && T < 2 * cp)
        return status_set(STATUS_CONFIG,
                          "parallel.cp: %d ranks cannot share sequences of %jd tokens; "
                          "valid: 1 to %jd",
                          cp, (intmax_t)T, (intmax_t)(T / 2));
    if (T / cp >= tp) return STATUS_OK;
    return status_set(
        STATUS_CONFIG,
        "parallel.tp: %d ranks cannot share the %jd rows of a sequence that "
        "parallel.cp %d leaves; valid: 1 to %jd",
        tp, (intmax_t)(T / cp), cp, (intmax_t)(T / cp));
}

status_t layout_sizes(const struct config *c, int ranks, int sizes[MESH_AXES])
{
    const int wanted[MESH_AXES] = {[MESH_TP] = (int)c->tp,
                                   [MESH_CP] = (int)c->cp,
                                   [MESH_DP] = (int)c->dp,
                                   [MESH_PP] = (int)c->pp};
    TRY(mesh_sizes(ranks, wanted, sizes));
    TRY(check_batch(c, sizes));
    TRY(check_stages(c, sizes));
    TRY(check_rows(c, sizes));
    return shard_check(&c->arch, sizes[MESH_TP]);
}

status_t layout_settle(struct config *c, int ranks, int sizes[MESH_AXES])
{
    TRY(layout_sizes(c, ranks, sizes));
    const int64_t dp = sizes[MESH_DP], pp = sizes[MESH_PP];
    const int64_t share = (config_global_batch(c) + dp - 1) / dp;
    int64_t most = share;
    if (c->micro_batch_wanted == 0 && pp > 1) most = share / (LAYOUT_BUSY * pp);
    if (most < 1) most = 1;
    if (c->micro_batch > most) c->micro_batch = most;
    return STATUS_OK;
}

/* ---- the pipeline's parts ------------------------------------------------------------------- */

/* Multiplications for a token: of a block, and of the head. */
static double block_cost(const struct config *c)
{
    const struct arch *a = &c->arch;
    const double q = (double)(a->n_heads * a->head_size),
                 kv = (double)(a->n_kv_heads * a->head_size);
    const double C = (double)a->hidden, F = (double)a->ffn;
    const double products = 2 * q * C + 2 * kv * C;
    const double mlp = (a->activation == ARCH_SWIGLU ? 3 : 2) * C * F;
    return products + mlp +
           q * (double)c->sequence_length; /* causal: half of two products */
}

status_t layout_split(const struct config *c, int parts, int64_t *first_layer)
{
    const int64_t n = c->arch.n_layers;
    if (strcmp(c->split, "auto") != 0)
        return pp_split_parse(c->split, n, parts, first_layer);
    double *costs = malloc((size_t)n * sizeof *costs);
    if (!costs)
        return status_set(STATUS_NOMEM, "no memory to split %jd layers", (intmax_t)n);
    for (int64_t l = 0; l < n; l++) costs[l] = block_cost(c);
    const double head = (double)c->arch.hidden * (double)c->arch.vocab_size;
    pp_split(costs, n, 0, head, parts, first_layer);
    free(costs);
    return STATUS_OK;
}

void layout_costs(const struct config *c, int parts, const int64_t *first_layer,
                  double *costs)
{
    for (int i = 0; i < parts; i++)
        costs[i] = block_cost(c) * (double)(first_layer[i + 1] - first_layer[i]);
    costs[parts - 1] += (double)c->arch.hidden * (double)c->arch.vocab_size;
}

/* ---- life ----------------------------------------------------------------------------------- */

status_t layout_init(struct layout *l, const struct config *c, int rank, int ranks)
{
    int sizes[MESH_AXES];
    *l = (struct layout){0};
    TRY(layout_sizes(c, ranks, sizes));
    TRY(mesh_init(&l->mesh, rank, ranks, sizes));
    const struct mesh *m = &l->mesh;
    const int parts = sizes[MESH_PP] * (int)c->chunks;
    l->first_layer = calloc((size_t)parts + 1, sizeof *l->first_layer);
    if (!l->first_layer) return status_set(STATUS_NOMEM, "no memory for the layout");
    TRY(layout_split(c, parts, l->first_layer));
    l->shard = (struct shard){.tp_rank = m->coord[MESH_TP],
                              .tp_size = sizes[MESH_TP],
                              .stage = m->coord[MESH_PP],
                              .n_stages = sizes[MESH_PP],
                              .n_chunks = (int)c->chunks,
                              .first_layer = l->first_layer};
    l->T = sizes[MESH_CP] > 1
               ? cp_rows(c->sequence_length, sizes[MESH_CP], m->coord[MESH_CP])
               : c->sequence_length;
    return STATUS_OK;
}

status_t layout_connect(struct layout *l, struct comm *world)
{
    TRY(comm_create(&l->tp, world, &l->mesh, MESH_BIT(MESH_TP)));
    TRY(comm_create(&l->cp, world, &l->mesh, MESH_BIT(MESH_CP)));
    TRY(comm_create(&l->data, world, &l->mesh, MESH_BIT(MESH_DP) | MESH_BIT(MESH_CP)));
    return comm_create_host(&l->pp, world, &l->mesh, MESH_BIT(MESH_PP));
}

status_t layout_imagine(struct layout *l, const struct config *c, struct device *dev)
{
    const struct mesh *m = &l->mesh;
    const bool nccl = c->comm != COMM_TRANSPORT_MPI;
    const int cp = m->size[MESH_CP];
    TRY(comm_imagine(&l->tp, m->coord[MESH_TP], m->size[MESH_TP], dev, nccl));
    TRY(comm_imagine(&l->cp, m->coord[MESH_CP], cp, dev, nccl));
    TRY(comm_imagine(&l->data, m->coord[MESH_DP] * cp + m->coord[MESH_CP],
                     m->size[MESH_DP] * cp, dev, nccl));
    return comm_imagine(&l->pp, m->coord[MESH_PP], m->size[MESH_PP], dev, false);
}

void layout_release(struct layout *l)
{
    comm_destroy(&l->pp);
    comm_destroy(&l->data);
    comm_destroy(&l->cp);
    comm_destroy(&l->tp);
    free(l->first_layer);
    *l = (struct layout){0};
}

bool layout_counts_loss(const struct layout *l)
{
    return l->mesh.coord[MESH_TP] == 0 &&
           l->mesh.coord[MESH_PP] + 1 == l->mesh.size[MESH_PP];
}

double layout_comm_seconds(const struct layout *l)
{
    return comm_stats(l->tp).seconds + comm_stats(l->cp).seconds +
           comm_stats(l->pp).seconds + comm_stats(l->data).seconds;
}

int layout_n_parts(const struct layout *l)
{
    return l->shard.n_stages * l->shard.n_chunks;
}

struct loader_options layout_loader_options(const struct layout *l,
                                            const struct config *c)
{
    return (struct loader_options){.global_batch = config_global_batch(c),
                                   .micro_batch = c->micro_batch,
                                   .T = c->sequence_length,
                                   .rank = l->mesh.coord[MESH_DP],
                                   .size = l->mesh.size[MESH_DP],
                                   .ahead = (int)c->loader_ahead};
}

/* ---- words ---------------------------------------------------------------------------------- */

static void print_parts(const struct layout *l)
{
    char text[512];
    size_t n = 0;
    const int parts = layout_n_parts(l);
    for (int i = 0; i < parts && n + 24 < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%jd", i ? "," : "",
                              (intmax_t)(l->first_layer[i + 1] - l->first_layer[i]));
    if (parts > 1) log_info("pipeline: layers of its parts: %s", text);
}

void layout_print(const struct layout *l, struct comm *world)
{
    const struct mesh *m = &l->mesh;
    char mine[64] = "?", *hosts = NULL;
    gethostname(mine, sizeof mine - 1);
    hosts = malloc((size_t)m->world_size * sizeof mine);
    if (!hosts) die("no memory for the hosts of %d ranks", m->world_size);
    comm_gather_all(world, mine, sizeof mine, hosts);
    log_info("layout: dp %d x cp %d x tp %d x pp %d", m->size[MESH_DP], m->size[MESH_CP],
             m->size[MESH_TP], m->size[MESH_PP]);
    if (m->world_size > 1 && m->world_rank == 0) {
        char *text = mesh_describe(m, hosts, sizeof mine);
        for (char *line = text; line && *line;) {
            const size_t n = strcspn(line, "\n");
            log_info("%.*s", (int)n, line);
            line += n + (line[n] == '\n');
        }
        free(text);
    }
    print_parts(l);
    free(hosts);
}
