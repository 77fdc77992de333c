/* What no single key can tell: which values go together, and what follows from them. */
#include "config/config_impl.h"

#include <inttypes.h>
#include <string.h>

#include "core/file.h"
#include "parallel/comm/comm.h"

static status_t settle_kv_heads(struct config *c)
{
    struct arch *a = &c->arch;
    if (a->n_kv_heads == 0) a->n_kv_heads = a->n_heads;
    if (a->n_heads % a->n_kv_heads == 0) return STATUS_OK;
    char list[200];
    size_t n = 0;
    for (int64_t i = 1; i <= a->n_heads && n < sizeof list; i++)
        if (a->n_heads % i == 0)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%" PRId64, n ? ", " : "",
                                  i);
    return config_refuse_key(c, "model.kv_heads",
                             "%" PRId64 " does not divide model.heads %" PRId64
                             " (valid: %s)",
                             a->n_kv_heads, a->n_heads, list);
}

static status_t settle_head_size(struct config *c)
{
    struct arch *a = &c->arch;
    if (a->head_size == 0 && a->hidden % a->n_heads != 0) {
        const int64_t below = a->hidden / a->n_heads * a->n_heads;
        return config_refuse_key(c, "model.hidden",
                                 "%" PRId64 " is not divisible by model.heads %" PRId64
                                 " (valid: a multiple of it, e.g. %" PRId64
                                 "; or give model.head_size)",
                                 a->hidden, a->n_heads, below + a->n_heads);
    }
    if (a->head_size == 0) a->head_size = a->hidden / a->n_heads;
    if (a->position == ARCH_ROTARY && a->head_size % 2 != 0)
        return config_refuse_key(c, "model.head_size",
                                 "%" PRId64 " is odd; rotary positions turn pairs "
                                 "(valid: an even number)",
                                 a->head_size);
    return STATUS_OK;
}

static status_t settle_model(struct config *c, const struct config *run)
{
    struct arch *a = &c->arch;
    if (run && a->vocab_size == 0)
        return config_refuse_key(c, "model.vocab_size",
                                 "is missing; a run with stages cannot take it from the "
                                 "data of one of them (valid: a number, outside of "
                                 "stages)");
    TRY(settle_kv_heads(c));
    TRY(settle_head_size(c));
    /* SwiGLU has three matrices where GELU has two: 8/3 instead of 4 keeps the parameters
     * (Shazeer 2020, arXiv:2002.05202, section 2); 64 keeps matrix products aligned */
    if (a->ffn == 0)
        a->ffn = a->activation == ARCH_SWIGLU ? (8 * a->hidden + 191) / 192 * 64
                                              : 4 * a->hidden;
    const bool fixed = run && a->position == ARCH_LEARNED; /* they are parameters */
    if (a->max_positions == 0)
        a->max_positions = fixed ? run->arch.max_positions : c->sequence_length;
    if (fixed && a->max_positions != run->arch.max_positions)
        return config_refuse_key(c, "model.max_positions",
                                 "%" PRId64 " learned positions, but the run has %" PRId64
                                 " (valid: the same number in all stages)",
                                 a->max_positions, run->arch.max_positions);
    if (a->rope_high == 0) a->rope_high = a->rope_scaling == ARCH_ROPE_YARN ? 32 : 4;
    if (c->sequence_length > a->max_positions)
        return config_refuse_key(c, "data.sequence_length",
                                 "%" PRId64 " is more than model.max_positions %" PRId64
                                 " (valid: 1 to %" PRId64 ")",
                                 c->sequence_length, a->max_positions, a->max_positions);
    struct arch sized = *a;
    if (sized.vocab_size == 0) sized.vocab_size = 1; /* the token files will tell */
    const status_t st = arch_check(&sized);
    return st == STATUS_OK
               ? st
               : status_prefix(st, "%s%s%s", c->places->name, run ? ": stage " : "",
                               run ? c->span.name : "");
}

