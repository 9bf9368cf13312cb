/* The hooked functions: what each does in each mode. In every one the call goes on to the driver
   unless it concerns memory of this library. */
#include "blocks.h"
#include "doors.h"
#include "driver.h"
#include "homes.h"
#include "log.h"
#include "settings.h"
#include "spans.h"

#include <pthread.h>
#include <string.h>

/* Depth of this library in this thread: what the driver or another hook calls while it is at work
   is not the program's, and only passes. */
static __thread int inside __attribute__((tls_model("initial-exec")));
static void leave(const int *unused)
{
    (void)unused;
    inside--;
}
#define ENTER() __attribute__((cleanup(leave), unused)) const int entered = inside++
#define PASSES() (inside > 0 || settings()->mode == PASSIVE)
#define MANAGES() (settings()->mode == MANAGE)

static void before_fork(void) { lock_books(); }
static void in_parent(void) { unlock_books(); }
static void in_child(void)
{
    forget_books();
    forget_homes();
    log_forget();
}
__attribute__((constructor)) static void watch_forks(void)
{
    if (settings()->mode != PASSIVE)
        pthread_atfork(before_fork, in_parent, in_child);
}
__attribute__((destructor)) static void end(void) { log_end(); }

/* cuGetProcAddress, the third door */

static void replace(const char *name, void **function, int version, uint64_t flags)
{
    if (name == NULL || function == NULL || *function == NULL)
        return;
    void *wrapper = wrapper_of_base(name, version, flags);
    if (wrapper == NULL)
        wrapper = wrapper_of_symbol(name);
    if (wrapper != NULL)
        *function = wrapper;
}

CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
    CUresult code = NEXT(cuGetProcAddress)(name, function, version, flags);
    if (code == CUDA_SUCCESS)
        replace(name, function, version, flags);
    return code;
}

CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                             int *status)
{
    CUresult code = NEXT(cuGetProcAddress_v2)(name, function, version, flags, status);
    if (code == CUDA_SUCCESS)
        replace(name, function, version, flags);
    return code;
}

/* Events */

static int device_now(void)
{
    CUdevice device = 0;
    NEXT(cuCtxGetDevice)(&device);
    return device;
}

static void log_malloc(enum event_kind kind, CUresult code, const CUdeviceptr *at, size_t bytes,
                       const void *stream, int device, enum placing placing, uint64_t begin)
{
    if (!log_wanted())
        return;
    uint64_t end_ns = log_now_ns();
    CUcontext context = NULL;
    NEXT(cuCtxGetCurrent)(&context);
    log_event((struct event){.time_ns = end_ns, .duration_ns = (uint32_t)(end_ns - begin),
                             .op = OP_MALLOC, .kind = (uint16_t)kind, .result = (uint32_t)code,
                             .address = code == CUDA_SUCCESS ? *at : 0, .bytes = bytes,
                             .other = (uint64_t)(uintptr_t)context,
                             .stream = (uint64_t)(uintptr_t)stream, .device = (uint16_t)device,
                             .place = (uint16_t)placing});
}

static void log_free(enum event_kind kind, CUresult code, uint64_t address, const void *stream,
                     uint64_t begin)
{
    if (!log_wanted())
        return;
    log_event((struct event){.time_ns = begin, .duration_ns = (uint32_t)(log_now_ns() - begin),
                             .op = OP_FREE, .kind = (uint16_t)kind, .result = (uint32_t)code,
                             .address = address, .stream = (uint64_t)(uintptr_t)stream});
}

/* The driver found no memory for a call that only passes: give up what is pooled, if anything is,
   and say whether the call shall be made again. */
static bool gave_up_memory(CUresult code, int device)
{
    if (code != CUDA_ERROR_OUT_OF_MEMORY || !MANAGES() || device < 0 || device >= MOST_DEVICES ||
        unused_bytes(device) == 0)
        return false;
    int mode = enter_relaxed();
    bool any = settle_device(&devices[device]);
    any |= trim_device(&devices[device]);
    leave_relaxed(mode);
    if (any)
        log_event((struct event){.time_ns = log_now_ns(), .op = OP_RETRY,
                                 .device = (uint16_t)device});
    return any;
}

/* Plain memory */

static CUresult plain_alloc(CUdeviceptr *at, size_t bytes, enum placing *placing, int *device)
{
    struct home *home = MANAGES() && at != NULL && bytes > 0 ? current_home() : NULL;
    if (home == NULL || !home->device->managed)
        return NEXT(cuMemAlloc_v2)(at, bytes);
    *device = home->device->id;
    return take_block(home, at, bytes, 0, placing);
}

CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes)
{
    if (PASSES())
        return NEXT(cuMemAlloc_v2)(at, bytes);
    ENTER();
    enum placing placing = OWN_DEVICE;
    int device = -1;
    uint64_t begin = log_now_ns();
    CUresult code = plain_alloc(at, bytes, &placing, &device);
    log_malloc(KIND_PLAIN, code, at, bytes, NULL, device < 0 ? device_now() : device, placing,
               begin);
    return code;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *at, size_t *pitch, size_t width, size_t height,
                            unsigned element)
{
    if (PASSES())
        return NEXT(cuMemAllocPitch_v2)(at, pitch, width, height, element);
    ENTER();
    enum placing placing = OWN_DEVICE;
    int device = -1;
    uint64_t begin = log_now_ns();
    bool usual = (element == 4 || element == 8 || element == 16) && width > 0 && height > 0 &&
                 width < SIZE_MAX / 4 && rounded(width, 512) < SIZE_MAX / 4 / height;
    struct home *home =
        MANAGES() && at != NULL && pitch != NULL && usual ? current_home() : NULL;
    CUresult code;
    if (home == NULL || !home->device->managed) {
        code = NEXT(cuMemAllocPitch_v2)(at, pitch, width, height, element);
    } else {
        device = home->device->id;
        code = take_block(home, at, rounded(width, 512) * height, 0, &placing);
        if (code == CUDA_SUCCESS)
            *pitch = rounded(width, 512);
    }
    log_malloc(KIND_PLAIN, code, at, code == CUDA_SUCCESS ? *pitch * height : width * height, NULL,
               device < 0 ? device_now() : device, placing, begin);
    return code;
}

CUresult cuMemFree_v2(CUdeviceptr at)
{
    if (PASSES() || at == 0)
        return NEXT(cuMemFree_v2)(at);
    ENTER();
    bool mine = false;
    size_t asked;
    uint64_t begin = log_now_ns();
    CUresult code = CUDA_SUCCESS;
    if (MANAGES())
        code = free_block(at, &mine, &asked);
    if (!mine)
        code = NEXT(cuMemFree_v2)(at);
    log_free(KIND_PLAIN, code, at, NULL, begin);
    return code;
}

CUresult cuMemAllocManaged(CUdeviceptr *at, size_t bytes, unsigned flags)
{
    if (PASSES())
        return NEXT(cuMemAllocManaged)(at, bytes, flags);
    ENTER();
    uint64_t begin = log_now_ns();
    CUresult code = NEXT(cuMemAllocManaged)(at, bytes, flags);
    log_malloc(KIND_MANAGED, code, at, bytes, NULL, device_now(), OWN_DEVICE, begin);
    return code;
}

/* Stream-ordered memory: the driver's own, passed on and recorded */

#define ALLOC_ASYNC(name, parameters, ...)                                                         \
    CUresult name parameters                                                                       \
    {                                                                                              \
        if (PASSES())                                                                              \
            return NEXT(name)(__VA_ARGS__);                                                        \
        ENTER();                                                                                   \
        uint64_t begin = log_now_ns();                                                             \
        int device = device_now();                                                                 \
        CUresult code = NEXT(name)(__VA_ARGS__);                                                   \
        if (gave_up_memory(code, device))                                                          \
            code = NEXT(name)(__VA_ARGS__);                                                        \
        log_malloc(KIND_ASYNC, code, at, bytes, stream, device, OWN_DEVICE, begin);                \
        return code;                                                                               \
    }

ALLOC_ASYNC(cuMemAllocAsync, (CUdeviceptr * at, size_t bytes, CUstream stream), at, bytes, stream)
ALLOC_ASYNC(cuMemAllocAsync_ptsz, (CUdeviceptr * at, size_t bytes, CUstream stream), at, bytes,
            stream)
ALLOC_ASYNC(cuMemAllocFromPoolAsync,
            (CUdeviceptr * at, size_t bytes, CUmemoryPool pool, CUstream stream), at, bytes, pool,
            stream)
ALLOC_ASYNC(cuMemAllocFromPoolAsync_ptsz,
            (CUdeviceptr * at, size_t bytes, CUmemoryPool pool, CUstream stream), at, bytes, pool,
            stream)

/* A stream may free what was allocated plainly. */
static CUresult free_async(CUdeviceptr at, CUstream stream,
                           CUresult (*next)(CUdeviceptr, CUstream))
{
    bool mine = false;
    size_t asked;
    int status = 0;
    uint64_t begin = log_now_ns();
    CUresult code = CUDA_SUCCESS;
    /* In a capture it would be a node of the graph, which plain memory can't have. */
    bool captured = MANAGES() && capturing() &&
                    NEXT(cuStreamIsCapturing)(stream, &status) == CUDA_SUCCESS && status != 0;
    if (MANAGES() && !captured)
        code = free_block(at, &mine, &asked);
    if (!mine)
        code = next(at, stream);
    log_free(KIND_ASYNC, code, at, stream, begin);
    return code;
}

