/* A comm with nobody on the other side: requests of it can only be measured. */
#include "parallel/comm/comm_impl.h"

#include <stdlib.h>

status_t comm_imagine(struct comm **c, int rank, int size, struct device *dev,
                      bool over_library)
{
    struct comm *made = calloc(1, sizeof *made);
    *c = made;
    if (!made) return status_set(STATUS_NOMEM, "no memory for a communicator");
    const struct comm_ops *far = over_library ? &comm_queued_ops : &comm_staged_ops;
    *made = (struct comm){.ops = device_is_host(dev) ? &comm_exchange_ops : far,
                          .world = made,
                          .rank = rank,
                          .size = size,
                          .device = device_is_host(dev) ? NULL : dev};
    return STATUS_OK;
}
