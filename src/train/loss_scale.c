#include "train/loss_scale.h"

/* The gradient is of the sum over tokens, not of their mean, so it begins at a size of one. */
enum { FIRST = 256, GROW_AFTER = 1000 };
static const double LEAST = 0x1p-14, MOST = 0x1p24;

struct loss_scale loss_scale_begin(enum dtype t, double saved, int64_t saved_steps)
{
    if (t != DTYPE_F16) return (struct loss_scale){.scale = 1};
    if (saved >= LEAST && saved <= MOST)
        return (struct loss_scale){.scale = saved, .steps = saved_steps};
    return (struct loss_scale){.scale = FIRST};
}

bool loss_scale_update(struct loss_scale *s, enum dtype t, bool finite)
{
    const double before = s->scale;
    if (t != DTYPE_F16) return false;
    s->steps = finite ? s->steps + 1 : 0;
    if (!finite && s->scale > LEAST) s->scale /= 2;
    if (s->steps == GROW_AFTER) {
        if (s->scale < MOST) s->scale *= 2;
        s->steps = 0;
    }
    return s->scale != before;
}