CUresult cuMemFreeAsync(CUdeviceptr at, CUstream stream)
{
    if (PASSES())
        return NEXT(cuMemFreeAsync)(at, stream);
    ENTER();
    return free_async(at, stream, NEXT(cuMemFreeAsync));
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr at, CUstream stream)
{
    if (PASSES())
        return NEXT(cuMemFreeAsync_ptsz)(at, stream);
    ENTER();
    return free_async(at, stream, NEXT(cuMemFreeAsync_ptsz));
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const void *props)
{
    CUresult code = NEXT(cuMemPoolCreate)(pool, props);
    if (!PASSES() && MANAGES() && code == CUDA_SUCCESS)
        note_pool(*pool, true);
    return code;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
    if (!PASSES() && MANAGES())
        note_pool(pool, false);
    return NEXT(cuMemPoolDestroy)(pool);
}

/* The program's own virtual memory (PyTorch's expandable segments, NCCL) */

CUresult cuMemCreate(CUmemHandle *handle, size_t bytes, const MemProp *prop,
                     unsigned long long flags)
{
    if (PASSES())
        return NEXT(cuMemCreate)(handle, bytes, prop, flags);
    ENTER();
    uint64_t begin = log_now_ns();
    bool on_device = prop != NULL && prop->location.type == LOCATION_DEVICE;
    CUresult code = NEXT(cuMemCreate)(handle, bytes, prop, flags);
    if (on_device && gave_up_memory(code, prop->location.id))
        code = NEXT(cuMemCreate)(handle, bytes, prop, flags);
    if (on_device)
        log_malloc(KIND_VMM, code, handle, bytes, NULL, prop->location.id, OWN_DEVICE, begin);
    return code;
}

CUresult cuMemRelease(CUmemHandle handle)
{
    if (PASSES())
        return NEXT(cuMemRelease)(handle);
    ENTER();
    uint64_t begin = log_now_ns();
    CUresult code = NEXT(cuMemRelease)(handle);
    log_free(KIND_VMM, code, handle, NULL, begin);
    return code;
}

/* A chunk lives while it has a handle or is mapped. */
static void log_chunk(enum event_op op, CUdeviceptr at, size_t bytes, CUmemHandle handle,
                      uint64_t time_ns)
{
    if (log_wanted())
        log_event((struct event){.time_ns = time_ns, .op = (uint16_t)op, .kind = KIND_VMM,
                                 .address = at, .bytes = bytes, .other = handle});
}

CUresult cuMemMap(CUdeviceptr at, size_t bytes, size_t offset, CUmemHandle handle,
                  unsigned long long flags)
{
    if (PASSES())
        return NEXT(cuMemMap)(at, bytes, offset, handle, flags);
    ENTER();
    CUresult code = NEXT(cuMemMap)(at, bytes, offset, handle, flags);
    if (code == CUDA_SUCCESS)
        log_chunk(OP_MAP, at, bytes, handle, log_now_ns());
    return code;
}

CUresult cuMemUnmap(CUdeviceptr at, size_t bytes)
{
    if (PASSES())
        return NEXT(cuMemUnmap)(at, bytes);
    ENTER();
    uint64_t begin = log_now_ns(); /* another thread may map a chunk there as soon as it is done */
    CUresult code = NEXT(cuMemUnmap)(at, bytes);
    if (code == CUDA_SUCCESS)
        log_chunk(OP_UNMAP, at, bytes, 0, begin);
    return code;
}

/* Questions about memory */

CUresult cuMemGetInfo_v2(size_t *available, size_t *total)
{
    if (PASSES() || !MANAGES() || available == NULL)
        return NEXT(cuMemGetInfo_v2)(available, total);
    ENTER();
    CUdevice device;
    bool known = NEXT(cuCtxGetDevice)(&device) == CUDA_SUCCESS && device >= 0 &&
                 device < MOST_DEVICES;
    if (known && !capturing()) /* the driver's frees would have waited; so slabs are whole again */
        settle_device(&devices[device]);
    CUresult code = NEXT(cuMemGetInfo_v2)(available, total);
    if (known && code == CUDA_SUCCESS)
        *available += unused_bytes(device);
    return code;
}

