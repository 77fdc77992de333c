#include "nn/nn_impl.h"

#include <stdlib.h>

#include "nn/gemm_tiles.h"

extern const struct nn_ops nn_ops_base_fp32, nn_ops_base_bf16;
extern const struct nn_ops nn_ops_avx2_fp32, nn_ops_avx2_bf16;
extern const struct nn_ops nn_ops_avx512_fp32, nn_ops_avx512_bf16;
extern const struct nn_ops nn_ops_avx512bf16_bf16;
extern const struct nn_ops nn_ops_amx_fp32, nn_ops_amx_bf16;

/* one of each instruction set and type, see elem.h */
static const struct {
    const char *isa;
    const struct nn_ops *fp32, *bf16;
} tables[] = {
#ifdef NN_HAVE_X86
    {"amx", &nn_ops_amx_fp32, &nn_ops_amx_bf16},
    {"avx512bf16", &nn_ops_avx512_fp32, &nn_ops_avx512bf16_bf16},
    {"avx512", &nn_ops_avx512_fp32, &nn_ops_avx512_bf16},
    {"avx2", &nn_ops_avx2_fp32, &nn_ops_avx2_bf16},
#endif
    {"base", &nn_ops_base_fp32, &nn_ops_base_bf16},
};

enum { N_TABLES = sizeof tables / sizeof *tables };

/* Can this machine run a table?  The lists are what -march=x86-64-v4 and -v3 may use. */
static bool machine_runs(const char *isa)
{
#ifdef NN_HAVE_X86
    __builtin_cpu_init();
    if (!strcmp(isa, "amx")) return gemm_amx_usable() && machine_runs("avx512");
    if (!strcmp(isa, "avx512bf16")) return gemm_dot_usable() && machine_runs("avx512");
    if (!strcmp(isa, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512cd") && machine_runs("avx2");
    if (!strcmp(isa, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("bmi2");
#endif
    return !strcmp(isa, "base");
}

bool nn_force_isa(struct nn *nn, const char *isa)
{
    for (int i = 0; i < N_TABLES; i++) {
        if (strcmp(tables[i].isa, isa) != 0 || !machine_runs(isa)) continue;
        nn->ops = tables[i].fp32;
        nn->ops_bf16 = tables[i].bf16;
        return true;
    }
    return false;
}

static bool use_bf16x6;

bool nn_use_bf16x6(bool on)
{
    use_bf16x6 = on && gemm_amx_usable();
    return use_bf16x6 == on;
}

/* The widest tables of the CPU, or what the device's plug-in exports. */
static status_t choose_table(struct nn *nn)
{
    if (device_is_host(nn->device)) {
        for (int i = 0; i < N_TABLES && !nn->ops; i++) nn_force_isa(nn, tables[i].isa);
        CHECK(nn->ops);
#ifdef NN_HAVE_X86
        if (nn->ops == &nn_ops_amx_fp32 && !use_bf16x6) nn->ops = &nn_ops_avx512_fp32;
#endif
        return STATUS_OK;
    }
    nn->ops = nn->ops_bf16 = device_symbol(nn->device, "nn_cuda_ops");
    if (nn->ops) return STATUS_OK;
    return status_set(STATUS_DEVICE, "the plug-in of device %s has no operations",
                      device_name(nn->device));
}

static status_t create(struct nn **nn, struct device *dev, int n_threads, bool measuring)
{
    CHECK(dev && n_threads >= 1);
    *nn = calloc(1, sizeof **nn);
    if (!*nn) return status_set(STATUS_NOMEM, "no memory for the table of operations");
    **nn = (struct nn){.device = dev, .n_threads = n_threads, .measuring = measuring};
    status_t st = choose_table(*nn);
    if (st == STATUS_OK && (*nn)->ops->open) st = (*nn)->ops->open(*nn);
    if (st != STATUS_OK) nn_destroy(nn);
    return st;
}

status_t nn_create(struct nn **nn, struct device *dev, int n_threads,
                   size_t scratch_bytes)
{
    TRY(create(nn, dev, n_threads, false));
    struct nn *n = *nn;
    n->scratch_bytes = arena_align(scratch_bytes ? scratch_bytes : 1);
    const status_t st =
        device_alloc(dev, n->scratch_bytes, "scratch of operations", &n->scratch_memory);
    if (st != STATUS_OK) {
        nn_destroy(nn);
        return st;
    }
    n->scratch = arena_over(n->scratch_memory, n->scratch_bytes);
    return STATUS_OK;
}

status_t nn_create_measuring(struct nn **nn, struct device *dev, int n_threads)
{
    TRY(create(nn, dev, n_threads, true));
    (*nn)->scratch = arena_measure();
    return STATUS_OK;
}

void nn_destroy(struct nn **nn)
{
    if (!*nn) return;
    nn_account_end(*nn);
    if ((*nn)->ops && (*nn)->ops->close) (*nn)->ops->close(*nn);
    if ((*nn)->scratch_memory)
        device_free((*nn)->device, &(*nn)->scratch_memory, (*nn)->scratch_bytes);
    free(*nn);
    *nn = NULL;
}

bool nn_is_measuring(const struct nn *nn)
{
    return nn->measuring;
}

size_t nn_scratch_peak_bytes(const struct nn *nn)
{
    return nn->scratch.peak_bytes;
}

struct device *nn_device(const struct nn *nn)
{
    return nn->device;
}

int nn_threads(const struct nn *nn)
{
    return nn->n_threads;
}

const char *nn_isa(const struct nn *nn, enum dtype t)
{
    return (t == DTYPE_BF16 ? nn->ops_bf16 : nn->ops)->isa;
}

const char *nn_cpu_bf16(void)
{
#ifdef NN_HAVE_X86
    if (machine_runs("amx")) return "AMX";
    if (machine_runs("avx512bf16")) return "AVX512-BF16";
#endif
    return NULL;
}
