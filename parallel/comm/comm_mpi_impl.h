/* comm_mpi_impl - what the files that speak MPI share. */
#pragma once

#include <mpi.h>

#include "parallel/comm/comm_impl.h"

enum {
    COMM_MESSAGE_BYTES = 1 << 26, /* most bytes of one MPI call: counts are int */
    COMM_TAG_GATHER = COMM_MAX_TAG,
    COMM_TAGS_NEEDED
};

struct comm_mpi {
    MPI_Comm line; /* own: nobody else's messages can be mistaken for ours */
    MPI_Comm
        words; /* of the comm over all ranks: what ranks say when they give up waiting */
    bool started; /* MPI, by comm_start, so comm_finish ends it */
};

void comm_mpi_describe(int rc, char text[MPI_MAX_ERROR_STRING]);
/* Die, naming operation, rank and count, unless rc is MPI_SUCCESS. */
void comm_mpi_check(const struct comm *c, int rc, const char *operation, int64_t count);
