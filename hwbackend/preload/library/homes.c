#include "homes.h"

#include "blocks.h"
#include "log.h"
#include "settings.h"
#include "spans.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_HOMES = 256, MOST_CAPTURES = 256, MOST_POOLS = 64 };

/* Guarded by the books' lock. */
static struct home *homes[MOST_HOMES];
static size_t home_count;
static CUstream captured[MOST_CAPTURES];
static CUmemoryPool made_pools[MOST_POOLS];
static size_t pool_count;

static unsigned captures, fencing; /* atomic: captures going on, fences being recorded */
static bool strangers;             /* atomic: there are streams that no home could note */

void forget_homes(void)
{
    home_count = pool_count = 0;
    captures = fencing = 0;
    strangers = false;
    memset(captured, 0, sizeof captured);
}

/* Adds one to a growing array; false where there is no memory for it. */
static bool append(void *array, size_t *count, size_t *room, size_t size, const void *value)
{
    void *at;
    memcpy(&at, array, sizeof at);
    if (*count == *room) {
        size_t more = *room ? 2 * *room : 16;
        void *moved = realloc(at, more * size);
        if (moved == NULL)
            return false;
        memcpy(array, &moved, sizeof moved);
        at = moved;
        *room = more;
    }
    memcpy((char *)at + *count * size, value, size);
    ++*count;
    return true;
}

static void learn_device(struct device *device, int id)
{
    struct device found = {.id = id, .known = true};
    int value = 0;
    if (NEXT(cuDeviceGetAttribute)(&value, ATTRIBUTE_VMM_SUPPORTED, id) == CUDA_SUCCESS)
        found.managed = value != 0;
    if (NEXT(cuDeviceGetAttribute)(&value, ATTRIBUTE_RDMA_WITH_VMM_SUPPORTED, id) == CUDA_SUCCESS)
        found.rdma = value != 0;
    MemProp prop = {.type = 1, .location = {LOCATION_DEVICE, id}};
    if (NEXT(cuMemGetAllocationGranularity)(&found.granularity, &prop, 0) != CUDA_SUCCESS ||
        NEXT(cuDeviceTotalMem_v2)(&found.total_bytes, id) != CUDA_SUCCESS)
        found.managed = false;
    int node = -1, supported = 0;
    size_t host_granularity = 0;
    found.node = NEXT(cuDeviceGetAttribute)(&node, ATTRIBUTE_HOST_NUMA_ID, id) == CUDA_SUCCESS &&
                         node > 0 ? node : 0;
    prop.location = (MemLocation){LOCATION_HOST_NUMA, found.node};
    found.spills_to_host =
        found.node < MOST_NODES &&
        NEXT(cuDeviceGetAttribute)(&supported, ATTRIBUTE_HOST_NUMA_VMM_SUPPORTED, id) ==
            CUDA_SUCCESS && supported != 0 &&
        NEXT(cuMemGetAllocationGranularity)(&host_granularity, &prop, 0) == CUDA_SUCCESS &&
        host_granularity > 0 && found.granularity % host_granularity == 0;
    found.pool_limit = settings()->pool_limited ? settings()->pool_bytes : found.total_bytes / 4;
    lock_books();
    if (!device->known) {
        found.peers = __atomic_load_n(&device->peers, __ATOMIC_ACQUIRE);
        size_t limit = found.pool_limit;
        *device = found;
        __atomic_store_n(&device->pool_limit, limit, __ATOMIC_RELEASE);
    }
    unlock_books();
}

struct home *current_home(void)
{
    CUcontext context = NULL;
    if (NEXT(cuCtxGetCurrent)(&context) != CUDA_SUCCESS || context == NULL)
        return NULL;
    struct home *found = NULL;
    lock_books();
    for (size_t i = 0; i < home_count && found == NULL; i++)
        if (homes[i]->context == context && !homes[i]->gone)
            found = homes[i];
    unlock_books();
    CUdevice id;
    if (found != NULL || NEXT(cuCtxGetDevice)(&id) != CUDA_SUCCESS || id < 0 ||
        id >= MOST_DEVICES)
        return found;
    lock_books();
    bool known = devices[id].known;
    unlock_books();
    if (!known)
        learn_device(&devices[id], id);
    struct home *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    *made = (struct home){.context = context, .device = &devices[id]};
    lock_books();
    for (size_t i = 0; i < home_count && found == NULL; i++) /* another thread was first */
        if (homes[i]->context == context && !homes[i]->gone)
            found = homes[i];
    if (found == NULL && home_count < MOST_HOMES) {
        homes[home_count++] = made;
        found = made;
        made = NULL;
    }
    unlock_books();
    free(made);
    return found;
}

