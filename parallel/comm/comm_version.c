#include <stdio.h>
#include <string.h>

#include "parallel/comm/comm_mpi_impl.h"

void comm_describe_mpi(char *text, size_t bytes)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "?";
    int length = 0;
    if (MPI_Get_library_version(version, &length) != MPI_SUCCESS) strcpy(version, "?");
    snprintf(text, bytes, "%.*s", (int)strcspn(version, "\n"), version);
}
