/* The MPI library's own collectives, which ours are held against. */
#include "parallel/comm/comm_mpi_impl.h"

void comm_mpi_own(struct comm *c, enum comm_op op, float *x, int64_t n)
{
    const int all = (int)n, slice = (int)(n / c->size);
    const MPI_Comm line = c->mpi->line;
    int rc = MPI_SUCCESS;
    switch (op) {
    case COMM_REDUCE_SCATTER:
        rc = MPI_Reduce_scatter_block(MPI_IN_PLACE, x, slice, MPI_FLOAT, MPI_SUM, line);
        break;
    case COMM_ALL_GATHER:
        rc = MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x, slice, MPI_FLOAT, line);
        break;
    case COMM_ALL_REDUCE:
        rc = MPI_Allreduce(MPI_IN_PLACE, x, all, MPI_FLOAT, MPI_SUM, line);
    }
    comm_mpi_check(c, rc, comm_kind_name((enum comm_kind)op), n);
}
