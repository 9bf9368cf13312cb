/* Devices and their primary contexts. */
#include "fake.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const Handle FIRST_CONTEXT = 0x1000, CONTEXT_STEP = 0x10;

static bool initialised;
static pid_t initialised_by;
static int retained[DEVICES];
static bool peers[DEVICES][DEVICES];
static __thread Handle current, below[16];
static __thread size_t depth;

/* An H200's, as far as anything asks for them; see CUdevice_attribute. */
static const struct {
    int attribute, value;
} ATTRIBUTES[] = {
    {1, 1024},      /* MAX_THREADS_PER_BLOCK */
    {8, 49152},     /* MAX_SHARED_MEMORY_PER_BLOCK */
    {10, 32},       /* WARP_SIZE */
    {12, 65536},    /* MAX_REGISTERS_PER_BLOCK */
    {13, 1980000},  /* CLOCK_RATE, kHz */
    {16, 132},      /* MULTIPROCESSOR_COUNT */
    {32, 1},        /* ECC_ENABLED */
    {36, 3201000},  /* MEMORY_CLOCK_RATE, kHz */
    {37, 6144},     /* GLOBAL_MEMORY_BUS_WIDTH, bits */
    {38, 62914560}, /* L2_CACHE_SIZE */
    {39, 2048},     /* MAX_THREADS_PER_MULTIPROCESSOR */
    {40, 3},        /* ASYNC_ENGINE_COUNT */
    {41, 1},        /* UNIFIED_ADDRESSING */
    {75, 9},        /* COMPUTE_CAPABILITY_MAJOR */
    {76, 0},        /* COMPUTE_CAPABILITY_MINOR */
    {81, 233472},   /* MAX_SHARED_MEMORY_PER_MULTIPROCESSOR */
    {82, 65536},    /* MAX_REGISTERS_PER_MULTIPROCESSOR */
    {95, 1},        /* COOPERATIVE_LAUNCH */
    {97, 232448},   /* MAX_SHARED_MEMORY_PER_BLOCK_OPTIN */
    {102, 1},       /* VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED */
    {110, 1},       /* GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED */
    {141, 1},       /* HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED */
};

static bool is_device(int device) { return device >= 0 && device < DEVICES; }

static int device_of_context(Handle context)
{
    for (int device = 0; device < DEVICES; device++)
        if (context == FIRST_CONTEXT + CONTEXT_STEP * (Handle)device)
            return device;
    return -1;
}

CUresult current_device(int *device)
{
    if (!initialised)
        return NOT_INITIALIZED;
    if (current == 0)
        return INVALID_CONTEXT;
    *device = device_of_context(current);
    return retained[*device] > 0 ? OK : CONTEXT_IS_DESTROYED;
}

bool in_forked_child(void) { return initialised && initialised_by != getpid(); }

size_t contexts_held(void)
{
    size_t held = 0;
    for (int device = 0; device < DEVICES; device++)
        held += (size_t)retained[device];
    return held;
}

void reset_devices(void)
{
    memset(retained, 0, sizeof retained);
    memset(peers, 0, sizeof peers);
    current = 0;
}

EXPORT CUresult cuInit(unsigned flags)
{
    ENTER();
    if (flags != 0)
        return INVALID_VALUE;
    initialised = true;
    initialised_by = getpid();
    return OK;
}

EXPORT CUresult cuDriverGetVersion(int *version)
{
    ENTER();
    *version = 13000;
    return OK;
}

EXPORT CUresult cuGetErrorName(CUresult code, const char **name)
{
    static __thread char text[32];
    snprintf(text, sizeof text, "CUDA_ERROR_%d", code);
    *name = text;
    return OK;
}

EXPORT CUresult cuGetErrorString(CUresult code, const char **name)
{
    return cuGetErrorName(code, name);
}

EXPORT CUresult cuDeviceGetCount(int *count)
{
    ENTER();
    *count = DEVICES;
    return initialised ? OK : NOT_INITIALIZED;
}

EXPORT CUresult cuDeviceGet(int *device, int ordinal)
{
    ENTER();
    *device = ordinal;
    return is_device(ordinal) ? OK : INVALID_DEVICE;
}

EXPORT CUresult cuDeviceGetName(char *name, int length, int device)
{
    ENTER();
    if (!is_device(device))
        return INVALID_DEVICE;
    snprintf(name, (size_t)length, "Fake H200");
    return OK;
}

EXPORT CUresult cuDeviceGetUuid(unsigned char *uuid, int device)
{
    ENTER();
    if (!is_device(device))
        return INVALID_DEVICE;
    memset(uuid, 0xfa + device, 16);
    return OK;
}

EXPORT CUresult cuDeviceTotalMem(size_t *bytes, int device)
{
    ENTER();
    if (!is_device(device))
        return INVALID_DEVICE;
    *bytes = place_total(false, device);
    return OK;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, int device)
{
    ENTER();
    if (!is_device(device))
        return INVALID_DEVICE;
    *value = 0;
    for (size_t i = 0; i < sizeof ATTRIBUTES / sizeof *ATTRIBUTES; i++)
        if (ATTRIBUTES[i].attribute == attribute)
            *value = ATTRIBUTES[i].value;
    if (attribute == 33 || attribute == 134) /* PCI_BUS_ID, HOST_NUMA_ID: a node for each device */
        *value = device;
    return OK;
}

