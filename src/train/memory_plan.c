#include "train/memory_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/log.h"
#include "data/loader.h"
#include "train/mirror.h"

/* Staging of the reductions, and what of gradients and moments is here. */
static status_t measure_state(struct memory_plan *p, const struct parts_options *o)
{
    struct arena staging = arena_measure(), moments = arena_measure(),
                 shards = arena_measure();
    struct dp *dp = NULL;
    struct zero *zero = NULL;
    struct dp_units *units = NULL;
    const struct dp_buckets buckets = parts_buckets(o);
    status_t st = dp_create(&dp, o->layout->data, buckets,
                            zero_reduction((int)o->config->zero), &staging);
    if (st == STATUS_OK)
        st = zero_create(&zero, dp, o->device, NULL, o->dtype, o->params->n_elements,
                         &moments);
    if (st == STATUS_OK && o->config->zero == 2)
        st = dp_units_create(&units, o->layout->data, &buckets, &shards);
    if (st == STATUS_OK) {
        for (int64_t i = 0; i < zero_n_owned(zero); i++)
            p->owned_elements += zero_owned(zero, i).count;
        p->communication = staging.peak_bytes;
        p->optimizer = moments.peak_bytes;
        p->mirror = mirror_host_bytes(o->device, zero, o->config->checkpoint_async);
        p->staging += dp_host_bytes(dp);
        if (units) p->staging += dp_units_host_bytes(units);
        p->gradients = units ? shards.peak_bytes
                             : arena_align((size_t)p->padded_elements * sizeof(float));
    }
    dp_units_destroy(&units);
    zero_destroy(&zero);
    dp_destroy(&dp);
    return st;
}

/* Passes of the model, and what travels in the middle of them. */
static status_t measure_passes(struct memory_plan *p, const struct parts_options *o,
                               const struct pp_schedule *schedule, int n_threads)
{
    struct arena staging = arena_measure();
    struct tp *tp = NULL;
    struct cp *cp = NULL;
    struct pp *pp = NULL;
    struct model_needs needs;
    const struct tp_options to = parts_tp(o);
    const struct cp_options co = parts_cp(o);
    const struct pp_options po = parts_pp(o, schedule);
    status_t st = tp_create(&tp, &to, &staging);
    if (st == STATUS_OK) st = cp_create(&cp, &co, &staging);
    if (st == STATUS_OK && schedule->n_stages > 1) st = pp_create(&pp, &po, &staging);
    if (st == STATUS_OK) {
        const struct model_options mo = parts_model(o, schedule, tp, cp);
        st = model_measure(&mo, o->device, n_threads, true, &needs);
    }
    if (st == STATUS_OK) {
        p->communication += staging.peak_bytes;
        p->staging += tp_host_bytes(&to) + cp_host_bytes(&co);
        if (pp) p->staging += pp_host_bytes(&po);
        p->activations = arena_align(needs.activation_bytes);
        p->scratch = arena_align(needs.scratch_bytes);
    }
    pp_destroy(&pp);
    cp_destroy(&cp);
    tp_destroy(&tp);
    return st;
}

status_t memory_plan_make(struct memory_plan *p, const struct parts_options *o,
                          const struct pp_schedule *schedule, int n_threads)
{
    const struct loader_options lo = layout_loader_options(o->layout, o->config);
    const struct inputs_shape shape = parts_inputs(o, schedule);
    struct arena arena = arena_measure();
    struct inputs inputs;
    int index;
    *p = (struct memory_plan){.padded_elements = parts_padded_elements(o)};
    const size_t weights =
        arena_align((size_t)p->padded_elements * dtype_bytes(o->dtype));
    p->n_near = parts_near(o, &index);
    p->weights = index == 0 ? weights : 0;
    TRY(measure_state(p, o));
    TRY(measure_passes(p, o, schedule, n_threads));
    TRY(inputs_init(&inputs, &arena, o->device, &shape));
    p->inputs = arena.peak_bytes;
    p->staging += inputs_host_bytes(o->device, &shape);
    p->batches = loader_bytes(&lo);
    return STATUS_OK;
}

