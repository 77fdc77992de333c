/* schedule - pipeline schedules as data: for each stage a list of instructions.  Pure.
 *
 * The layers are cut into stages * chunks parts; part g lies on stage g mod stages, as its chunk
 * g / stages (Narayanan et al. 2021, arXiv:2104.04473, section 2.2).  A micro-batch goes forward
 * through parts 0, 1, ... and backward the other way.
 *
 *   gpipe         all forwards, then all backwards (Huang et al. 2018, arXiv:1811.06965, section 2)
 *   1f1b          one forward, one backward, so that stage s holds at most stages - s micro-batches
 *                 (Narayanan et al. 2020, arXiv:2006.09503, section 2.2: PipeDream-flush)
 *   interleaved   the same with several chunks a stage: a shorter bubble, more messages
 *                 (arXiv:2104.04473, section 2.2)
 *   zero_bubble   backward makes only what the stage before waits for, and gradients of weights
 *                 fill the gaps: ZB-H1 of Qi et al. 2023 (arXiv:2401.10241, section 2.3), which
 *                 holds no more than stages micro-batches
 *
 * Micro-batches of a chunk are always taken in their order. */
#pragma once

#include <stdint.h>

#include "core/status.h"

enum pp_kind { PP_GPIPE, PP_1F1B, PP_INTERLEAVED, PP_ZERO_BUBBLE, PP_KINDS };
enum pp_op { PP_FORWARD, PP_BACKWARD, PP_WEIGHTS, PP_OPS };

enum { PP_MAX_CHUNKS = 16 };

struct pp_instruction {
    enum pp_op op;
    int micro, chunk;
    /* Where this rank keeps the micro-batch's activations in this chunk, from forward to the last
     * that needs them, and what backward leaves to PP_WEIGHTS (-1: nothing). */
    int slot, weight_slot;
};

/* What one stage does, in order. */
struct pp_list {
    struct pp_instruction *items;
    int n;
    int slots[PP_MAX_CHUNKS],
        weight_slots[PP_MAX_CHUNKS]; /* of each chunk, at most in use */
    int window; /* all micro-batches on their way here have different numbers modulo this */
};

struct pp_schedule {
    enum pp_kind kind;
    int n_stages, n_chunks, n_micro;
    struct pp_list *stages; /* [n_stages] */
};

/* Can this kind have so many chunks?  STATUS_CONFIG names parallel.chunks and what is valid. */
MUST_USE status_t pp_check(enum pp_kind kind, int n_stages, int n_chunks);

/* All sizes >= 1.  STATUS_CONFIG, STATUS_NOMEM; release it also after a failure. */
MUST_USE status_t pp_schedule_build(struct pp_schedule *s, enum pp_kind kind,
                                    int n_stages, int n_chunks, int n_micro);
void pp_schedule_release(struct pp_schedule *s); /* leaves it zeroed; accepts that */

const char *pp_kind_name(enum pp_kind kind); /* "gpipe", ... */

/* The part of the model that chunk `chunk` of stage `stage` is, and back. */
int pp_part(const struct pp_schedule *s, int stage, int chunk);
int pp_stage_of(const struct pp_schedule *s, int part);
int pp_chunk_of(const struct pp_schedule *s, int part);
int pp_n_parts(const struct pp_schedule *s);

/* The part that an instruction's input comes from, or its result goes to; -1: none.  Forward gets
 * from the part before, backward from the one behind. */
int pp_from(const struct pp_schedule *s, int part, enum pp_op op);
int pp_to(const struct pp_schedule *s, int part, enum pp_op op);