/* No address that the driver ever gave: what it says of this it says of what was freed. */
static const CUdeviceptr NOWHERE = 1;

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr at)
{
    struct found found = {0};
    if (!PASSES() && MANAGES())
        found = find_block(at);
    if (!found.within)
        return NEXT(cuMemGetAddressRange_v2)(base, bytes, at);
    if (!found.live)
        return NEXT(cuMemGetAddressRange_v2)(base, bytes, NOWHERE);
    if (base != NULL)
        *base = found.at;
    if (bytes != NULL)
        *bytes = found.bytes;
    return CUDA_SUCCESS;
}

/* CUpointer_attribute: those that differ between plain memory and what lies under a block. */
static bool answer_attribute(const struct found *found, int attribute, void *data)
{
    switch (attribute) {
    case 1: *(CUcontext *)data = found->context; return true; /* CONTEXT */
    case 2: *(unsigned *)data = 2; return true;               /* MEMORY_TYPE: device */
    case 7: *(uint64_t *)data = (uint64_t)1 << 48 | found->id; return true; /* BUFFER_ID */
    case 8: *(unsigned *)data = 0; return true;               /* IS_MANAGED */
    case 9: *(int *)data = found->device; return true;        /* DEVICE_ORDINAL */
    case 10: *(bool *)data = false; return true;              /* IS_LEGACY_CUDA_IPC_CAPABLE */
    case 11: *(CUdeviceptr *)data = found->at; return true;   /* RANGE_START_ADDR */
    case 12: *(size_t *)data = found->bytes; return true;     /* RANGE_SIZE */
    case 13: *(bool *)data = true; return true;               /* MAPPED */
    case 14: *(uint64_t *)data = 0; return true;              /* ALLOWED_HANDLE_TYPES */
    case 16: *(unsigned *)data = 3; return true;              /* ACCESS_FLAGS: read and write */
    case 17: *(void **)data = NULL; return true;              /* MEMPOOL_HANDLE */
    default: return false;
    }
}

CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr at)
{
    struct found found = {0};
    if (!PASSES() && MANAGES())
        found = find_block(at);
    if (!found.within)
        return NEXT(cuPointerGetAttribute)(data, attribute, at);
    if (!found.live)
        return NEXT(cuPointerGetAttribute)(data, attribute, NOWHERE);
    if (attribute == 4) /* HOST_POINTER: device memory has none, a block in host memory neither */
        return CUDA_ERROR_INVALID_VALUE;
    if (data != NULL && answer_attribute(&found, attribute, data))
        return CUDA_SUCCESS;
    return NEXT(cuPointerGetAttribute)(data, attribute, at);
}

CUresult cuPointerGetAttributes(unsigned count, int *attributes, void **data, CUdeviceptr at)
{
    struct found found = {0};
    if (!PASSES() && MANAGES())
        found = find_block(at);
    if (!found.within)
        return NEXT(cuPointerGetAttributes)(count, attributes, data, at);
    CUresult code =
        NEXT(cuPointerGetAttributes)(count, attributes, data, found.live ? at : NOWHERE);
    if (code != CUDA_SUCCESS || !found.live)
        return code;
    for (unsigned i = 0; i < count; i++) {
        if (attributes[i] == 4)
            *(void **)data[i] = NULL;
        else
            answer_attribute(&found, attributes[i], data[i]);
    }
    return code;
}

