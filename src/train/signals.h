/* signals - SIGTERM, SIGINT and SIGUSR1 ask the run to stop after the current step.
 *
 * The handler only sets a flag; the step's own reduction carries it to all ranks, so that all
 * of them stop after the same step.  A second SIGINT ends the process at once. */
#pragma once

void signals_install(void);
int signals_received(void); /* the number of the signal, 0 if none */