EXPORT CUresult cuDeviceGetPCIBusId(char *text, int length, int device)
{
    ENTER();
    if (!is_device(device))
        return INVALID_DEVICE;
    snprintf(text, (size_t)length, "0000:%02X:00.0", device);
    return OK;
}

EXPORT CUresult cuDeviceCanAccessPeer(int *can, int device, int other)
{
    ENTER();
    if (!is_device(device) || !is_device(other))
        return INVALID_DEVICE;
    *can = device != other;
    return OK;
}

EXPORT CUresult cuDeviceGetP2PAttribute(int *value, int attribute, int device, int other)
{
    ENTER();
    if (!is_device(device) || !is_device(other) || device == other)
        return INVALID_DEVICE;
    *value = attribute != 1; /* of PERFORMANCE_RANK the best is 0 */
    return OK;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(Handle *context, int device)
{
    ENTER();
    if (!initialised)
        return NOT_INITIALIZED;
    if (!is_device(device))
        return INVALID_DEVICE;
    retained[device]++;
    *context = FIRST_CONTEXT + CONTEXT_STEP * (Handle)device;
    return OK;
}

EXPORT CUresult cuDevicePrimaryCtxRelease(int device)
{
    ENTER();
    if (!is_device(device))
        return INVALID_DEVICE;
    if (retained[device] == 0)
        return INVALID_CONTEXT;
    CUresult finished = retained[device] == 1 ? finish_device(device) : OK;
    retained[device]--;
    if (retained[device] == 0)
        memset(peers[device], 0, sizeof peers[device]);
    return finished;
}

EXPORT CUresult cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    ENTER();
    if (!is_device(device))
        return INVALID_DEVICE;
    *flags = 0;
    *active = retained[device] > 0;
    return OK;
}

/* Everything that the context had is gone, whoever retained it. */
EXPORT CUresult cuDevicePrimaryCtxReset(int device)
{
    ENTER();
    if (!is_device(device))
        return INVALID_DEVICE;
    CUresult finished = finish_device(device);
    free_buffers_of(device);
    memset(peers[device], 0, sizeof peers[device]);
    return finished;
}

EXPORT CUresult cuCtxPushCurrent(Handle context)
{
    ENTER();
    if (depth == sizeof below / sizeof *below || device_of_context(context) < 0)
        return INVALID_CONTEXT;
    below[depth++] = current;
    current = context;
    return OK;
}

EXPORT CUresult cuCtxPopCurrent(Handle *context)
{
    ENTER();
    *context = current;
    current = depth > 0 ? below[--depth] : 0;
    return OK;
}

EXPORT CUresult cuCtxSetCurrent(Handle context)
{
    ENTER();
    if (context != 0 && device_of_context(context) < 0)
        return INVALID_CONTEXT;
    if (context != 0 && retained[device_of_context(context)] == 0)
        return CONTEXT_IS_DESTROYED;
    current = context;
    return OK;
}

EXPORT CUresult cuCtxGetCurrent(Handle *context)
{
    ENTER();
    *context = current;
    return OK;
}

EXPORT CUresult cuCtxGetDevice(int *found)
{
    ENTER_ON(device);
    *found = device;
    return OK;
}

EXPORT CUresult cuCtxSynchronize(void)
{
    ENTER_ON(device);
    return finish_device(device);
}

EXPORT CUresult cuCtxEnablePeerAccess(Handle context, unsigned flags)
{
    ENTER_ON(device);
    int other = device_of_context(context);
    if (other < 0 || other == device || retained[other] == 0)
        return INVALID_CONTEXT;
    if (flags != 0)
        return INVALID_VALUE;
    if (peers[device][other])
        return PEER_ACCESS_ALREADY_ENABLED;
    peers[device][other] = true;
    return OK;
}

EXPORT CUresult cuCtxDisablePeerAccess(Handle context)
{
    ENTER_ON(device);
    int other = device_of_context(context);
    if (other < 0 || !peers[device][other])
        return PEER_ACCESS_NOT_ENABLED;
    peers[device][other] = false;
    return OK;
}

/* The driver's stream-ordered pools hold nothing here that is unused. */

EXPORT CUresult cuDeviceGetDefaultMemPool(Handle *pool, int device)
{
    ENTER();
    *pool = 0x2000 + (Handle)device;
    return is_device(device) ? OK : INVALID_DEVICE;
}

EXPORT CUresult cuMemPoolCreate(Handle *pool, const void *props)
{
    ENTER();
    static Handle last = 0x3000;
    *pool = ++last;
    return props == NULL ? INVALID_VALUE : OK;
}

EXPORT CUresult cuMemPoolDestroy(Handle pool)
{
    ENTER();
    return pool < 0x3000 ? INVALID_VALUE : OK;
}

EXPORT CUresult cuMemPoolTrimTo(Handle pool, size_t keep)
{
    ENTER();
    (void)keep;
    return pool == 0 ? INVALID_VALUE : OK;
}

/* Contexts other than primary ones, and green ones, are not made here; so there are none. */

EXPORT CUresult cuCtxDestroy(Handle context)
{
    ENTER();
    (void)context;
    return INVALID_CONTEXT;
}

EXPORT CUresult cuGreenCtxStreamCreate(Handle *made, Handle green, unsigned flags, int priority)
{
    ENTER();
    (void)made, (void)green, (void)flags, (void)priority;
    return NOT_SUPPORTED;
}
