#include "train/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "nn/nn.h"

struct note {
    char host[64], id[32];
};

/* All ranks' notes (malloc'ed, caller frees).  Collective; agreed. */
static status_t exchange(struct note **all, const struct note *mine, struct comm *world)
{
    *all = malloc((size_t)comm_size(world) * sizeof **all);
    TRY(comm_agree(world,
                   *all ? STATUS_OK
                        : status_set(STATUS_NOMEM, "no memory to compare devices")));
    comm_gather_all(world, mine, sizeof *mine, *all);
    return STATUS_OK;
}

static struct note note_here(void)
{
    struct note n = {{0}, {0}};
    gethostname(n.host, sizeof n.host - 1);
    return n;
}

status_t place_local_rank(int *local, struct comm *world)
{
    const struct note mine = note_here();
    struct note *all = NULL;
    *local = 0;
    const status_t st = exchange(&all, &mine, world);
    for (int r = 0; st == STATUS_OK && r < comm_rank(world); r++)
        if (strcmp(all[r].host, mine.host) == 0) ++*local;
    free(all);
    return st;
}

/* Does another rank compute on the same GPU?  Every rank looks for the first that does. */
static status_t check_shared(const struct device *d, struct comm *world)
{
    struct device_info info;
    struct note mine = note_here(), *all = NULL;
    device_describe(d, &info);
    memcpy(mine.id, info.id, sizeof mine.id);
    TRY(exchange(&all, &mine, world));
    status_t st = STATUS_OK;
    for (int r = 0; r < comm_size(world) && st == STATUS_OK; r++) {
        if (r == comm_rank(world) || strcmp(all[r].host, mine.host) != 0) continue;
        if (strcmp(all[r].id, mine.id) == 0)
            st = status_set(
                STATUS_DEVICE,
                "host %s: ranks %d and %d are both on GPU %s; start one rank a "
                "GPU (Slurm: --gpus-per-node with all of them visible), or set "
                "parallel.share_gpu: true",
                mine.host, comm_rank(world), r, mine.id);
    }
    free(all);
    return comm_agree(world, st);
}

static status_t open_cuda(struct device **d, struct comm *world, bool share_gpu)
{
    int count = 0, local = 0;
    TRY(comm_agree(world, device_count("cuda", &count)));
    TRY(place_local_rank(&local, world));
    TRY(comm_agree(world, device_open(d, "cuda", local % count)));
    if (!share_gpu) TRY(check_shared(*d, world));
    return STATUS_OK;
}

/* Whether the kernel shows this process one of NVIDIA's, or WSL's. */
static bool has_gpu_here(void)
{
    return file_exists("/dev/nvidiactl") || file_exists("/dev/dxg");
}

status_t place_open(struct device **d, struct comm *world, enum config_device wanted,
                    bool share_gpu)
{
    *d = NULL;
    if (wanted == CONFIG_DEVICE_CUDA) return open_cuda(d, world, share_gpu);
    if (wanted == CONFIG_DEVICE_AUTO) {
        int count;
        const status_t st = comm_agree(world, device_count("cuda", &count));
        if (st == STATUS_OK) return open_cuda(d, world, share_gpu);
        log_info("device: cpu (%s%s)", has_gpu_here() ? "no GPU: " : "",
                 has_gpu_here() ? status_message()
                                : "no NVIDIA GPU here; yoke doctor says more");
    }
    return comm_agree(world, device_open(d, "cpu", 0));
}

status_t place_open_alone(struct device **d, enum config_device wanted)
{
    int count = 0;
    *d = NULL;
    if (wanted == CONFIG_DEVICE_CPU) return device_open(d, "cpu", 0);
    const status_t found = device_count("cuda", &count);
    if (found == STATUS_OK) return device_open(d, "cuda", 0);
    return wanted == CONFIG_DEVICE_CUDA ? found : device_open(d, "cpu", 0);
}

/* AUTO by itself: the first of bf16, fp16, fp32 that this rank's device is fast in. */
static enum dtype fastest(const char **why, const struct device *d)
{
    if (device_is_host(d)) {
        const char *unit = nn_cpu_bf16();
        *why = unit ? unit : "neither AMX nor AVX512-BF16";
        return unit ? DTYPE_BF16 : DTYPE_F32;
    }
    const enum dtype t = device_supports(d, DTYPE_BF16)  ? DTYPE_BF16
                         : device_supports(d, DTYPE_F16) ? DTYPE_F16
                                                         : DTYPE_F32;
    *why = t == DTYPE_F32 ? "the GPU has no other" : "the GPU has it";
    return t;
}

/* What every rank's device is fast in. */
static enum dtype fastest_of_all(const char **why, const struct device *d,
                                 struct comm *world)
{
    static const enum dtype by_speed[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    const enum dtype mine = fastest(why, d);
    int64_t place = 0;
    while (by_speed[place] != mine) place++;
    if (world) comm_max_i64(world, &place, 1);
    if (by_speed[place] != mine) *why = "not every rank has more";
    return by_speed[place];
}

status_t place_precision(enum dtype *t, const char **why, const struct device *d,
                         struct comm *world, enum config_precision wanted)
{
    static const enum dtype types[] = {[CONFIG_PRECISION_FP32] = DTYPE_F32,
                                       [CONFIG_PRECISION_BF16] = DTYPE_BF16,
                                       [CONFIG_PRECISION_FP16] = DTYPE_F16};
    if (wanted == CONFIG_PRECISION_AUTO) {
        *t = fastest_of_all(why, d, world);
        return STATUS_OK;
    }
    *t = types[wanted];
    *why = "train.precision";
    if (device_supports(d, *t)) return STATUS_OK;
    return status_set(STATUS_CONFIG,
                      "train.precision: device %s cannot compute in %s; valid: "
                      "auto, fp32%s%s",
                      device_name(d), dtype_name(*t),
                      device_supports(d, DTYPE_BF16) ? ", bf16" : "",
                      device_supports(d, DTYPE_F16) ? ", fp16" : "");
}

status_t place_check_model(const struct device *d, const struct arch *a)
{
    enum { CUDA_MAX_HEAD_SIZE = 256 };
    if (device_is_host(d) || a->head_size <= CUDA_MAX_HEAD_SIZE) return STATUS_OK;
    return status_set(STATUS_CONFIG,
                      "model.head_size: %lld is more than device %s has attention for; "
                      "valid: up to %d, or --device cpu",
                      (long long)a->head_size, device_name(d), CUDA_MAX_HEAD_SIZE);
}

status_t place_parse(const char *text, int *wanted)
{
    static const char *const names[] = {"auto", "cpu", "cuda"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *wanted = i;
            return STATUS_OK;
        }
    return status_set(STATUS_USAGE, "--device: %s is not known; valid: auto, cpu, cuda",
                      text);
}