/* Captures */

bool capturing(void) { return __atomic_load_n(&captures, __ATOMIC_SEQ_CST) > 0; }

void capture_begins(void)
{
    __atomic_fetch_add(&captures, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&fencing, __ATOMIC_SEQ_CST) > 0)
        sched_yield(); /* a few records, none of which waits for the device */
}

void capture_began(CUstream stream, bool succeeded)
{
    bool noted = false;
    lock_books();
    for (size_t i = 0; i < MOST_CAPTURES && succeeded && !noted; i++)
        if (captured[i] == NULL) {
            captured[i] = stream;
            noted = true;
        }
    unlock_books();
    if (!noted)
        __atomic_fetch_sub(&captures, 1, __ATOMIC_SEQ_CST);
}

void capture_may_have_ended(CUstream stream)
{
    int status = 0;
    if (!capturing() ||
        (NEXT(cuStreamIsCapturing)(stream, &status) == CUDA_SUCCESS && status != 0))
        return;
    lock_books();
    for (size_t i = 0; i < MOST_CAPTURES; i++)
        if (captured[i] == stream) {
            captured[i] = NULL;
            __atomic_fetch_sub(&captures, 1, __ATOMIC_SEQ_CST);
            break;
        }
    unlock_books();
}

int enter_relaxed(void)
{
    int mode = CAPTURE_MODE_RELAXED;
    if (!capturing() || NEXT(cuThreadExchangeStreamCaptureMode)(&mode) != CUDA_SUCCESS)
        return -1;
    return mode;
}

void leave_relaxed(int before)
{
    if (before >= 0)
        NEXT(cuThreadExchangeStreamCaptureMode)(&before);
}

/* Events */

static CUresult take_event(struct home *home, CUevent *event)
{
    lock_books();
    bool found = home->event_count > 0;
    if (found)
        *event = home->events[--home->event_count];
    unlock_books();
    return found ? CUDA_SUCCESS : NEXT(cuEventCreate)(event, EVENT_DISABLE_TIMING);
}

static void put_event(struct home *home, CUevent event)
{
    lock_books();
    bool kept = append(&home->events, &home->event_count, &home->event_room, sizeof event, &event);
    unlock_books();
    if (!kept)
        NEXT(cuEventDestroy_v2)(event);
}

static CUresult record(struct home *home, CUevent *event, CUstream stream)
{
    CUresult code = take_event(home, event);
    if (code != CUDA_SUCCESS)
        return code;
    code = NEXT(cuEventRecord)(*event, stream);
    if (code != CUDA_SUCCESS)
        put_event(home, *event);
    return code;
}

/* Streams */

void stream_was_made(CUstream stream)
{
    struct home *home = current_home();
    lock_books();
    bool noted = home != NULL && append(&home->streams, &home->stream_count, &home->stream_room,
                                        sizeof stream, &stream);
    unlock_books();
    if (!noted)
        __atomic_store_n(&strangers, true, __ATOMIC_SEQ_CST);
}

void stream_will_go(CUstream stream)
{
    struct home *home = NULL;
    capture_may_have_ended(stream);
    lock_books();
    for (size_t i = 0; i < home_count && home == NULL; i++)
        for (size_t j = 0; j < homes[i]->stream_count; j++)
            if (homes[i]->streams[j] == stream) {
                home = homes[i];
                home->streams[j] = home->streams[--home->stream_count];
                break;
            }
    unlock_books();
    if (home == NULL)
        return; /* one that the default stream waits for, or a stranger */
    /* Its work goes on after it is gone, and fences to come must know. */
    CUevent event;
    int mode = enter_relaxed();
    if (record(home, &event, stream) != CUDA_SUCCESS) {
        __atomic_store_n(&strangers, true, __ATOMIC_SEQ_CST);
    } else {
        CUevent done[16];
        size_t count = 0;
        lock_books();
        bool kept = append(&home->orphans, &home->orphan_count, &home->orphan_room, sizeof event,
                           &event);
        while (home->orphan_count > 16 && count < 16)
            done[count++] = home->orphans[--home->orphan_count];
        unlock_books();
        if (!kept)
            NEXT(cuEventSynchronize)(event);
        for (size_t i = 0; i < count; i++) {
            if (NEXT(cuEventQuery)(done[i]) != CUDA_ERROR_NOT_READY) {
                put_event(home, done[i]);
                continue;
            }
            lock_books();
            append(&home->orphans, &home->orphan_count, &home->orphan_room, sizeof event, &done[i]);
            unlock_books();
        }
    }
    leave_relaxed(mode);
}

