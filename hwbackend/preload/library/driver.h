/* The CUDA driver as this library sees it: types, the functions it hooks and those it calls.

   Declared here, since the library is built without a CUDA toolkit. Names, values and the versions
   in HOOKS are those of cuda.h and cudaTypedefs.h of CUDA 13.0. */
#ifndef VSIM_PRELOAD_DRIVER_H
#define VSIM_PRELOAD_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef unsigned long long CUmemHandle;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmemPoolHandle_st *CUmemoryPool;
typedef struct CUgraph_st *CUgraph;
typedef struct {
    char reserved[64];
} CUipcMemHandle;

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_NOT_SUPPORTED = 801,
};
enum { LOCATION_DEVICE = 1, LOCATION_HOST_NUMA = 3 }; /* CUmemLocationType */
enum { ACCESS_READ_WRITE = 3 };                       /* CUmemAccess_flags */
enum { EVENT_DISABLE_TIMING = 2 };                    /* CUevent_flags */
enum { STREAM_NON_BLOCKING = 1 };                     /* CUstream_flags */
enum { CAPTURE_MODE_RELAXED = 2 };                    /* CUstreamCaptureMode */
enum { PER_THREAD_DEFAULT_STREAM = 2 };               /* CUdriverProcAddress_flags */
enum {                                                /* CUdevice_attribute */
    ATTRIBUTE_VMM_SUPPORTED = 102,
    ATTRIBUTE_RDMA_WITH_VMM_SUPPORTED = 110,
    ATTRIBUTE_HOST_NUMA_ID = 134,
    ATTRIBUTE_HOST_NUMA_VMM_SUPPORTED = 141,
};

typedef struct {
    int type, id;
} MemLocation;
typedef struct {
    int type, handle_types;
    MemLocation location;
    void *win32;
    struct {
        unsigned char compression, rdma_capable;
        unsigned short usage;
        unsigned char reserved[4];
    } flags;
} MemProp;
typedef struct {
    MemLocation location;
    int flags;
} MemAccess;

/* Hooked: symbol, name that cuGetProcAddress knows it by, the CUDA versions [since, until) for
   which it stands under that name, and whether it is the one for per-thread default streams. */
