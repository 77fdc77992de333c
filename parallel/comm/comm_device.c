/* Which transport carries large vectors. */
#include "parallel/comm/comm_impl.h"

status_t comm_use_device(struct comm *world, struct device *dev, enum comm_transport t,
                         const char **why)
{
    status_t st = STATUS_OK;
    *why = t == COMM_TRANSPORT_AUTO ? "vectors are in host memory" : "as asked for";
    if (t == COMM_TRANSPORT_NCCL)
        st = status_set(STATUS_COMM,
                        "NCCL needs vectors in the memory of GPUs; the device "
                        "is %s, which communicates over mpi",
                        device_name(dev));
    TRY(comm_agree(world, st));
    world->device = dev;
    world->ops = device_is_host(dev) ? &comm_exchange_ops : &comm_staged_ops;
    return STATUS_OK;
}