status_t memory_plan_imagine(struct memory_plan *p, const struct config *c, int rank,
                             int ranks, struct device *dev, enum dtype dtype,
                             int n_threads)
{
    struct layout l = {0};
    struct pp_schedule schedule = {0};
    struct param_table params = {0};
    const struct parts_options o = {
        .config = c, .layout = &l, .params = &params, .device = dev, .dtype = dtype};
    status_t st = layout_init(&l, c, rank, ranks);
    if (st == STATUS_OK) st = layout_imagine(&l, c, dev);
    if (st == STATUS_OK) st = parts_schedule(&schedule, c, &l);
    if (st == STATUS_OK)
        st = param_table_init(&params, &c->arch, &l.shard, parts_unit_align(c, &l));
    if (st == STATUS_OK) st = memory_plan_make(p, &o, &schedule, n_threads);
    param_table_release(&params);
    pp_schedule_release(&schedule);
    layout_release(&l);
    return st;
}

size_t memory_plan_device_bytes(const struct memory_plan *p)
{
    return p->weights + p->gradients + p->optimizer + p->communication + p->activations +
           p->inputs + p->scratch;
}

size_t memory_plan_pinned_bytes(const struct memory_plan *p)
{
    return p->staging + p->mirror;
}

static size_t host_bytes(const struct memory_plan *p)
{
    return p->batches + memory_plan_pinned_bytes(p);
}

size_t memory_plan_total_bytes(const struct memory_plan *p)
{
    return memory_plan_device_bytes(p) + host_bytes(p);
}

void memory_plan_print(const struct memory_plan *p, int n_ranks)
{
    const struct {
        const char *what;
        size_t bytes;
    } parts[] = {
        {"weights", p->weights},         {"gradients", p->gradients},
        {"optimizer", p->optimizer},     {"communication", p->communication},
        {"activations", p->activations}, {"inputs", p->inputs},
        {"scratch", p->scratch},         {"batches ahead", p->batches},
        {"host staging", p->staging},    {"host mirror", p->mirror},
    };
    char together[64] = "";
    if (p->n_near > 1)
        snprintf(together, sizeof together, ", one copy for %jd ranks of a host",
                 (intmax_t)p->n_near);
    log_info("memory of a rank, bytes:");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        log_info("  %-14s %15zu%s", parts[i].what, parts[i].bytes,
                 i == 0 ? together : "");
    log_info("  %-14s %15zu on rank 0 of %d", "sum", memory_plan_total_bytes(p), n_ranks);
}

/* The number in `file` behind `key` (or at its start if key is ""), times `unit`; -1 if there
 * is none. */
static int64_t number_in(const char *file, const char *key, int64_t unit)
{
    char line[256];
    int64_t value = -1;
    FILE *f = fopen(file, "r");
    if (!f) return -1;
    while (value < 0 && fgets(line, sizeof line, f)) {
        char *end;
        if (strncmp(line, key, strlen(key)) != 0) continue;
        const long long n = strtoll(line + strlen(key), &end, 10);
        if (end != line + strlen(key)) value = n * unit;
    }
    fclose(f);
    return value;
}

int64_t memory_available_bytes(void)
{
    int64_t free_bytes = number_in("/proc/meminfo", "MemAvailable:", 1024);
    const int64_t limit = number_in("/sys/fs/cgroup/memory.max", "", 1);
    const int64_t used = number_in("/sys/fs/cgroup/memory.current", "", 1);
    if (limit >= 0 && used >= 0 && (free_bytes < 0 || limit - used < free_bytes))
        free_bytes = limit - used;
    return free_bytes;
}

struct memory_note {
    char host[64], gpu[32]; /* gpu "": it computes in host memory */
    size_t host_bytes, gpu_bytes;
    int64_t gpu_free;
};

