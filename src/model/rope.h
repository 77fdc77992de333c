/* rope - the rotary frequencies of an architecture, stretched or not. */
#pragma once

#include "model/arch.h"

/* frequencies[i] for the arch_rope_dims(a) / 2 pairs of a head. */
void rope_frequencies(const struct arch *a, double *frequencies);
/* What cosines and sines are multiplied with. */
double rope_attention_scale(const struct arch *a);