static status_t check_batch_keys(const struct config *c)
{
    if (c->batch_sequences > 0 && c->batch_tokens > 0)
        return config_refuse_key(c, "train.batch_tokens",
                                 "is given together with train.batch_sequences (valid: "
                                 "exactly one of them)");
    if (c->batch_sequences == 0 && c->batch_tokens == 0)
        return config_refuse_key(c, "train.batch_sequences",
                                 "is missing; the global batch is given in sequences, or "
                                 "in tokens as train.batch_tokens");
    const int64_t T = c->sequence_length, below = c->batch_tokens / T * T;
    if (c->batch_tokens == below) return STATUS_OK;
    char nearest[48] = "";
    if (below > 0) snprintf(nearest, sizeof nearest, "%" PRId64 " or ", below);
    return config_refuse_key(c, "train.batch_tokens",
                             "%" PRId64 " is not a multiple of data.sequence_length "
                             "%" PRId64 " (nearest valid: %s%" PRId64 ")",
                             c->batch_tokens, T, nearest, below + T);
}

static status_t settle_batch(struct config *c)
{
    TRY(check_batch_keys(c));
    const int64_t B = config_global_batch(c), T = c->sequence_length;
    const int64_t aim = T < 4096 ? 4096 / T : 1, some = aim < B ? aim : B;
    c->micro_batch = c->micro_batch_wanted > 0 ? c->micro_batch_wanted : some;
    if (c->micro_batch > B)
        return config_refuse_key(c, "train.micro_batch",
                                 "%" PRId64 " is more than the global batch of %" PRId64
                                 " sequences (valid: 1 to %" PRId64 ", or auto)",
                                 c->micro_batch, B, B);
    if (c->dp > B)
        return config_refuse_key(c, "parallel.dp",
                                 "%" PRId64 " ranks are more than the global batch of "
                                 "%" PRId64 " sequences (valid: 1 to %" PRId64
                                 ", or auto)",
                                 c->dp, B, B);
    int64_t tokens = 0;
    if (__builtin_mul_overflow(B, T, &tokens) ||
        __builtin_mul_overflow(tokens, c->steps, &tokens))
        return config_refuse_key(c, "train.steps",
                                 "%" PRId64 " steps of %" PRId64 " sequences of %" PRId64
                                 " tokens are more tokens than 64 bits can count",
                                 c->steps, B, T);
    return STATUS_OK;
}

static status_t settle_eval(struct config *c)
{
    if (c->train.n == 0)
        return config_refuse_key(c, "data.train",
                                 "is an empty list (valid: at least one token file)");
    if (c->validation.n > 0 || c->eval_interval == 0) return STATUS_OK;
    if (config_place(c, "train.eval_interval") != 0)
        return config_refuse_key(
            c, "train.eval_interval",
            "%" PRId64 " needs data.validation (valid: 0 without it)", c->eval_interval);
    c->eval_interval = 0;
    return STATUS_OK;
}

/* A length that was given in tokens, in whole steps. */
static status_t settle_tokens(struct config *c, const char *key, const char *other,
                              int64_t *tokens, int64_t *steps)
{
    if (*tokens == 0) return STATUS_OK;
    if (*steps > 0)
        return config_refuse_key(
            c, key, "is given together with %s (valid: at most one of them)", other);
    const int64_t step_tokens = config_global_batch(c) * c->sequence_length;
    *steps = *tokens / step_tokens + (*tokens % step_tokens != 0);
    *tokens = 0;
    return STATUS_OK;
}

static status_t settle_warmup(struct config *c, const struct config *run)
{
    struct schedule *s = &c->schedule;
    const bool in_tokens = c->warmup_tokens > 0;
    const char *key = in_tokens ? "schedule.warmup_tokens" : "schedule.warmup_steps";
    TRY(settle_tokens(c, key, "schedule.warmup_steps", &c->warmup_tokens,
                      &s->warmup_steps));
    const int64_t most = s->total_steps < c->span.steps ? s->total_steps : c->span.steps;
    if (s->warmup_steps > most)
        return config_refuse_key(c, key,
                                 "%" PRId64 " steps of warm-up are more than %s %" PRId64
                                 " (valid: 0 to %" PRId64 " steps)",
                                 s->warmup_steps,
                                 s->total_steps < c->span.steps ? "schedule.total_steps"
                                 : run                          ? "the stage's steps"
                                                                : "train.steps",
                                 most, most);
    return STATUS_OK;
}

