/* timeline - a simulated schedule as a picture: a row a stage, time to the right. */
#pragma once

#include <stdio.h>

#include "parallel/pp/simulate.h"

/* With a character for every `cell` of time: F, B or W where an instruction begins, its micro-batch
 * behind it, '.' for idle.  A legend and the share of idle time below. */
void pp_timeline_text(FILE *out, const struct pp_schedule *s,
                      const struct pp_simulation *sim, double cell);
/* The same as a self-contained SVG image. */
void pp_timeline_svg(FILE *out, const struct pp_schedule *s,
                     const struct pp_simulation *sim);
