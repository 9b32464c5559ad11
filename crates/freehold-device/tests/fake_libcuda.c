/* A stand-in for libcuda.so.1. The macros say what it answers:
 *   DEVICES      how many devices there are
 *   INIT         what cuInit returns
 *   VERSION      what cuDriverGetVersion writes
 *   QUERY        what cuDeviceTotalMem_v2 returns
 *   LONG_NAME    names fill the buffer and do not end
 *   WITHOUT_MEM  cuDeviceTotalMem_v2 and cuDeviceGetName do not exist
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
