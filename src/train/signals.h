/* signals - SIGTERM, SIGINT and SIGUSR1 ask the run to stop after the current step.
 *
 * No handler ever runs: all threads block these signals and one thread waits for them.  A
 * handler would run on the stack of whatever thread it interrupts, and oneDNN's sgemm (2.6.3)
 * computes with the stack pointer inside a buffer on the heap: the signal's frame would then be
 * written over the heap.  tests/train/test_signals.c shows it.
 *
 * The step's own reduction carries the news to all ranks, so that all of them stop after the
 * same step. */
#pragma once

#include <stdbool.h>

/* Block the signals in this thread and those it makes from now on, so call it before there is
 * any other, and begin to wait.  Until signals_arm a signal ends the process as if nothing had
 * been done.  Dies if there can be no thread. */
void signals_start(void);

/* From now on signals are kept for signals_received; a second SIGINT ends the process. */
void signals_arm(void);
int signals_received(void); /* the signal's number, 0 if none since signals_arm */
bool signals_told(void);    /* was there one? */