static status_t settle_schedule(struct config *c, const struct config *run)
{
    struct schedule *s = &c->schedule;
    if (run && !config_in_stage(c, "schedule.")) {
        *s = run->schedule;
        c->warmup_tokens = c->total_tokens = 0;
        return STATUS_OK;
    }
    TRY(settle_tokens(c, "schedule.total_tokens", "schedule.total_steps",
                      &c->total_tokens, &s->total_steps));
    if (s->total_steps == 0) s->total_steps = c->span.steps;
    TRY(settle_warmup(c, run));
    if (s->kind != SCHEDULE_WSD) {
        if (s->decay_steps == 0) return STATUS_OK;
        return config_refuse_key(c, "schedule.decay_steps",
                                 "%" PRId64 " has no meaning unless schedule.kind is wsd "
                                 "(valid: auto)",
                                 s->decay_steps);
    }
    const int64_t room = s->total_steps - s->warmup_steps;
    if (s->decay_steps == 0) {
        const int64_t fifth = (s->total_steps + 4) / 5;
        s->decay_steps = fifth < room ? fifth : room;
    }
    if (s->decay_steps > room)
        return config_refuse_key(
            c, "schedule.decay_steps",
            "%" PRId64 " steps of decay and %" PRId64 " of warm-up are more than "
            "schedule.total_steps %" PRId64 " (valid: 0 to %" PRId64 ")",
            s->decay_steps, s->warmup_steps, s->total_steps, room);
    return STATUS_OK;
}

/* What no machine can make true; what this one lacks is found when its device is opened. */
static status_t check_device(const struct config *c)
{
    const bool cpu = c->device == CONFIG_DEVICE_CPU;
    const bool bf16 = c->precision == CONFIG_PRECISION_BF16;
    if (cpu && c->precision == CONFIG_PRECISION_FP16)
        return config_refuse_key(c, "train.precision",
                                 "fp16 with train.device cpu (valid: auto, fp32, bf16)");
    if (cpu && c->comm == COMM_TRANSPORT_NCCL)
        return config_refuse_key(c, "parallel.comm",
                                 "nccl with train.device cpu (valid: auto, mpi)");
    if (c->optim.rounding == NN_ROUND_STOCHASTIC && !bf16 &&
        (cpu || c->precision != CONFIG_PRECISION_AUTO))
        return config_refuse_key(c, "optim.rounding",
                                 "stochastic without bf16 weights to round to (valid: "
                                 "nearest, or train.precision bf16)");
    return STATUS_OK;
}

status_t config_check(struct config *c, const struct config *run)
{
    TRY(check_device(c));
    TRY(settle_model(c, run));
    TRY(settle_batch(c));
    TRY(settle_eval(c));
    return settle_schedule(c, run);
}

static status_t check_file(const struct config *c, const char *key, const char *path)
{
    if (!file_exists(path))
        return config_refuse_key(c, key, "%s does not exist", config_quote(path).text);
    if (file_is_dir(path))
        return config_refuse_key(c, key, "%s is a folder (valid: a file)",
                                 config_quote(path).text);
    return STATUS_OK;
}

static status_t check_sources(const struct config *c, const char *key,
                              const struct config_sources *sources)
{
    for (int i = 0; i < sources->n; i++) {
        struct token_file_list list;
        const status_t st = token_file_list(&list, sources->items[i].path);
        token_file_list_release(&list);
        if (st == STATUS_NOMEM) return st;
        if (st != STATUS_OK) return config_refuse_key(c, key, "%s", status_message());
    }
    return STATUS_OK;
}

status_t config_check_files(const struct config *c)
{
    if (c->tokenizer[0]) TRY(check_file(c, "data.tokenizer", c->tokenizer));
    TRY(check_sources(c, "data.train", &c->train));
    TRY(check_sources(c, "data.validation", &c->validation));
    const bool word = strcmp(c->resume, "auto") == 0 || strcmp(c->resume, "never") == 0;
    if (!word && !file_is_dir(c->resume))
        return config_refuse_key(c, "checkpoint.resume",
                                 "%s is not a folder (valid: auto, never, or the folder "
                                 "of a checkpoint)",
                                 config_quote(c->resume).text);
    return STATUS_OK;
}
