/* doctor_impl - shared by the files of the doctor; included only in this folder. */
#pragma once

#include <net/if.h>

#include "device/device.h"
#include "train/doctor.h"
#include "train/launch.h"

struct doctor_report {
    FILE *out;
    int n_advices;
};

/* "  key            text" */
void doctor_line(struct doctor_report *r, const char *key, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* "  ! text", counted */
void doctor_advice(struct doctor_report *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Bytes as "1.5 GiB"; the text is good until the fourth call from here. */
const char *doctor_bytes(double bytes);

/* What a rank tells the others. */
struct doctor_note {
    struct launch_note launch;
    int local;               /* ranks of this host before this one */
    int n_visible, index;    /* GPUs; the one of this rank, -1: none */
    status_t gpu;            /* why not */
    char sentence[1024];     /* of that status */
    struct device_info info; /* of the GPU */
};

/* ---- one machine; each adds its section to the report -------------------------------------- */

/* `n_ranks`: how many of this host will share it. */
void doctor_host(struct doctor_report *r, const struct launch_note *here, int n_ranks);
void doctor_shared_memory(struct doctor_report *r, int n_ranks);
void doctor_network(struct doctor_report *r);
/* A bridge of containers or virtual machines, which leads to no other host? */
bool doctor_is_bridge(const char *interface);
/* The GPUs of this host.  `open_all`: this is its only rank and may open every one of them;
 * `mine` is what this rank has found.  `opened`: its GPU, or NULL. */
void doctor_gpus(struct doctor_report *r, const struct doctor_note *mine,
                 const struct device *opened, bool open_all);

/* Run a kernel on the GPU and check what it computes.  STATUS_DEVICE, STATUS_NOMEM; a kernel that
 * cannot run ends the job. */
MUST_USE status_t doctor_compute(struct device *gpu, const struct device_info *info);

/* ---- all ranks ------------------------------------------------------------------------------ */

/* The first rank that is on the same GPU as `rank` and comes before it, or -1.  Pure. */
int doctor_sharer(const struct doctor_note *notes, int rank);

/* The table of ranks and what is wrong with who has which GPU.  Pure. */
void doctor_ranks(struct doctor_report *r, const struct doctor_note *notes, int size);

/* Who talks to `rank` in `round` of [0, doctor_rounds(size)): -1 is nobody.  Over all rounds every
 * pair meets once.  Pure. */
int doctor_rounds(int size);
int doctor_partner(int size, int rank, int round);

/* What to try when ranks a and b do not understand each other; static text. */
const char *doctor_cure(const struct doctor_note *notes, bool nccl, int a, int b);

/* Move vectors in the memory of `dev` among all ranks and between all pairs.  STATUS_COMM names
 * the pair; agreed.  Ends the job if a rank does not answer.  Collective on world. */
MUST_USE status_t doctor_links(struct doctor_report *r, struct comm *world,
                               struct device *dev, const struct doctor_note *notes,
                               double limit_seconds);