/* Fences */

static void put_pending_back(struct home *home, struct block *list, size_t count, size_t bytes)
{
    lock_books();
    struct block **end = &list;
    while (*end != NULL)
        end = &(*end)->next;
    *end = home->pending;
    home->pending = list;
    home->pending_count += count;
    home->pending_bytes += bytes;
    unlock_books();
}

/* An event on every stream of `streams` and on the default one; those of `fence` come on top. */
static CUresult record_all(struct home *home, struct fence *fence, const CUstream *streams,
                           size_t count)
{
    if (__atomic_load_n(&strangers, __ATOMIC_SEQ_CST))
        return NEXT(cuCtxSynchronize)();
    for (size_t i = 0; i <= count; i++) {
        CUevent event;
        CUresult code = record(home, &event, i == 0 ? NULL : streams[i - 1]);
        if (code != CUDA_SUCCESS) {
            /* A stream went meanwhile, say: wait for all there is instead. */
            return NEXT(cuCtxSynchronize)();
        }
        fence->events[fence->count++] = event;
    }
    return CUDA_SUCCESS;
}

CUresult make_fence(struct home *home)
{
    __atomic_fetch_add(&fencing, 1, __ATOMIC_SEQ_CST);
    if (capturing() || home->gone) {
        __atomic_fetch_sub(&fencing, 1, __ATOMIC_SEQ_CST);
        return CUDA_SUCCESS;
    }
    struct fence *fence = calloc(1, sizeof *fence);
    CUstream *streams = NULL;
    struct block *list = NULL;
    size_t streams_there = 0, count = 0, bytes = 0;
    lock_books();
    if (fence != NULL && home->pending != NULL) {
        streams_there = home->stream_count;
        size_t most = 1 + streams_there + home->orphan_count;
        fence->events = malloc(most * sizeof *fence->events);
        streams = malloc((streams_there + 1) * sizeof *streams);
        if (fence->events != NULL && streams != NULL) {
            list = home->pending;
            count = home->pending_count;
            bytes = home->pending_bytes;
            home->pending = NULL;
            home->pending_count = home->pending_bytes = 0;
            if (streams_there > 0)
                memcpy(streams, home->streams, streams_there * sizeof *streams);
            while (home->orphan_count > 0)
                fence->events[fence->count++] = home->orphans[--home->orphan_count];
        }
    }
    unlock_books();
    CUresult code = CUDA_SUCCESS;
    if (list != NULL) {
        CUcontext popped;
        code = NEXT(cuCtxPushCurrent_v2)(home->context);
        if (code == CUDA_SUCCESS) {
            code = record_all(home, fence, streams, streams_there);
            NEXT(cuCtxPopCurrent_v2)(&popped);
        }
    }
    __atomic_fetch_sub(&fencing, 1, __ATOMIC_SEQ_CST);
    free(streams);
    if (list != NULL && code == CUDA_SUCCESS) {
        fence->blocks = list;
        lock_books();
        if (home->last == NULL)
            home->first = fence;
        else
            home->last->next = fence;
        home->last = fence;
        unlock_books();
        return CUDA_SUCCESS;
    }
    if (list != NULL) {
        lock_books(); /* orphans' events must stand in a fence some time */
        for (size_t i = 0; i < fence->count; i++)
            append(&home->orphans, &home->orphan_count, &home->orphan_room, sizeof(CUevent),
                   &fence->events[i]);
        unlock_books();
        put_pending_back(home, list, count, bytes);
    }
    if (fence != NULL)
        free(fence->events);
    free(fence);
    return code;
}

static bool is_passed(const struct fence *fence, bool wait)
{
    for (size_t i = 0; i < fence->count; i++) {
        CUresult code = wait ? NEXT(cuEventSynchronize)(fence->events[i])
                             : NEXT(cuEventQuery)(fence->events[i]);
        /* A device that is lost reads nothing any more, so any other error passes too. */
        if (code == CUDA_ERROR_NOT_READY)
            return false;
    }
    return true;
}