#define NO_END 1000000
#define EITHER 2
#define HOOKS(X)                                                                                   \
    X(cuGetProcAddress, "cuGetProcAddress", 11030, 12000, EITHER)                                  \
    X(cuGetProcAddress_v2, "cuGetProcAddress", 12000, NO_END, EITHER)                              \
    X(cuMemAlloc_v2, "cuMemAlloc", 3020, NO_END, EITHER)                                           \
    X(cuMemAllocPitch_v2, "cuMemAllocPitch", 3020, NO_END, EITHER)                                 \
    X(cuMemFree_v2, "cuMemFree", 3020, NO_END, EITHER)                                             \
    X(cuMemAllocManaged, "cuMemAllocManaged", 6000, NO_END, EITHER)                                \
    X(cuMemAllocAsync, "cuMemAllocAsync", 11020, NO_END, 0)                                        \
    X(cuMemAllocAsync_ptsz, "cuMemAllocAsync", 11020, NO_END, 1)                                   \
    X(cuMemAllocFromPoolAsync, "cuMemAllocFromPoolAsync", 11020, NO_END, 0)                        \
    X(cuMemAllocFromPoolAsync_ptsz, "cuMemAllocFromPoolAsync", 11020, NO_END, 1)                   \
    X(cuMemFreeAsync, "cuMemFreeAsync", 11020, NO_END, 0)                                          \
    X(cuMemFreeAsync_ptsz, "cuMemFreeAsync", 11020, NO_END, 1)                                     \
    X(cuMemCreate, "cuMemCreate", 10020, NO_END, EITHER)                                           \
    X(cuMemRelease, "cuMemRelease", 10020, NO_END, EITHER)                                         \
    X(cuMemMap, "cuMemMap", 10020, NO_END, EITHER)                                                 \
    X(cuMemUnmap, "cuMemUnmap", 10020, NO_END, EITHER)                                             \
    X(cuMemRetainAllocationHandle, "cuMemRetainAllocationHandle", 11000, NO_END, EITHER)           \
    X(cuMemGetInfo_v2, "cuMemGetInfo", 3020, NO_END, EITHER)                                       \
    X(cuMemGetAddressRange_v2, "cuMemGetAddressRange", 3020, NO_END, EITHER)                       \
    X(cuPointerGetAttribute, "cuPointerGetAttribute", 4000, NO_END, EITHER)                        \
    X(cuPointerGetAttributes, "cuPointerGetAttributes", 7000, NO_END, EITHER)                      \
    X(cuIpcGetMemHandle, "cuIpcGetMemHandle", 4010, NO_END, EITHER)                                \
    X(cuMemPoolCreate, "cuMemPoolCreate", 11020, NO_END, EITHER)                                   \
    X(cuMemPoolDestroy, "cuMemPoolDestroy", 11020, NO_END, EITHER)                                 \
    X(cuCtxDestroy_v2, "cuCtxDestroy", 4000, NO_END, EITHER)                                       \
    X(cuDevicePrimaryCtxRelease_v2, "cuDevicePrimaryCtxRelease", 11000, NO_END, EITHER)            \
    X(cuDevicePrimaryCtxReset_v2, "cuDevicePrimaryCtxReset", 11000, NO_END, EITHER)                \
    X(cuCtxEnablePeerAccess, "cuCtxEnablePeerAccess", 4000, NO_END, EITHER)                        \
    X(cuCtxDisablePeerAccess, "cuCtxDisablePeerAccess", 4000, NO_END, EITHER)                      \
    X(cuStreamCreate, "cuStreamCreate", 2000, NO_END, EITHER)                                      \
    X(cuStreamCreateWithPriority, "cuStreamCreateWithPriority", 5050, NO_END, EITHER)              \
    X(cuGreenCtxStreamCreate, "cuGreenCtxStreamCreate", 12050, NO_END, EITHER)                     \
    X(cuStreamDestroy_v2, "cuStreamDestroy", 4000, NO_END, EITHER)                                 \
    X(cuStreamBeginCapture_v2, "cuStreamBeginCapture", 10010, NO_END, 0)                           \
    X(cuStreamBeginCapture_v2_ptsz, "cuStreamBeginCapture", 10010, NO_END, 1)                      \
    X(cuStreamBeginCaptureToGraph, "cuStreamBeginCaptureToGraph", 12030, NO_END, 0)                \
    X(cuStreamBeginCaptureToGraph_ptsz, "cuStreamBeginCaptureToGraph", 12030, NO_END, 1)           \
    X(cuStreamEndCapture, "cuStreamEndCapture", 10000, NO_END, 0)                                  \
    X(cuStreamEndCapture_ptsz, "cuStreamEndCapture", 10000, NO_END, 1)

/* Called, not hooked. */
#define CALLED(X)                                                                                  \
    X(cuCtxGetCurrent)                                                                             \
    X(cuCtxGetDevice)                                                                              \
    X(cuCtxPushCurrent_v2)                                                                         \
    X(cuCtxPopCurrent_v2)                                                                          \
    X(cuCtxSynchronize)                                                                            \
    X(cuDeviceGetCount)                                                                            \
    X(cuDeviceGetAttribute)                                                                        \
    X(cuDeviceTotalMem_v2)                                                                         \
    X(cuDeviceCanAccessPeer)                                                                       \
    X(cuDeviceGetDefaultMemPool)                                                                   \
    X(cuDevicePrimaryCtxGetState)                                                                  \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuEventCreate)                                                                               \
    X(cuEventDestroy_v2)                                                                           \
    X(cuEventRecord)                                                                               \
    X(cuEventQuery)                                                                                \
    X(cuEventSynchronize)                                                                          \
    X(cuMemAddressReserve)                                                                         \
    X(cuMemAddressFree)                                                                            \
    X(cuMemSetAccess)                                                                              \
    X(cuMemGetAllocationGranularity)                                                               \
    X(cuMemPoolTrimTo)                                                                             \
    X(cuMemcpyDtoD_v2)                                                                             \
    X(cuStreamIsCapturing)                                                                         \
    X(cuThreadExchangeStreamCaptureMode)

enum function {
#define NAME_HOOK(symbol, base, since, until, per_thread) AT_##symbol,
    HOOKS(NAME_HOOK)
#undef NAME_HOOK
    HOOK_COUNT,
    AT_BEFORE_CALLED = HOOK_COUNT - 1,
#define NAME_CALLED(symbol) AT_##symbol,
    CALLED(NAME_CALLED)
#undef NAME_CALLED
    FUNCTION_COUNT
};

EXPORT CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags);
EXPORT CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                                    int *status);
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes);
EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *at, size_t *pitch, size_t width, size_t height,
                                   unsigned element);
