/* metrics_impl - the lines of metrics.jsonl and of the console, shared by src/train only. */
#pragma once

#include <stddef.h>

#include "train/metrics.h"

/* ---- metrics_file.c: the file as text ---------------------------------------------------- */

enum { METRICS_LINE_BYTES = 1024 };

/* The line of a record, newline included, into `line`; returns its length. */
size_t metrics_train_line(char line[METRICS_LINE_BYTES], const struct metrics_record *r);
size_t metrics_eval_line(char line[METRICS_LINE_BYTES], const struct metrics_eval *e);

size_t metrics_rollback_line(char line[METRICS_LINE_BYTES],
                             const struct metrics_rollback *r);

/* Rewrite `path` without what lies beyond `step`, without lines that are no records and, if `bytes`
 * is not 0, without all behind its first `bytes`.  A file in which nothing is to be dropped, or
 * none at all, is left alone. */
MUST_USE status_t metrics_truncate(const char *path, int64_t step, int64_t bytes);

/* ---- progress.c: the same for people ----------------------------------------------------- */

/* "step 120/600 loss 4.1234 tokens 0.98M ... eta 1m23s", without newline. */
void progress_line(char *line, size_t size, const struct metrics_record *r,
                   int64_t n_steps, double eta_seconds);

/* "[=====>     ]  40% 240/600 loss 4.1234 10.2k tok/s eta 1m23s"; r: the last record. */
void progress_bar(char *line, size_t size, int64_t step, const struct metrics_record *r,
                  int64_t n_steps, double eta_seconds);
