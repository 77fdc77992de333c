#include "train/plan_memory.h"

#include <inttypes.h>
#include <omp.h>

#include "train/memory_plan.h"
#include "train/place.h"
#include "train/products.h"

/* How many of `ranks` like the dearest fit into what is free here; together they need no more than `copies`
 * of the weights. */
static void print_room(FILE *out, int ranks, int copies, const struct memory_plan *most,
                       const struct device *dev)
{
    const size_t bytes = memory_plan_device_bytes(most);
    size_t host = memory_plan_total_bytes(most);
    const double MB = 1e6;
    const int64_t available = memory_available_bytes();
    if (!device_is_host(dev)) {
        host -= bytes;
        struct device_info info;
        device_describe(dev, &info);
        fprintf(out, "this GPU has %.1f MB free: %s\n", (double)info.free_bytes / MB,
                bytes <= info.free_bytes ? "a rank fits, if its libraries do"
                                         : "too few for a rank");
    }
    if (available < 0 || host == 0) return;
    const int64_t weights = (int64_t)most->weights, rest = (int64_t)host - weights;
    int64_t fit = available / (int64_t)host;
    if (copies < ranks && rest > 0 && (available - copies * weights) / rest > fit)
        fit = (available - copies * weights) / rest;
    fprintf(out, "this host has %.1f MB free: enough for %" PRId64 " of %d such ranks\n",
            (double)available / MB, fit < ranks ? fit : ranks, ranks);
}

static void print_row(FILE *out, int stage, const struct memory_plan *p)
{
    const double MB = 1e6;
    const double device = (double)memory_plan_device_bytes(p);
    fprintf(out, "  stage %-3d %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f\n",
            stage, (double)p->weights / MB, (double)p->gradients / MB,
            (double)p->optimizer / MB, (double)p->communication / MB,
            (double)(p->activations + p->inputs) / MB, (double)p->scratch / MB,
            device / MB, ((double)memory_plan_total_bytes(p) - device) / MB,
            (double)memory_plan_total_bytes(p) / MB);
}

static status_t print_stages(const struct config *c, const int sizes[MESH_AXES],
                             struct device *dev, enum dtype t, FILE *out)
{
    const int threads = c->threads > 0 ? (int)c->threads : omp_get_num_procs();
    const int a_stage = sizes[MESH_DP] * sizes[MESH_CP] * sizes[MESH_TP];
    fprintf(out,
            "memory of a rank, MB (%s, %s, %d thread%s):\n"
            "            weights gradients optimizer  communic. activat.   scratch    "
            "device      host       sum\n",
            device_name(dev), dtype_name(t), threads, threads == 1 ? "" : "s");
    struct memory_plan most = {0};
    /* of as many ranks one has the weights */
    const int sharers =
        device_is_host(dev) && c->zero > 0 && c->comm == COMM_TRANSPORT_AUTO
            ? sizes[MESH_DP] * sizes[MESH_CP]
            : 1;
    size_t saved = 0;
    for (int stage = 0; stage < sizes[MESH_PP]; stage++) {
        struct memory_plan p; /* stages are the outermost axis of the mesh */
        TRY(memory_plan_imagine(&p, c, a_stage * stage, a_stage * sizes[MESH_PP], dev, t,
                                threads));
        print_row(out, stage, &p);
        saved += p.weights * (size_t)(a_stage - a_stage / sharers);
        if (memory_plan_total_bytes(&p) > memory_plan_total_bytes(&most)) most = p;
    }
    if (saved > 0)
        fprintf(
            out,
            "ranks of one host share weights: all on one take %.1f MB less together\n",
            (double)saved / 1e6);
    const int ranks = a_stage * sizes[MESH_PP];
    print_room(out, ranks, ranks / sharers, &most, dev);
    return STATUS_OK;
}

status_t plan_memory_print(const struct config *c, const int sizes[MESH_AXES], FILE *out)
{
    struct device *dev = NULL;
    enum dtype t;
    const char *why;
    if (c->arch.vocab_size == 0) {
        fprintf(out, "memory: depends on the vocabulary, which the token files tell, or "
                     "model.vocab_size\n");
        return STATUS_OK;
    }
    status_t st = place_open_alone(&dev, (enum config_device)c->device);
    if (st == STATUS_OK)
        st = place_precision(&t, &why, dev, NULL, (enum config_precision)c->precision);
    if (st == STATUS_OK)
        st = products_choose(&why, dev, t, NULL, (enum config_products)c->fp32_products);
    if (st == STATUS_OK)
        st = print_stages(c, sizes, dev, t, out);
    else if (st != STATUS_NOMEM) {
        fprintf(out, "memory: cannot be planned here: %s\n", status_message());
        st = STATUS_OK;
    }
    device_close(&dev);
    return st;
}
