/* GPUs of one host, and which rank has which. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/plugin.h"
#include "train/doctor_impl.h"

enum { MAX_LIBRARIES = 32 };

static void device_line(struct doctor_report *r, int index,
                        const struct device_info *info)
{
    doctor_line(
        r, "GPU", "%d at %s: %s, compute capability %d.%d, %s, of which %s are free",
        index, info->id, info->model, info->major, info->minor,
        doctor_bytes((double)info->total_bytes), doctor_bytes((double)info->free_bytes));
}

/* Another than this rank's own: opened and closed, so that it is seen to work. */
static void other_device(struct doctor_report *r, int index)
{
    struct device *d = NULL;
    struct device_info info;
    if (device_open(&d, "cuda", index) != STATUS_OK) {
        doctor_advice(r, "%s", status_message());
        return;
    }
    device_describe(d, &info);
    device_line(r, index, &info);
    device_close(&d);
}

/* Row: from, column: to; "yes" where `from` reaches the memory of `to` without the host. */
static void peer_matrix(struct doctor_report *r, const struct device *opened, int n)
{
    const struct plugin_queries *q = device_symbol(opened, "yoke_cuda_queries");
    int missing = 0;
    if (!q || n < 2) return;
    for (int from = -1; from < n; from++) {
        char row[1024];
        size_t at = (size_t)(from < 0 ? snprintf(row, sizeof row, "      ")
                                      : snprintf(row, sizeof row, "GPU %-2d", from));
        for (int to = 0; to < n && at + 8 < sizeof row; to++) {
            const int can = from < 0 || from == to || q->peer_access(from, to);
            missing += !can;
            if (from < 0)
                at += (size_t)snprintf(row + at, sizeof row - at, " %4d", to);
            else
                at += (size_t)snprintf(row + at, sizeof row - at, " %4s",
                                       from == to ? "-"
                                       : can      ? "yes"
                                                  : "no");
        }
        doctor_line(r, from < 0 ? "peer access" : "", "%s", row);
    }
    if (missing)
        doctor_advice(
            r, "some GPUs cannot reach each other's memory: data goes through the host "
               "(consumer cards do not have it; else nvidia-smi topo -p2p r tells why)");
}

static void libraries(struct doctor_report *r)
{
    struct plugin_library found[MAX_LIBRARIES];
    const int n = plugin_libraries(found, MAX_LIBRARIES);
    for (int i = 0; i < n; i++)
        doctor_line(r, i ? "" : "libraries", "%s from %s", found[i].name, found[i].file);
}

void doctor_gpus(struct doctor_report *r, const struct doctor_note *mine,
                 const struct device *opened, bool open_all)
{
    if (mine->gpu != STATUS_OK) {
        doctor_line(r, "GPU", "none: %s", mine->sentence);
        if (mine->n_visible == 0 && access("/proc/driver/nvidia/version", R_OK) == 0)
            doctor_advice(
                r, "the kernel has NVIDIA's module, so that there is a GPU that this "
                   "process cannot use: in a container, docker run --gpus all and "
                   "NVIDIA_DRIVER_CAPABILITIES=compute,utility");
    }
    for (int i = 0; i < mine->n_visible; i++) {
        if (i == mine->index)
            device_line(r, i, &mine->info);
        else if (open_all)
            other_device(r, i);
    }
    if (opened) {
        doctor_line(r, "versions", "%s", mine->info.libraries);
        peer_matrix(r, opened, mine->n_visible);
    }
    libraries(r);
}

/* ---- all ranks ------------------------------------------------------------------------------ */

static bool same_host(const struct doctor_note *a, const struct doctor_note *b)
{
    return strcmp(a->launch.host, b->launch.host) == 0;
}

int doctor_sharer(const struct doctor_note *notes, int rank)
{
    if (notes[rank].index < 0) return -1;
    for (int i = 0; i < rank; i++)
        if (notes[i].index >= 0 && same_host(&notes[i], &notes[rank]) &&
            strcmp(notes[i].info.id, notes[rank].info.id) == 0)
            return i;
    return -1;
}

/* A job that gives each rank one GPU to see makes all of them number 0. */
static void check_binding(struct doctor_report *r, const struct doctor_note *notes,
                          int size)
{
    for (int i = 1; i < size; i++)
        if (notes[i].local > 0 && notes[i].n_visible == 1 && notes[i].index >= 0 &&
            doctor_sharer(notes, i) < 0) {
            doctor_advice(
                r, "each rank sees one GPU only, which keeps ranks of a host from "
                   "reaching each other's memory: in Slurm use --gpus-per-node with all "
                   "of them visible instead of --gpus-per-task or --gpu-bind; yoke "
                   "picks the GPU by the rank's number on its host");
            return;
        }
}

void doctor_ranks(struct doctor_report *r, const struct doctor_note *notes, int size)
{
    fprintf(r->out, "\nranks\n");
    for (int i = 0; i < size; i++) {
        const struct doctor_note *n = &notes[i];
        char cores[64], key[32];
        launch_name_cores(n->launch.cores, cores, sizeof cores);
        snprintf(key, sizeof key, "%d", i);
        if (n->index >= 0)
            doctor_line(r, key, "%s, cores %s, GPU %d at %s: %s", n->launch.host, cores,
                        n->index, n->info.id, n->info.model);
        else
            doctor_line(r, key, "%s, cores %s, no GPU", n->launch.host, cores);
    }
    for (int i = 0; i < size; i++) {
        const int other = doctor_sharer(notes, i);
        if (other >= 0)
            doctor_advice(
                r,
                "ranks %d and %d are both on GPU %s of %s: start one rank a GPU, or "
                "set parallel.share_gpu: true",
                other, i, notes[i].info.id, notes[i].launch.host);
    }
    check_binding(r, notes, size);
}
