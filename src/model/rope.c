#include "model/rope.h"

#include <math.h>

#include "nn/nn.h"

/* Positions divided by the factor (Chen et al. 2023, arXiv:2306.15595, section 2.3). */
static void stretch_linear(const struct arch *a, double *f, int64_t half)
{
    for (int64_t i = 0; i < half; i++) f[i] /= a->rope_factor;
}

/* Frequencies that turn less than `low` times in the original length are stretched, those that
 * turn more than `high` times stay, between them it changes over (Llama 3.1's reference code). */
static void stretch_llama3(const struct arch *a, double *f, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        const double turns = (double)a->rope_original * f[i] / (2 * M_PI);
        double keep = (turns - a->rope_low) / (a->rope_high - a->rope_low);
        keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
        f[i] = (1 - keep) * f[i] / a->rope_factor + keep * f[i];
    }
}

/* The pair that turns so many times in the original length, as a real number. */
static double pair_of(const struct arch *a, double turns)
{
    const double dims = (double)arch_rope_dims(a);
    return dims * log((double)a->rope_original / (turns * 2 * M_PI)) /
           (2 * log(a->rope_theta));
}

/* As llama3, but it changes over linearly in the number of the pair (Peng et al. 2023,
 * arXiv:2309.00071, section 3.2). */
static void stretch_yarn(const struct arch *a, double *f, int64_t half)
{
    const double last = (double)arch_rope_dims(a) - 1;
    const double low = fmax(floor(pair_of(a, a->rope_high)), 0);
    double high = fmin(ceil(pair_of(a, a->rope_low)), last);
    if (high == low) high += 0.001;
    for (int64_t i = 0; i < half; i++) {
        const double ramp = ((double)i - low) / (high - low);
        const double stretched = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        f[i] = stretched * f[i] / a->rope_factor + (1 - stretched) * f[i];
    }
}

void rope_frequencies(const struct arch *a, double *f)
{
    const int64_t half = arch_rope_dims(a) / 2;
    nn_rope_frequencies(f, half, a->rope_theta);
    switch (a->rope_scaling) {
    case ARCH_ROPE_LINEAR:
        stretch_linear(a, f, half);
        break;
    case ARCH_ROPE_LLAMA3:
        stretch_llama3(a, f, half);
        break;
    case ARCH_ROPE_YARN:
        stretch_yarn(a, f, half);
        break;
    case ARCH_ROPE_NONE:
        break;
    }
}

double rope_attention_scale(const struct arch *a)
{
    if (a->rope_scaling != ARCH_ROPE_YARN) return 1;
    if (a->rope_attention > 0) return a->rope_attention;
    return a->rope_factor > 1 ? 0.1 * log(a->rope_factor) + 1 : 1;
}
