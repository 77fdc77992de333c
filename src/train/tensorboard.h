/* tensorboard - scalars as TensorBoard reads them, written without its libraries.
 *
 * RUN/tensorboard/events.out.tfevents.SECONDS.HOST is a row of records, each framed as TFRecord:
 *
 *   uint64 length   uint32 masked crc of those 8 bytes   data   uint32 masked crc of data
 *
 * little-endian, crc = CRC-32C (Castagnoli), masked = rotate_right(crc, 15) + 0xa282ead8.
 * Data is one protobuf message tensorflow.Event (event.proto, summary.proto):
 *
 *   Event    1 wall_time double   2 step int64   3 file_version string   5 summary Summary
 *            7 session_log SessionLog
 *   Summary  1 value, repeated: { 1 tag string   2 simple_value float }
 *   SessionLog  1 status enum: START = 1
 *
 * The first record is file_version "brain.Event:2", the second a session start, which makes
 * readers forget what an interrupted run wrote from that step on. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct tensorboard;

struct tensorboard_scalar {
    const char *tag; /* shorter than 64 bytes */
    double value;    /* stored as fp32 */
};

enum { TENSORBOARD_MAX_SCALARS = 16 };

/* A new event file in RUN/tensorboard for a run that has done `resumed_step` steps.
 * STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t tensorboard_open(struct tensorboard **t, const char *run_dir,
                                   int64_t resumed_step);
/* One event with 1 <= n <= TENSORBOARD_MAX_SCALARS values, in one write(2).  STATUS_IO. */
MUST_USE status_t tensorboard_write(struct tensorboard *t, int64_t step,
                                    const struct tensorboard_scalar *scalars, int n);
void tensorboard_close(struct tensorboard **t); /* NULL-safe; nulls */

uint32_t tensorboard_crc32c(const void *data, size_t bytes);
