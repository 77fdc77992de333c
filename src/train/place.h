/* place - which device a rank computes on, and in which precision. */
#pragma once

#include "config/config.h"
#include "device/device.h"
#include "parallel/comm/comm.h"

/* Open the device that `wanted` names: for CUDA number (node-local rank modulo visible devices).
 * Two ranks on one GPU are refused unless share_gpu.  AUTO takes CUDA if every rank can, else the
 * CPU, and says why.  Collective on world; agreed.  STATUS_DEVICE. */
MUST_USE status_t place_open(struct device **d, struct comm *world,
                             enum config_device wanted, bool share_gpu);

/* The same for a process by itself.  Local.  STATUS_DEVICE. */
MUST_USE status_t place_open_alone(struct device **d, enum config_device wanted);

/* The type of weights and activations, and in a word why.  AUTO: the fastest that every rank's device
 * has, on GPUs bf16, else fp16; on CPUs bf16 where they multiply it (AMX, AVX512-BF16), else fp32.
 * Collective on world (NULL: this process by itself).  STATUS_CONFIG names what the device can do. */
MUST_USE status_t place_precision(enum dtype *t, const char **why, const struct device *d,
                                  struct comm *world, enum config_precision wanted);

/* Are there kernels for this model?  STATUS_CONFIG. */
MUST_USE status_t place_check_model(const struct device *d, const struct arch *a);

/* How many ranks of this host come before this one.  Collective on world; agreed. */
MUST_USE status_t place_local_rank(int *local, struct comm *world);

/* A word of a command line as a value of train.device.  STATUS_USAGE. */
MUST_USE status_t place_parse(const char *text, int *wanted);
