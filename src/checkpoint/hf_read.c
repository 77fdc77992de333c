/* Rectangles of parameters out of the tensors of a Hugging Face folder. */
#include <stdlib.h>

#include "checkpoint/hf_impl.h"
#include "core/log.h"

/* Which tensor holds the parameter, and as which of its parts. */
static int holder_of(const struct hf *h, int param, int *part)
{
    for (int i = 0; i < h->n_tensors; i++)
        for (*part = 0; *part < h->tensors[i].n_parts; ++*part)
            if (h->tensors[i].parts[*part] == param) return i;
    die("parameter %s is in no tensor", h->params[param].name);
}

/* Rows and columns of a tensor of `width` columns as the file holds them. */
static status_t read_plain(const struct hf_place *from, int64_t width,
                           const struct hf_rectangle *r, float *x)
{
    if (r->cols == width)
        return safetensors_read(from->file, from->tensor, r->row * width, r->rows * width,
                                x);
    for (int64_t i = 0; i < r->rows; i++)
        TRY(safetensors_read(from->file, from->tensor, (r->row + i) * width + r->col,
                             r->cols, x + i * r->cols));
    return STATUS_OK;
}

static status_t read_transposed(const struct hf *h, const struct hf_place *from,
                                int64_t width, const struct hf_rectangle *r, float *x)
{
    const struct hf_rectangle turned = {r->col, r->row, r->cols, r->rows};
    float *y = malloc((size_t)(r->rows * r->cols) * sizeof *y);
    if (!y) return status_set(STATUS_NOMEM, "%s: no memory to transpose", h->folder);
    const status_t st = read_plain(from, width, &turned, y);
    if (st == STATUS_OK) hf_transpose(x, y, turned.rows, turned.cols);
    free(y);
    return st;
}

/* The part-th of queries, keys and values that lie head by head: a head at a time. */
static status_t read_heads(const struct hf *h, const struct hf_place *from, int part,
                           int64_t width, const struct hf_rectangle *r, float *x)
{
    const int64_t D = h->arch.head_size, end = r->row + r->rows;
    for (int64_t row = r->row; row < end;) {
        const int64_t head = row / D, first = row % D;
        const int64_t n = D - first < end - row ? D - first : end - row;
        const struct hf_rectangle piece = {(3 * head + part) * D + first, r->col, n,
                                           r->cols};
        TRY(read_plain(from, width, &piece, x + (row - r->row) * r->cols));
        row += n;
    }
    return STATUS_OK;
}

status_t hf_read(const struct hf *h, int param, const struct hf_rectangle *r, float *x)
{
    const struct checkpoint_param *p = &h->params[param];
    int part;
    const int i = holder_of(h, param, &part);
    const struct hf_place *from = &h->places[i];
    CHECK(r->row >= 0 && r->rows >= 0 && r->rows <= p->shape[0] - r->row && r->col >= 0 &&
          r->cols >= 0 && r->cols <= p->shape[1] - r->col);
    if (h->tensors[i].transposed) return read_transposed(h, from, p->shape[0], r, x);
    if (h->tensors[i].n_parts == 3) return read_heads(h, from, part, p->shape[1], r, x);
    return read_plain(from, p->shape[1], r, x);
}
