/* What the CUDA runtime complains about, in sentences that name the device and what to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "device/device_cuda_impl.h"

/* By name, because headers of older toolkits lack some. */
static const struct {
    const char *name, *reason;
} reasons[] = {
    {"cudaErrorECCUncorrectable", "its memory has an error that cannot be corrected "
                                  "(ECC): take the GPU out of use and look "
                                  "at nvidia-smi -q -d ECC"},
    {"cudaErrorContained", "its memory had an error that was contained (ECC): start "
                           "again; look at nvidia-smi -q -d ECC"},
    {"cudaErrorNvlinkUncorrectable",
     "NVLink had an error that cannot be corrected: look at nvidia-smi nvlink -e"},
    {"cudaErrorUnknown", "the driver has lost the GPU, which may have fallen off the "
                         "bus: look for Xid in dmesg"},
    {"cudaErrorIllegalAddress", "a kernel touched memory it must not: YOKE_DEBUG_SYNC=1 "
                                "in the environment names it"},
    {"cudaErrorMisalignedAddress",
     "a kernel used a misaligned address: YOKE_DEBUG_SYNC=1 in the environment names it"},
    {"cudaErrorIllegalInstruction", "a kernel met an illegal instruction: "
                                    "YOKE_DEBUG_SYNC=1 in the environment names it"},
    {"cudaErrorLaunchFailure", "a kernel failed, or the GPU did: YOKE_DEBUG_SYNC=1 in "
                               "the environment names it, Xid in "
                               "dmesg tells which of the two"},
    {"cudaErrorLaunchTimeout",
     "a kernel was stopped by the time limit of a GPU that drives a display"},
    {"cudaErrorLaunchOutOfResources",
     "a kernel wants more registers or shared memory than the GPU has"},
    {"cudaErrorMemoryAllocation", "there is not enough memory"},
    {"cudaErrorNoKernelImageForDevice", "the plug-in has no code for this GPU"},
    {"cudaErrorInvalidDeviceFunction", "the plug-in has no code for this GPU"},
    {"cudaErrorUnsupportedPtxVersion",
     "the driver is too old to compile the plug-in's code for this GPU"},
    {"cudaErrorDevicesUnavailable",
     "it is in use by another process or closed to all (nvidia-smi -q -d COMPUTE)"},
    {"cudaErrorStubLibrary", "the libcuda.so.1 that was found is the toolkit's stub, no "
                             "driver: take its folder out of "
                             "LD_LIBRARY_PATH"},
    {"cudaErrorSystemNotReady",
     "the system is not ready: is nvidia-fabricmanager (NVSwitch machines) running?"},
    {"cudaErrorSystemDriverMismatch", "the driver's library and its kernel module have "
                                      "different versions: reboot, or start the "
                                      "container anew"},
    {"cudaErrorCompatNotSupportedOnDevice",
     "the forward compatibility package does not serve this GPU: take it out of "
     "LD_LIBRARY_PATH "
     "or install a newer driver"},
    {"cudaErrorInitializationError", "CUDA cannot be started in this process (nvidia-smi "
                                     "tells whether the driver works)"},
};

static struct device *blamed; /* the device that was opened last */
static bool debug_sync;

void device_cuda_blame(struct device *d)
{
    const char *value = getenv("YOKE_DEBUG_SYNC");
    debug_sync = value && strcmp(value, "1") == 0;
    ((struct cuda_state *)d->state)->before = blamed;
    blamed = d;
}

void device_cuda_exonerate(const struct device *d)
{
    struct device **at = &blamed;
    while (*at && *at != d) at = &((struct cuda_state *)(*at)->state)->before;
    if (*at) *at = ((const struct cuda_state *)d->state)->before;
}

const char *device_cuda_reason(cudaError_t e)
{
    const char *name = cudaGetErrorName(e);
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (strcmp(reasons[i].name, name) == 0) return reasons[i].reason;
    return cudaGetErrorString(e);
}

const char *device_cuda_compiled_for(void)
{
    static char text[128];
    size_t n = 0;
    text[0] = '\0';
    for (const char *at = device_cuda_architectures; *at && n + 16 < sizeof text;) {
        char *end;
        const long arch = strtol(at, &end, 10); /* 100 * major + 10 * minor */
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%ld.%ld", n ? ", " : "",
                              arch / 100, arch % 100 / 10);
        at = end + strspn(end, ", ");
        if (at == end) break;
    }
    return text[0] ? text : "7.0 and later";
}

bool device_cuda_debugging(void)
{
    return debug_sync;
}

/* While work is recorded, what cannot be recorded is no failure: device_cuda_record_end finds out
 * and the caller does the work without. */
static bool spoils_recording(const struct cuda_state *s, cudaError_t e)
{
    return s && s->recording &&
           strncmp(cudaGetErrorName(e), "cudaErrorStreamCapture", 22) == 0;
}

void device_cuda_check(cudaError_t e, const char *what)
{
    if (e == cudaSuccess) return;
    const struct cuda_state *s = blamed ? blamed->state : NULL;
    if (spoils_recording(s, e)) return;
    if (!s)
        die_with(STATUS_DEVICE, "cuda: %s: %s (%s)", what, device_cuda_reason(e),
                 cudaGetErrorName(e));
    const bool no_code = e == cudaErrorNoKernelImageForDevice;
    die_with(STATUS_DEVICE, "cuda: %s at %s (compute capability %d.%d): %s: %s%s%s (%s)",
             s->model, s->id, s->capability / 10, s->capability % 10, what,
             device_cuda_reason(e), no_code ? ", only for " : "",
             no_code ? device_cuda_compiled_for() : "", cudaGetErrorName(e));
}

void device_cuda_launched(const char *kernel)
{
    device_cuda_check(cudaGetLastError(), kernel);
    if (debug_sync && blamed)
        device_cuda_wait_stream(blamed, device_cuda_stream(blamed, DEVICE_COMPUTE),
                                kernel);
}