EXPORT CUresult cuMemFree_v2(CUdeviceptr at);
EXPORT CUresult cuMemAllocManaged(CUdeviceptr *at, size_t bytes, unsigned flags);
EXPORT CUresult cuMemAllocAsync(CUdeviceptr *at, size_t bytes, CUstream stream);
EXPORT CUresult cuMemAllocAsync_ptsz(CUdeviceptr *at, size_t bytes, CUstream stream);
EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr *at, size_t bytes, CUmemoryPool pool,
                                        CUstream stream);
EXPORT CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *at, size_t bytes, CUmemoryPool pool,
                                             CUstream stream);
EXPORT CUresult cuMemFreeAsync(CUdeviceptr at, CUstream stream);
EXPORT CUresult cuMemFreeAsync_ptsz(CUdeviceptr at, CUstream stream);
EXPORT CUresult cuMemCreate(CUmemHandle *handle, size_t bytes, const MemProp *prop,
                            unsigned long long flags);
EXPORT CUresult cuMemRelease(CUmemHandle handle);
EXPORT CUresult cuMemMap(CUdeviceptr at, size_t bytes, size_t offset, CUmemHandle handle,
                         unsigned long long flags);
EXPORT CUresult cuMemUnmap(CUdeviceptr at, size_t bytes);
EXPORT CUresult cuMemRetainAllocationHandle(CUmemHandle *handle, void *at);
EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total);
EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr at);
EXPORT CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr at);
EXPORT CUresult cuPointerGetAttributes(unsigned count, int *attributes, void **data,
                                       CUdeviceptr at);
EXPORT CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr at);
EXPORT CUresult cuMemPoolCreate(CUmemoryPool *pool, const void *props);
EXPORT CUresult cuMemPoolDestroy(CUmemoryPool pool);
EXPORT CUresult cuCtxDestroy_v2(CUcontext context);
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device);
EXPORT CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags);
EXPORT CUresult cuCtxDisablePeerAccess(CUcontext peer);
EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned flags);
EXPORT CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority);
EXPORT CUresult cuGreenCtxStreamCreate(CUstream *stream, void *green, unsigned flags, int priority);
EXPORT CUresult cuStreamDestroy_v2(CUstream stream);
EXPORT CUresult cuStreamBeginCapture_v2(CUstream stream, int mode);
EXPORT CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, int mode);
EXPORT CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const void *nodes,
                                            const void *edges, size_t count, int mode);
EXPORT CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph, const void *nodes,
                                                 const void *edges, size_t count, int mode);
EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph);
EXPORT CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph);

CUresult cuCtxGetCurrent(CUcontext *context);
CUresult cuCtxGetDevice(CUdevice *device);
CUresult cuCtxPushCurrent_v2(CUcontext context);
CUresult cuCtxPopCurrent_v2(CUcontext *context);
CUresult cuCtxSynchronize(void);
CUresult cuDeviceGetCount(int *count);
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device);
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device);
CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer);
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device);
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active);
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
CUresult cuEventCreate(CUevent *event, unsigned flags);
CUresult cuEventDestroy_v2(CUevent event);
CUresult cuEventRecord(CUevent event, CUstream stream);
CUresult cuEventQuery(CUevent event);
CUresult cuEventSynchronize(CUevent event);
CUresult cuMemAddressReserve(CUdeviceptr *at, size_t bytes, size_t alignment, CUdeviceptr wanted,
                             unsigned long long flags);
CUresult cuMemAddressFree(CUdeviceptr at, size_t bytes);
CUresult cuMemSetAccess(CUdeviceptr at, size_t bytes, const MemAccess *access, size_t count);
CUresult cuMemGetAllocationGranularity(size_t *bytes, const MemProp *prop, int option);
CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep);
CUresult cuMemcpyDtoD_v2(CUdeviceptr target, CUdeviceptr source, size_t bytes);
CUresult cuStreamIsCapturing(CUstream stream, int *status);
CUresult cuThreadExchangeStreamCaptureMode(int *mode);

/* The function that this library passes a call on to: that of the next library which has one by
   this name (another preloaded one, or the driver). Where there is none, one that returns
   CUDA_ERROR_NOT_FOUND. */
void *next_function(enum function which);
#define NEXT(symbol) ((__typeof__(&symbol))next_function(AT_##symbol))

/* The handle of the driver's library where something has loaded it, else NULL. */
void *driver_handle(void);

#endif
