/* Stages: what one says replaces what the run says, key by key.  Two groups of keys go together: a
 * stage with any key of the schedule has a schedule of its own, in which nothing of the run's is left
 * but its clock, and one with either form of the batch does not keep the other. */
#include "config/config_impl.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char NAME_BYTES[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789_-";

const struct config_key config_stage_keys[CONFIG_STAGE_KEYS] = {
    [CONFIG_STAGE_NAME] = {"name", CONFIG_TEXT, offsetof(struct config, span.name), 1,
                           CONFIG_NAME_BYTES - 1,
                           .doc =
                               "of the stage, in messages, the log and --set; letters, "
                               "digits, _ and -"},
    [CONFIG_STAGE_STEPS] = {"steps", CONFIG_INTEGER, offsetof(struct config, span.steps),
                            1, 1e9, .doc = "steps of the stage"},
};

/* What a stage may say: see config_is_among. */
static const char *const staged[] = {
    "model.rope_",         "model.max_positions", "model.recompute",
    "data.train",          "data.validation",     "data.sequence_length",
    "data.document_mask",  "data.repetition_",    "data.verify",
    "data.loader_ahead",   "train.batch_",        "train.micro_batch",
    "train.z_loss",        "train.seed",          "train.eval_",
    "train.max_bad_steps", "train.spike_sigma",   "optim.",
    "schedule.",           "parallel.dp",         "parallel.tp",
    "parallel.cp",         "parallel.pp",         "parallel.sequence",
    "parallel.schedule",   "parallel.chunks",     "parallel.stages",
    "parallel.zero",       "parallel.bucket_mb"};

bool config_is_staged(const struct config_key *k)
{
    const bool own = k >= config_stage_keys && k < config_stage_keys + CONFIG_STAGE_KEYS;
    return own || config_is_among(k, staged, sizeof staged / sizeof *staged);
}

/* ---- while the text is read ---------------------------------------------------------------- */

status_t config_add_stage(struct config *c, int place)
{
    if (c->n_stages == CONFIG_MAX_STAGES)
        return config_refuse(c, place, "stages: more than %d of them", CONFIG_MAX_STAGES);
    struct config *stages =
        realloc(c->stages, ((size_t)c->n_stages + 1) * sizeof *stages);
    if (!stages) return status_set(STATUS_NOMEM, "%s: no memory", c->places->name);
    c->stages = stages;
    struct config *stage = &stages[c->n_stages++];
    const struct config_places *p = c->places;
    *stage = (struct config){0};
    TRY(config_places_create(stage, p->name, (const char *const *)p->overrides,
                             p->n_overrides));
    stage->places->stage = c->n_stages;
    stage->places->begin = place;
    return STATUS_OK;
}

struct config *config_find_stage(const struct config *c, const char *name, size_t bytes)
{
    for (int i = 0; i < c->n_stages; i++) {
        const char *other = c->stages[i].span.name;
        if (other && strlen(other) == bytes && memcmp(other, name, bytes) == 0)
            return &c->stages[i];
    }
    return NULL;
}

/* ---- what all stages together must be -------------------------------------------------------- */

static status_t check_stage(const struct config *c, int i)
{
    const struct config *stage = &c->stages[i];
    const char *name = stage->span.name;
    const int begin = stage->places->begin;
    if (!name)
        return config_refuse(stage, begin, "has no name (valid: name: and a word)");
    if (strspn(name, NAME_BYTES) != strlen(name))
        return config_refuse(stage, begin,
                             "its name is no word (valid: letters, digits, _ and -)");
    if (stage->span.steps == 0)
        return config_refuse(stage, begin, "has no steps (valid: a whole number from 1)");
    const struct config *same = config_find_stage(c, name, strlen(name));
    if (same == stage) return STATUS_OK;
    return config_refuse(stage, begin, "stage %d has the same name",
                         (int)(same - c->stages) + 1);
}

