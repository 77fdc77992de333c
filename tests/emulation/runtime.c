/* Devices, versions, error texts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulation.h"
#include "memory.h"
#include "shared.h"
#include "stream.h"

enum {
    DEVICES = 8,
    CAPABILITY = 90,
    VERSION = CUDART_VERSION,
    OLD_VERSION = 11040,
    MULTIPROCESSORS = 8, /* few: grids sized by them stay small */
    L2_BYTES = 50 << 20,
    BUS_BITS = 5120
};

static _Thread_local int current;

static int number(const char *item, int otherwise)
{
    const char *const text = emulation_fault(item);
    return text ? (int)strtol(text, NULL, 10) : otherwise;
}

static int capability(void)
{
    return emulation_fault("bf16") ? 75 : number("arch", CAPABILITY);
}

/* KiB of shared memory: a multiprocessor's, and the most that a block may ask for; by capability
 * (CUDA C++ Programming Guide, table of technical specifications per compute capability). */
static const struct shared_size {
    int capability;
    size_t multiprocessor, block;
} shared_sizes[] = {{90, 228, 227}, {86, 100, 99}, {80, 164, 163}, {75, 64, 64}};

static const struct shared_size *shared_size(void)
{
    const struct shared_size *s = shared_sizes;
    while (s->capability > capability() && s->capability > 75) s++;
    return s;
}

size_t shared_block_limit(void)
{
    return shared_size()->block << 10;
}

/* ---- devices ------------------------------------------------------------------------------------- */

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = emulation_fault("old_driver") ? OLD_VERSION : VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    if (emulation_fault("old_driver")) return stream_error(cudaErrorInsufficientDriver);
    if (emulation_fault("no_device")) return stream_error(cudaErrorNoDevice);
    *count = number("devices", DEVICES);
    return stream_error(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

static cudaError_t check(int device)
{
    int count;
    const cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess) return e;
    return stream_error(device >= 0 && device < count ? cudaSuccess
                                                      : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return check(current);
}

cudaError_t cudaSetDevice(int device)
{
    const cudaError_t e = check(device);
    if (e == cudaSuccess) current = device;
    return e;
}

cudaError_t cudaSetDeviceFlags(unsigned flags)
{
    (void)flags;
    return check(current);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    size_t free_bytes;
    const cudaError_t e = check(device);
    if (e != cudaSuccess) return e;
    const struct shared_size *const shared = shared_size();
    *p = (struct cudaDeviceProp){.sharedMemPerBlock = 48 << 10,
                                 .regsPerBlock = 65536,
                                 .warpSize = 32,
                                 .maxThreadsPerBlock = 1024,
                                 .maxThreadsDim = {1024, 1024, 64},
                                 .maxGridSize = {0x7FFFFFFF, 65535, 65535},
                                 .major = capability() / 10,
                                 .minor = capability() % 10,
                                 .multiProcessorCount = MULTIPROCESSORS,
                                 .canMapHostMemory = 1,
                                 .concurrentKernels = 1,
                                 .ECCEnabled = 1,
                                 .pciBusID = device + 1,
                                 .asyncEngineCount = 3,
                                 .unifiedAddressing = 1,
                                 .memoryBusWidth = BUS_BITS,
                                 .l2CacheSize = L2_BYTES,
                                 .maxThreadsPerMultiProcessor = 2048,
                                 .sharedMemPerMultiprocessor = shared->multiprocessor
                                                               << 10,
                                 .regsPerMultiprocessor = 65536,
                                 .sharedMemPerBlockOptin = shared->block << 10};
    snprintf(p->name, sizeof p->name, "emulated device");
    work_lock();
    memory_info(device, &free_bytes, &p->totalGlobalMem);
    work_unlock();
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp p;
    const cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess) return e;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        break;
    case cudaDevAttrMaxRegistersPerBlock:
        *value = p.regsPerBlock;
        break;
    case cudaDevAttrClockRate: /* kHz */
        *value = 1000000;
        break;
    case cudaDevAttrMemoryClockRate: /* kHz */
        *value = 1000000;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        break;
    case cudaDevAttrIntegrated:
        *value = p.integrated;
        break;
    case cudaDevAttrComputeMode:
        *value = cudaComputeModeDefault;
        break;
    case cudaDevAttrEccEnabled:
        *value = p.ECCEnabled;
        break;
    case cudaDevAttrPciBusId:
        *value = p.pciBusID;
        break;
    case cudaDevAttrPciDeviceId:
        *value = p.pciDeviceID;
        break;
    case cudaDevAttrPciDomainId:
        *value = p.pciDomainID;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = p.memoryBusWidth;
        break;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    default:
        return stream_error(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    struct cudaDeviceProp p;
    const cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess) return e;
    if (length < 13) return stream_error(cudaErrorInvalidValue);
    snprintf(id, (size_t)length, "%04X:%02X:%02X.0", (unsigned)p.pciDomainID,
             (unsigned)p.pciBusID, (unsigned)p.pciDeviceID);
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    const cudaError_t e = check(device);
    if (e != cudaSuccess) return e;
    *can = device != peer && !emulation_fault("peer");
    return check(peer);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return check(current);
}

cudaError_t cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}

/* ---- error texts --------------------------------------------------------------------------------- */

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
#define E(error, text)                                                                   \
    {                                                                                    \
        error, #error, text                                                              \
    }
    E(cudaSuccess, "no error"),
    E(cudaErrorInvalidValue, "invalid argument"),
    E(cudaErrorMemoryAllocation, "out of memory"),
    E(cudaErrorInitializationError, "initialization error"),
    E(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    E(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    E(cudaErrorInsufficientDriver,
      "CUDA driver version is insufficient for CUDA runtime version"),
    E(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    E(cudaErrorInvalidDevice, "invalid device ordinal"),
    E(cudaErrorNoKernelImageForDevice,
      "no kernel image is available for execution on the device"),
    E(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered"),
    E(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    E(cudaErrorNotReady, "device not ready"),
    E(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    E(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    E(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    E(cudaErrorLaunchFailure, "unspecified launch failure"),
    E(cudaErrorNotSupported, "operation not supported"),
    E(cudaErrorStreamCaptureUnsupported,
      "operation not permitted when stream is capturing"),
    E(cudaErrorStreamCaptureInvalidated,
      "operation failed due to a previous error during "
      "capture"),
    E(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it "
                                       "began"),
    E(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    E(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another "
                                       "stream"),
    E(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a "
                              "capturing stream"),
#undef E
};

static const char *error_word(cudaError_t e, bool name)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (errors[i].error == e) return name ? errors[i].name : errors[i].text;
    }
    return name ? "cudaErrorUnknown" : "unknown error";
}

const char *cudaGetErrorName(cudaError_t e)
{
    return error_word(e, true);
}

const char *cudaGetErrorString(cudaError_t e)
{
    return error_word(e, false);
}