static struct fence *take_first(struct home *home)
{
    lock_books();
    struct fence *fence = home->first;
    if (fence != NULL) {
        home->first = fence->next;
        if (home->first == NULL)
            home->last = NULL;
        fence->next = NULL;
        home->settling++;
    }
    unlock_books();
    return fence;
}

static bool pass_first(struct home *home, bool wait)
{
    struct fence *fence = take_first(home);
    if (fence == NULL)
        return false;
    uint64_t begin = log_now_ns();
    bool passed = is_passed(fence, wait);
    struct span *leaving = NULL;
    lock_books();
    if (passed) {
        leaving = take_back(fence->blocks);
        for (size_t i = 0; i < fence->count && !home->gone; i++)
            append(&home->events, &home->event_count, &home->event_room, sizeof(CUevent),
                   &fence->events[i]);
    } else {
        fence->next = home->first;
        home->first = fence;
        if (home->last == NULL)
            home->last = fence;
    }
    unlock_books();
    if (wait && passed) {
        uint64_t end = log_now_ns();
        log_event((struct event){.time_ns = end, .duration_ns = (uint32_t)(end - begin),
                                 .op = OP_WAIT, .device = (uint16_t)home->device->id});
    }
    dismantle_list(leaving);
    lock_books();
    home->settling--;
    unlock_books();
    if (passed) {
        free(fence->events);
        free(fence);
    }
    return passed;
}

bool pass_fences(struct home *home, bool wait)
{
    bool any = false;
    while (pass_first(home, wait))
        any = true;
    return any;
}

bool settle_device(struct device *device)
{
    bool any = false;
    for (size_t i = 0;; i++) {
        struct home *home = NULL;
        lock_books();
        if (i < home_count)
            home = homes[i];
        unlock_books();
        if (home == NULL)
            break;
        if (home->device != device)
            continue;
        make_fence(home);
        any |= pass_fences(home, true);
        for (bool busy = true; busy;) { /* what other threads wait for comes back by them */
            lock_books();
            busy = home->settling > 0;
            unlock_books();
            if (busy) {
                any = true;
                sched_yield();
            }
        }
    }
    return any;
}

/* Contexts */

static void home_goes(struct home *home)
{
    lock_books();
    home->gone = true; /* its events went with it */
    struct block *list = home->pending;
    home->pending = NULL;
    home->pending_count = home->pending_bytes = 0;
    struct fence *fences = home->first;
    home->first = home->last = NULL;
    home->event_count = home->orphan_count = home->stream_count = 0;
    struct span *leaving = take_back(list);
    unlock_books();
    dismantle_list(leaving);
    for (struct fence *next; fences != NULL; fences = next) {
        next = fences->next;
        lock_books();
        leaving = take_back(fences->blocks);
        unlock_books();
        dismantle_list(leaving);
        free(fences->events);
        free(fences);
    }
    free_blocks_of(home);
}

void context_went(CUcontext context)
{
    struct home *home = NULL;
    lock_books();
    for (size_t i = 0; i < home_count && home == NULL; i++)
        if (homes[i]->context == context && !homes[i]->gone)
            home = homes[i];
    unlock_books();
    if (home != NULL)
        home_goes(home);
}

CUcontext primary_context(CUdevice device)
{
    unsigned flags;
    int active = 0;
    CUcontext context = NULL;
    if (NEXT(cuDevicePrimaryCtxGetState)(device, &flags, &active) != CUDA_SUCCESS || !active ||
        NEXT(cuDevicePrimaryCtxRetain)(&context, device) != CUDA_SUCCESS)
        return NULL;
    NEXT(cuDevicePrimaryCtxRelease_v2)(device); /* only its handle was wanted */
    return context;
}

/* The driver's pools */

void note_pool(CUmemoryPool pool, bool made)
{
    lock_books();
    if (made && pool_count < MOST_POOLS)
        made_pools[pool_count++] = pool;
    for (size_t i = 0; i < pool_count && !made; i++)
        if (made_pools[i] == pool)
            made_pools[i--] = made_pools[--pool_count];
    unlock_books();
}

void trim_driver_pools(CUdevice device)
{
    CUmemoryPool trimmed[MOST_POOLS + 1];
    size_t count = 0;
    lock_books();
    for (; count < pool_count; count++)
        trimmed[count] = made_pools[count];
    unlock_books();
    if (NEXT(cuDeviceGetDefaultMemPool)(&trimmed[count], device) == CUDA_SUCCESS)
        count++;
    for (size_t i = 0; i < count; i++)
        NEXT(cuMemPoolTrimTo)(trimmed[i], 0);
}
