/* A stand-in for libcuda.so.1. The macros say what it answers:
 *   DEVICES      how many devices there are
 *   INIT         what cuInit returns
 *   VERSION      what cuDriverGetVersion writes
 *   QUERY        what cuDeviceTotalMem_v2 returns
 *   LONG_NAME    names fill the buffer and do not end
 *   WITHOUT_MEM  cuDeviceTotalMem_v2 and cuDeviceGetName do not exist
 * The rest of what a driver must have is there and not supported: these tests ask for devices only (tests/fake-cuda does
 * the work of a driver).
 * It follows the driver's rules: nothing works before cuInit, and handles are not indices. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#ifndef DEVICES
#define DEVICES 2
#endif
#ifndef INIT
#define INIT 0
#endif
#ifndef VERSION
#define VERSION 12080
#endif
#ifndef QUERY
#define QUERY 0
#endif

#define HANDLE 40 /* the handle of device 0 */

static int started;

int cuInit(unsigned flags) {
    if (flags != 0) return 1;
    started = INIT == 0;
    return INIT;
}

int cuDriverGetVersion(int *version) {
    *version = VERSION;
    return 0;
}

int cuDeviceGetCount(int *count) {
    if (!started) return 3;
    *count = DEVICES;
    return 0;
}

int cuDeviceGet(int *device, int ordinal) {
    if (!started) return 3;
    if (ordinal < 0 || ordinal >= DEVICES) return 101;
    *device = HANDLE + ordinal;
    return 0;
}

#ifndef WITHOUT_MEM
int cuDeviceGetName(char *name, int len, int device) {
    if (!started) return 3;
    if (device < HANDLE || device >= HANDLE + DEVICES) return 101;
#ifdef LONG_NAME
    memset(name, 'x', (size_t)len);
#else
    snprintf(name, (size_t)len, "Fake GPU %d", device - HANDLE);
#endif
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    if (!started) return 3;
    if (device < HANDLE || device >= HANDLE + DEVICES) return 101;
    *bytes = (size_t)(device - HANDLE + 1) << 34;
    return QUERY;
}
#endif

#define NOT_HERE(name) int name(void) { return 801; }
NOT_HERE(cuDeviceGetAttribute)
NOT_HERE(cuDevicePrimaryCtxRetain)
NOT_HERE(cuDevicePrimaryCtxRelease_v2)
NOT_HERE(cuDevicePrimaryCtxGetState)
NOT_HERE(cuCtxGetCurrent)
NOT_HERE(cuCtxSetCurrent)
NOT_HERE(cuPointerGetAttribute)
NOT_HERE(cuPointerGetAttributes)
NOT_HERE(cuMemGetInfo_v2)
NOT_HERE(cuDeviceCanAccessPeer)
NOT_HERE(cuCtxEnablePeerAccess)
NOT_HERE(cuMemAlloc_v2)
NOT_HERE(cuMemFree_v2)
NOT_HERE(cuMemAllocManaged)
NOT_HERE(cuMemHostAlloc)
NOT_HERE(cuMemFreeHost)
NOT_HERE(cuMemcpyAsync)
NOT_HERE(cuMemcpyHtoDAsync_v2)
NOT_HERE(cuMemcpyDtoHAsync_v2)
NOT_HERE(cuMemcpyDtoDAsync_v2)
NOT_HERE(cuMemcpyPeerAsync)
NOT_HERE(cuMemcpy2DAsync_v2)
NOT_HERE(cuMemcpy3DAsync_v2)
NOT_HERE(cuMemsetD8Async)
NOT_HERE(cuStreamCreate)
NOT_HERE(cuStreamDestroy_v2)
NOT_HERE(cuStreamQuery)
NOT_HERE(cuStreamSynchronize)
NOT_HERE(cuStreamWaitEvent)
NOT_HERE(cuStreamIsCapturing)
NOT_HERE(cuStreamGetCtx)
NOT_HERE(cuThreadExchangeStreamCaptureMode)
NOT_HERE(cuEventCreate)
NOT_HERE(cuEventDestroy_v2)
NOT_HERE(cuEventRecord)
NOT_HERE(cuEventQuery)
NOT_HERE(cuEventSynchronize)
NOT_HERE(cuEventElapsedTime)
NOT_HERE(cuLaunchHostFunc)
NOT_HERE(cuModuleLoadData)
NOT_HERE(cuModuleUnload)
NOT_HERE(cuModuleGetFunction)
NOT_HERE(cuLaunchKernel)
