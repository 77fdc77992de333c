/* plot - the loss curve of a run as a picture any browser shows. */
#pragma once

#include "core/status.h"

/* Read RUN/metrics.jsonl and replace RUN/loss.svg: training loss as a line, validation loss as
 * points.  The loss axis is logarithmic when the losses span more than a factor of ten.  Values
 * that are not finite interrupt the line.  STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t plot_loss(const char *run_dir);