status_t config_stages_settle(struct config *c)
{
    const int most = (int)config_find("train.steps")->high;
    int64_t sum = 0;
    for (int i = 0; i < c->n_stages; i++) {
        struct config_span *span = &c->stages[i].span;
        TRY(check_stage(c, i));
        span->first_step = sum;
        sum += span->steps;
        span->end_step = sum;
        if (sum > most)
            return config_refuse(&c->stages[i], c->stages[i].places->begin,
                                 "it ends at step %" PRId64 " (valid: up to %d)", sum,
                                 most);
    }
    if (c->n_stages > 0 && config_place(c, "train.steps") != 0 && c->steps != sum)
        return config_refuse_key(c, "train.steps",
                                 "%" PRId64 ", but the steps of the stages are %" PRId64
                                 " (valid: that, or leave it out)",
                                 c->steps, sum);
    if (c->n_stages > 0) c->steps = sum;
    c->span = (struct config_span){.steps = c->steps, .end_step = c->steps};
    return STATUS_OK;
}

/* ---- one stage --------------------------------------------------------------------------------- */

bool config_in_stage(const struct config *c, const char *section)
{
    const size_t n = strlen(section);
    for (int i = 0; i < config_n_keys; i++)
        if (c->places->in_stage[i] && strncmp(config_keys[i].name, section, n) == 0)
            return true;
    return false;
}

static bool inherits(const struct config *stage, const struct config_key *k)
{
    static const char *const batch[2] = {"train.batch_sequences", "train.batch_tokens"};
    if (stage->places->in_stage[k - config_keys]) return false;
    const bool clock = strcmp(k->name, "schedule.clock") == 0; /* a way of counting */
    if (strncmp(k->name, "schedule.", strlen("schedule.")) == 0 && !clock)
        return !config_in_stage(stage, "schedule.");
    for (int i = 0; i < 2; i++)
        if (strcmp(k->name, batch[i]) == 0) return !config_in_stage(stage, batch[1 - i]);
    return true;
}

status_t config_stage_inherit(struct config *stage, const struct config *run)
{
    struct config_places *p = stage->places;
    for (int i = 0; i < config_n_keys; i++) p->in_stage[i] = p->of[i] != 0;
    for (int i = 0; i < config_n_keys; i++) {
        if (run->places->of[i] == 0 || !inherits(stage, &config_keys[i])) continue;
        TRY(config_copy_value(stage, run, &config_keys[i]));
        p->of[i] = run->places->of[i];
    }
    stage->steps = run->steps;
    return STATUS_OK;
}

static bool same_data(const struct config *a, const struct config *b)
{
    return a->sequence_length == b->sequence_length && a->seed == b->seed &&
           config_same_value(a, b, config_find("data.train"));
}

void config_stage_settle(struct config *stage, const struct config *before)
{
    struct config_span *span = &stage->span;
    const bool own = config_in_stage(stage, "schedule.");
    span->schedule_step = own ? span->first_step : 0;
    const bool goes_on = !before || same_data(stage, before);
    span->data_step = goes_on ? before ? before->span.data_step : 0 : span->first_step;
}

/* ---- segments ---------------------------------------------------------------------------------- */

int config_n_segments(const struct config *c)
{
    return c->n_stages > 0 ? c->n_stages : 1;
}

struct config *config_segment(struct config *c, int i)
{
    if (c->n_stages == 0) return c;
    c->stages[i].run = c;
    return &c->stages[i];
}

int config_segment_at(const struct config *c, int64_t step)
{
    int i = 0;
    while (i < c->n_stages && c->stages[i].span.end_step <= step) i++;
    return c->n_stages == 0 ? step >= c->steps : i;
}

const struct config *config_whole(const struct config *c)
{
    return c->run ? c->run : c;
}

status_t config_text_at(const char *name, const char *text, int64_t step, char **out)
{
    struct config c;
    *out = NULL;
    TRY(config_parse(&c, name, text, strlen(text), NULL, 0));
    int i = config_segment_at(&c, step > 0 ? step - 1 : 0);
    if (i == c.n_stages) i--; /* a run that went on under fewer steps */
    status_t st = STATUS_OK;
    if (c.n_stages > 0)
        st = config_dump(&c.stages[i], out);
    else if (!(*out = strdup(text)))
        st = status_set(STATUS_NOMEM, "%s: no memory", name);
    config_release(&c);
    return st;
}
