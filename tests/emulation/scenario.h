/* scenario - a piece of CUDA code run in a process of its own, under a seed and a fault, because
 * what the emulation finds ends the process and a seed is read once. */
#pragma once

#define _Noreturn [[noreturn]] /* the headers of C */
extern "C" {
#include "harness/harness.h"
}
#undef _Noreturn
#include "nn/cuda_instructions.h"

enum { SCENARIO_SEEDS = 20 };

struct scenario_end {
    bool aborted;      /* the emulation found something */
    int status;        /* else: of the exit */
    char output[4096]; /* standard error */
};

/* `body` returns the exit status. */
struct scenario_end scenario_run(unsigned seed, const char *fault, int (*body)());

/* The emulation stops it with these words. */
void scenario_is_stopped(const char *fault, int (*body)(), const char *words);
/* It ends with 0, under each seed. */
void scenario_succeeds(const char *fault, int (*body)());
/* Under how many of SCENARIO_SEEDS seeds does it not end with 0? */
int scenario_failures(int (*body)());

/* End the scenario if a call fails. */
void scenario_check(cudaError_t e, const char *call);
#define SCENARIO_OK(call) scenario_check(call, #call)

/* n floats in device memory */
float *scenario_floats(int n);