static struct memory_note note_of(const struct memory_plan *p, const struct device *dev)
{
    struct memory_note n = {.host_bytes = host_bytes(p)};
    gethostname(n.host, sizeof n.host - 1);
    if (device_is_host(dev)) {
        n.host_bytes += memory_plan_device_bytes(p);
        return n;
    }
    struct device_info info;
    device_describe(dev, &info);
    memcpy(n.gpu, info.id, sizeof n.gpu);
    n.gpu_bytes = memory_plan_device_bytes(p);
    n.gpu_free = (int64_t)info.free_bytes;
    return n;
}

/* What a rank's libraries take of a GPU when they are first used (code, NCCL's connections, the
 * recorded step), after the plan was checked.  A guess, to be replaced by a measurement. */
static const size_t GPU_RESERVE_BYTES = (size_t)1 << 30;

/* "lower train.micro_batch, ... or use more hosts": the keys that can still do something. */
static void advise(char *text, size_t bytes, const struct config *c,
                   const struct layout *l, bool gpu)
{
    const bool shares = comm_size(l->data) > 1 && c->zero < 2;
    char keys[128];
    snprintf(keys, sizeof keys, "%s%s%s%s",
             c->micro_batch > 1 ? "lower train.micro_batch, " : "",
             c->recompute != CONFIG_RECOMPUTE_FULL ? "set model.recompute: full, " : "",
             !shares        ? ""
             : c->zero == 0 ? "set parallel.zero: 1, "
                            : "set parallel.zero: 2, ",
             c->checkpoint_async && !gpu ? "set checkpoint.async: false, " : "");
    snprintf(text, bytes,
             "%ssplit the model further (parallel.tp, parallel.pp), or use more %s", keys,
             gpu ? "GPUs" : "hosts");
}

/* Against what the host and the GPU of `mine` have free; says what rank 0's host will hold. */
static status_t judge(const struct memory_note *all, int size,
                      const struct memory_note *mine, const char *advice)
{
    size_t on_host = 0, on_gpu = 0;
    int host_ranks = 0, gpu_ranks = 0;
    for (int r = 0; r < size; r++) {
        if (strcmp(all[r].host, mine->host) != 0) continue;
        on_host += all[r].host_bytes;
        host_ranks++;
        if (!mine->gpu[0] || strcmp(all[r].gpu, mine->gpu) != 0) continue;
        on_gpu += all[r].gpu_bytes + GPU_RESERVE_BYTES;
        gpu_ranks++;
    }
    const int64_t available = memory_available_bytes();
    if (available >= 0 && on_host > (size_t)available)
        return status_set(STATUS_NOMEM,
                          "host %s: %d ranks need %.1f MB, %.1f MB are free; %s",
                          mine->host, host_ranks, (double)on_host * 1e-6,
                          (double)available * 1e-6, advice);
    if (host_ranks > 1)
        log_info("memory of the %d ranks of rank 0's host: %.1f MB", host_ranks,
                 (double)on_host * 1e-6);
    if (mine->gpu[0] && on_gpu > (size_t)mine->gpu_free)
        return status_set(
            STATUS_NOMEM,
            "host %s, GPU %s: %d ranks need %.1f MB, libraries included, %.1f MB are "
            "free; %s",
            mine->host, mine->gpu, gpu_ranks, (double)on_gpu * 1e-6,
            (double)mine->gpu_free * 1e-6, advice);
    return STATUS_OK;
}

status_t memory_plan_check(const struct memory_plan *p, const struct config *c,
                           const struct layout *l, struct comm *world,
                           const struct device *dev)
{
    char advice[224];
    advise(advice, sizeof advice, c, l, !device_is_host(dev));
    const struct memory_note mine = note_of(p, dev);
    const int size = comm_size(world);
    struct memory_note *all = malloc((size_t)size * sizeof *all);
    status_t st =
        all ? STATUS_OK : status_set(STATUS_NOMEM, "no memory to compare plans");
    st = comm_agree(world, st);
    if (st == STATUS_OK) {
        comm_gather_all(world, &mine, sizeof mine, all);
        st = comm_agree(world, judge(all, size, &mine, advice));
    }
    free(all);
    return st;
}

int64_t memory_peak_rss_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}
