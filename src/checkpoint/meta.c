#include "checkpoint/checkpoint_impl.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/h5.h"

void checkpoint_meta_release(struct checkpoint_meta *m)
{
    free(m->config);
    free(m->versions);
    free(m->data);
    *m = (struct checkpoint_meta){0};
}

status_t ckpt_meta_write(hid_t file, const struct checkpoint_meta *m)
{
    TRY(h5_write_u64(file, "version", CKPT_VERSION));
    TRY(h5_write_u64(file, "step", (uint64_t)m->step));
    TRY(h5_write_u64(file, "next_sample", (uint64_t)m->next_sample));
    TRY(h5_write_u64(file, "data_step", (uint64_t)m->data_step));
    TRY(h5_write_u64(file, "tokens", (uint64_t)m->tokens));
    TRY(h5_write_u64(file, "skipped_steps", (uint64_t)m->skipped_steps));
    TRY(h5_write_u64(file, "log_targets", (uint64_t)m->log_targets));
    TRY(h5_write_f64(file, "log_loss_sum", m->log_loss_sum));
    TRY(h5_write_f64(file, "loss_scale", m->loss_scale));
    TRY(h5_write_u64(file, "loss_scale_steps", (uint64_t)m->loss_scale_steps));
    TRY(h5_write_u64(file, "seed", m->seed));
    TRY(h5_write_u64(file, "spike_count", (uint64_t)m->spike_count));
    TRY(h5_write_f64(file, "spike_mean", m->spike_mean));
    TRY(h5_write_f64(file, "spike_variance", m->spike_variance));
    TRY(h5_write_u64(file, "rollbacks", (uint64_t)m->rollbacks));
    TRY(h5_write_f64(file, "validation_loss", m->validation_loss));
    TRY(h5_write_u64(file, "metrics_bytes", (uint64_t)m->metrics_bytes));
    TRY(h5_write_str(file, "config", m->config ? m->config : ""));
    TRY(h5_write_str(file, "versions", m->versions ? m->versions : "{}"));
    return h5_write_str(file, "data", m->data ? m->data : "{}");
}

static status_t read_i64(hid_t file, const char *path, const char *name, int64_t *value)
{
    uint64_t v;
    TRY(h5_read_u64(file, path, name, STATUS_CHECKPOINT, &v));
    if (v > INT64_MAX)
        return status_set(STATUS_CHECKPOINT,
                          "%s: attribute %s is %" PRIu64 ", valid is up to 2^63 - 1",
                          path, name, v);
    *value = (int64_t)v;
    return STATUS_OK;
}

status_t ckpt_meta_read(hid_t file, const char *path, struct checkpoint_meta *m)
{
    uint64_t version;
    TRY(h5_read_u64(file, path, "version", STATUS_CHECKPOINT, &version));
    if (version != CKPT_VERSION)
        return status_set(STATUS_CHECKPOINT,
                          "%s: is of format version %" PRIu64 ", this program reads %d",
                          path, version, CKPT_VERSION);
    TRY(read_i64(file, path, "step", &m->step));
    TRY(read_i64(file, path, "next_sample", &m->next_sample));
    if (h5_has(file, "data_step")) /* older ones know one order alone */
        TRY(read_i64(file, path, "data_step", &m->data_step));
    TRY(read_i64(file, path, "tokens", &m->tokens));
    TRY(read_i64(file, path, "skipped_steps", &m->skipped_steps));
    TRY(read_i64(file, path, "log_targets", &m->log_targets));
    TRY(h5_read_f64(file, path, "log_loss_sum", STATUS_CHECKPOINT, &m->log_loss_sum));
    TRY(h5_read_f64(file, path, "loss_scale", STATUS_CHECKPOINT, &m->loss_scale));
    TRY(read_i64(file, path, "loss_scale_steps", &m->loss_scale_steps));
    TRY(h5_read_u64(file, path, "seed", STATUS_CHECKPOINT, &m->seed));
    TRY(read_i64(file, path, "spike_count", &m->spike_count));
    TRY(h5_read_f64(file, path, "spike_mean", STATUS_CHECKPOINT, &m->spike_mean));
    TRY(h5_read_f64(file, path, "spike_variance", STATUS_CHECKPOINT, &m->spike_variance));
    TRY(read_i64(file, path, "rollbacks", &m->rollbacks));
    TRY(h5_read_f64(file, path, "validation_loss", STATUS_CHECKPOINT,
                    &m->validation_loss));
    TRY(read_i64(file, path, "metrics_bytes", &m->metrics_bytes));
    TRY(h5_read_str(file, path, "config", STATUS_CHECKPOINT, &m->config));
    TRY(h5_read_str(file, path, "versions", STATUS_CHECKPOINT, &m->versions));
    return h5_read_str(file, path, "data", STATUS_CHECKPOINT, &m->data);
}
