/* Hugging Face folders from hostile bytes: the first byte says whether the rest is model.safetensors, its
 * index, or config.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/hf.h"
#include "core/file.h"
#include "fuzz.h"

static char folder[64], paths[3][128];

static void clean_up(void)
{
    for (int i = 0; i < 3; i++) unlink(paths[i]);
    rmdir(folder);
}

static void set_up(void)
{
    static const char *const names[] = {"model.safetensors",
                                        "model.safetensors.index.json", "config.json"};
    if (folder[0]) return;
    snprintf(folder, sizeof folder, "%s/yoke-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) abort();
    for (int i = 0; i < 3; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
    atexit(clean_up);
}

static void write_bytes(const char *path, const uint8_t *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) abort();
}

static bool good(status_t st)
{
    if (st == STATUS_OK) return true;
    fuzz_check_refusal();
    if (st != STATUS_CHECKPOINT && st != STATUS_IO) abort();
    return false;
}

static void read_all(const char *path)
{
    struct safetensors *s;
    if (!good(safetensors_open(&s, path))) return;
    for (int i = 0; i < safetensors_n(s); i++) {
        const struct safetensors_tensor *t = &safetensors_tensors(s)[i];
        if (t->dtype == SAFETENSORS_OTHER || t->elements > 1 << 16) continue;
        float *x = malloc((size_t)t->elements * sizeof *x + 1);
        if (safetensors_read(s, t, 0, t->elements, x) != STATUS_OK) abort();
        free(x);
    }
    safetensors_close(&s);
}

/* Every parameter of a folder that passed, but its last row. */
static void read_params(const struct hf *h, const struct arch *a)
{
    struct param_table t;
    if (param_table_init(&t, a, NULL, 0) != STATUS_OK) abort();
    for (int i = 0; i < t.n_params; i++) {
        const struct param *p = &t.params[i];
        const struct hf_rectangle r = {0, 0, p->shape[0] - 1, p->shape[1]};
        float *x = malloc((size_t)(r.rows * r.cols) * sizeof *x + 1);
        if (hf_read(h, i, &r, x) != STATUS_OK) abort();
        free(x);
    }
    param_table_release(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin();
    set_up();
    if (size == 0) return 0;
    const int which = data[0] % 3;
    unlink(paths[1]);
    write_bytes(paths[which], data + 1, size - 1);
    struct arch a;
    const char *family;
    if (which == 0) read_all(paths[0]);
    if (which == 2) {
        (void)good(hf_config_read(folder, &a, &family));
        return 0;
    }
    struct hf *h;
    a = (struct arch){.n_layers = 1,
                      .hidden = 4,
                      .n_heads = 2,
                      .n_kv_heads = 1,
                      .head_size = 2,
                      .ffn = 3,
                      .vocab_size = 5,
                      .max_positions = 4};
    if (arch_family(&a, "llama") != STATUS_OK) abort();
    if (good(hf_open(&h, folder, &a))) read_params(h, &a);
    hf_close(&h);
    return 0;
}