/* Refused */

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr at)
{
    static int said;
    if (PASSES() || !MANAGES() || !find_block(at).within)
        return NEXT(cuIpcGetMemHandle)(handle, at);
    say_once(&said, "cudaIpcGetMemHandle is refused: memory that the library manages can't be "
                    "shared this way. Run without it, or with --mode record; PyTorch shares "
                    "tensors with PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True");
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuMemRetainAllocationHandle(CUmemHandle *handle, void *at)
{
    if (!PASSES() && MANAGES() && find_block((CUdeviceptr)(uintptr_t)at).within)
        return CUDA_ERROR_INVALID_VALUE; /* as the driver says of plain memory */
    CUresult code = NEXT(cuMemRetainAllocationHandle)(handle, at);
    if (!PASSES() && code == CUDA_SUCCESS)
        log_chunk(OP_RETAIN, *handle, 0, 0, log_now_ns());
    return code;
}

/* Contexts and peers */

static void this_went(CUcontext context)
{
    log_context_end(context);
    if (MANAGES())
        context_went(context);
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    CUresult code = NEXT(cuCtxDestroy_v2)(context);
    if (!PASSES() && code == CUDA_SUCCESS) {
        ENTER();
        this_went(context);
    }
    return code;
}

static CUresult primary_goes(CUdevice device, CUresult (*next)(CUdevice))
{
    if (PASSES())
        return next(device);
    ENTER();
    CUcontext context = primary_context(device);
    CUresult code = next(device);
    unsigned flags;
    int active = 0;
    if (code == CUDA_SUCCESS && context != NULL &&
        (next != NEXT(cuDevicePrimaryCtxRelease_v2) ||
         (NEXT(cuDevicePrimaryCtxGetState)(device, &flags, &active) == CUDA_SUCCESS && !active)))
        this_went(context);
    return code;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    return primary_goes(device, NEXT(cuDevicePrimaryCtxRelease_v2));
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    return primary_goes(device, NEXT(cuDevicePrimaryCtxReset_v2));
}

static int device_of_context(CUcontext context)
{
    CUdevice device = -1;
    CUcontext popped;
    if (NEXT(cuCtxPushCurrent_v2)(context) != CUDA_SUCCESS)
        return -1;
    if (NEXT(cuCtxGetDevice)(&device) != CUDA_SUCCESS)
        device = -1;
    NEXT(cuCtxPopCurrent_v2)(&popped);
    return device;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags)
{
    CUresult code = NEXT(cuCtxEnablePeerAccess)(peer, flags);
    if (PASSES() || !MANAGES() || code != CUDA_SUCCESS)
        return code;
    ENTER();
    int owner = device_of_context(peer), reader = device_now();
    if (owner < 0 || owner >= MOST_DEVICES || owner == reader)
        return code;
    return open_to_peer(&devices[owner], reader);
}

CUresult cuCtxDisablePeerAccess(CUcontext peer)
{
    CUresult code = NEXT(cuCtxDisablePeerAccess)(peer);
    if (PASSES() || !MANAGES() || code != CUDA_SUCCESS)
        return code;
    ENTER();
    int owner = device_of_context(peer);
    if (owner >= 0 && owner < MOST_DEVICES) /* what is mapped keeps it: it harms nobody */
        __atomic_fetch_and(&devices[owner].peers, ~((uint64_t)1 << device_now()), __ATOMIC_ACQ_REL);
    return code;
}

/* Streams */

static CUresult stream_made(CUresult code, const CUstream *stream, unsigned flags)
{
    if (!PASSES() && MANAGES() && code == CUDA_SUCCESS && (flags & STREAM_NON_BLOCKING) != 0) {
        ENTER();
        stream_was_made(*stream);
    }
    return code;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    return stream_made(NEXT(cuStreamCreate)(stream, flags), stream, flags);
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority)
{
    return stream_made(NEXT(cuStreamCreateWithPriority)(stream, flags, priority), stream, flags);
}

CUresult cuGreenCtxStreamCreate(CUstream *stream, void *green, unsigned flags, int priority)
{
    return stream_made(NEXT(cuGreenCtxStreamCreate)(stream, green, flags, priority), stream, flags);
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
    if (!PASSES() && MANAGES()) {
        ENTER();
        stream_will_go(stream);
    }
    return NEXT(cuStreamDestroy_v2)(stream);
}

#define BEGIN_CAPTURE(name, parameters, ...)                                                       \
    CUresult name parameters                                                                       \
    {                                                                                              \
        if (PASSES() || !MANAGES())                                                                \
            return NEXT(name)(__VA_ARGS__);                                                        \
        ENTER();                                                                                   \
        capture_begins();                                                                          \
        CUresult code = NEXT(name)(__VA_ARGS__);                                                   \
        capture_began(stream, code == CUDA_SUCCESS);                                               \
        return code;                                                                               \
    }

BEGIN_CAPTURE(cuStreamBeginCapture_v2, (CUstream stream, int mode), stream, mode)
BEGIN_CAPTURE(cuStreamBeginCapture_v2_ptsz, (CUstream stream, int mode), stream, mode)
BEGIN_CAPTURE(cuStreamBeginCaptureToGraph,
              (CUstream stream, CUgraph graph, const void *nodes, const void *edges, size_t count,
               int mode),
              stream, graph, nodes, edges, count, mode)
BEGIN_CAPTURE(cuStreamBeginCaptureToGraph_ptsz,
              (CUstream stream, CUgraph graph, const void *nodes, const void *edges, size_t count,
               int mode),
              stream, graph, nodes, edges, count, mode)

static CUresult end_capture(CUstream stream, CUresult code)
{
    if (!PASSES() && MANAGES()) {
        ENTER();
        capture_may_have_ended(stream);
    }
    return code;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    return end_capture(stream, NEXT(cuStreamEndCapture)(stream, graph));
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
    return end_capture(stream, NEXT(cuStreamEndCapture_ptsz)(stream, graph));
}
