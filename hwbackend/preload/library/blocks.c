#include "blocks.h"

#include "chunks.h"
#include "homes.h"
#include "log.h"
#include "settings.h"
#include "spans.h"

#include <sched.h>
#include <stdlib.h>

enum { ALIGNMENT = 256 };
#define MOST_SLABBED ((size_t)16 << 20)
#define MOST_SLAB ((size_t)32 << 20)
/* So many blocks, or bytes, are freed before a fence is made for them. */
enum { FENCE_BLOCKS = 32 };
#define FENCE_BYTES ((size_t)64 << 20)

static uint64_t last_id; /* books locked */

/* Small blocks share slabs, and so do those of which whole granules would leave much unused. */
static bool is_slabbed(const struct device *device, size_t bytes)
{
    size_t room = rounded(bytes, device->granularity);
    return bytes <= device->granularity / 2 ||
           (bytes <= MOST_SLABBED && room - bytes > room / 8);
}

/* A new slab: larger where there are many already, so that their number stays small. */
static size_t slab_bytes(const struct device *device, size_t bytes)
{
    size_t wanted = rounded(device->slab_bytes / 4, device->granularity);
    if (wanted > MOST_SLAB)
        wanted = MOST_SLAB;
    size_t least = rounded(bytes, device->granularity);
    return wanted > least ? wanted : least;
}

/* From here to "driver calls" all is done with the books locked. */

static void set_free(struct block *block)
{
    block->state = FREE;
    struct device *device = &devices[block->span->device];
    tree_put(&device->free_blocks[block->span->placing], &block->by_room, block->room, block->at);
}

static void set_live(struct block *block, struct home *home, size_t asked)
{
    block->state = LIVE;
    block->home = home;
    block->asked = asked;
    block->id = ++last_id;
    tree_put(&blocks, &block->by_address, block->at, 0);
}

/* Fill a span with one block, free in a slab. */
static struct block *block_over(struct span *span)
{
    struct block *block = calloc(1, sizeof *block);
    if (block != NULL)
        *block = (struct block){.at = span->base, .room = span->bytes, .span = span};
    return block;
}

/* The smallest free block of a slab that holds so many bytes; what is left of it stays free. */
static struct block *from_slabs(struct home *home, size_t bytes, enum placing placing)
{
    struct tree *free_blocks = &home->device->free_blocks[placing];
    size_t room = rounded(bytes, ALIGNMENT);
    struct node *node = tree_at_least(free_blocks, room, 0);
    if (node == NULL)
        return NULL;
    struct block *block = HOLDER(node, struct block, by_room);
    struct block *rest = block->room > room ? calloc(1, sizeof *rest) : NULL;
    if (block->room > room && rest == NULL)
        return NULL;
    tree_take(free_blocks, node);
    if (rest != NULL) {
        *rest = (struct block){.at = block->at + room, .room = block->room - room,
                               .span = block->span, .before = block, .after = block->after};
        if (block->after != NULL)
            block->after->before = rest;
        block->after = rest;
        block->room = room;
        set_free(rest);
    }
    set_live(block, home, bytes);
    return block;
}

static void merge_with_after(struct block *block)
{
    struct block *after = block->after;
    block->room += after->room;
    block->after = after->after;
    if (block->after != NULL)
        block->after->before = block;
    free(after);
}

/* A block of a slab is free: joined with its neighbours; the span where that is all of it. */
static struct span *return_to_slab(struct block *block)
{
    struct tree *free_blocks = &devices[block->span->device].free_blocks[block->span->placing];
    if (block->after != NULL && block->after->state == FREE) {
        tree_take(free_blocks, &block->after->by_room);
        merge_with_after(block);
    }
    if (block->before != NULL && block->before->state == FREE) {
        block = block->before;
        tree_take(free_blocks, &block->by_room);
        merge_with_after(block);
    }
    if (block->before != NULL || block->after != NULL) {
        set_free(block);
        return NULL;
    }
    struct span *span = block->span;
    free(block);
    return span;
}

struct span *take_back(struct block *list)
{
    struct span *leaving = NULL;
    for (struct block *next; list != NULL; list = next) {
        next = list->next;
        struct span *span = list->span;
        struct device *device = &devices[span->device];
        device->pending_bytes -= list->room;
        device->returns++;
        if (span->slab) {
            span = return_to_slab(list);
            if (span == NULL)
                continue;
            device->slab_bytes -= span->bytes;
            span->slab = false;
        } else {
            free(list);
        }
        if (!keep_span(span)) {
            span->next = leaving;
            leaving = span;
        }
    }
    return leaving;
}

static struct block *live_block_of(CUdeviceptr at)
{
    struct node *node = tree_at_most(&blocks, at, 0);
    struct block *block = node == NULL ? NULL : HOLDER(node, struct block, by_address);
    return block != NULL && at - block->at < (block->asked ? block->asked : 1) ? block : NULL;
}

static bool is_within(CUdeviceptr at)
{
    struct node *node = tree_at_most(&spans, at, 0);
    return node != NULL && at - HOLDER(node, struct span, by_base)->base <
                               HOLDER(node, struct span, by_base)->bytes;
}

/* Takes a block out of the program's hands. */
static void set_pending(struct block *block)
{
    tree_take(&blocks, &block->by_address);
    block->state = PENDING;
    block->next = block->home->pending;
    block->home->pending = block;
    block->home->pending_count++;
    block->home->pending_bytes += block->room;
    devices[block->span->device].pending_bytes += block->room;
}

/* Driver calls */

/* One that is there: in a slab, or a span of just this size that is mapped and unused. */
static struct block *take_ready(struct home *home, size_t bytes, enum placing placing)
{
    struct device *device = home->device;
    struct block *block = NULL;
    lock_books();
    if (is_slabbed(device, bytes)) {
        block = from_slabs(home, bytes, placing);
    } else if (placing == OWN_DEVICE) {
        struct span *span = reuse_span(device, rounded(bytes, device->granularity));
        block = span == NULL ? NULL : block_over(span);
        if (block != NULL)
            set_live(block, home, bytes);
        else if (span != NULL)
            keep_span(span);
    }
    unlock_books();
    return block;
}

static CUresult take_new(struct home *home, struct block **made, size_t bytes, size_t reserved,
                         struct spot spot, bool all)
{
    struct device *device = home->device;
    bool slabbed = is_slabbed(device, bytes) && reserved == 0;
    lock_books();
    size_t room = slabbed ? slab_bytes(device, bytes) : rounded(bytes, device->granularity);
    unlock_books();
    if (all && slabbed)
        room = rounded(bytes, device->granularity);
    reserved = reserved == 0 ? room : rounded(reserved, device->granularity);
    struct span *span = NULL;
    lock_books();
    if (slabbed && spot.placing == OWN_DEVICE)
        span = reuse_span(device, room);
    unlock_books();
    CUresult code = span != NULL ? CUDA_SUCCESS
                                 : make_span(&span, device, spot, room, reserved, all);
    if (code != CUDA_SUCCESS)
        return code;
    lock_books();
    struct block *block = block_over(span);
    if (block != NULL && slabbed) {
        span->slab = true;
        device->slab_bytes += span->bytes;
        set_free(block);
        block = from_slabs(home, bytes, spot.placing);
    } else if (block != NULL) {
        set_live(block, home, bytes);
    }
    unlock_books();
    if (block == NULL && !slabbed)
        dismantle(span);
    *made = block;
    return block == NULL ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

bool trim_device(struct device *device)
{
    bool any = dismantle_kept(device) > 0;
    return trim_pool(place_of_device(device), 0) > 0 || any;
}

/* Of its own device, with everything given up for it that the program does not have. */
static CUresult take_at_all_costs(struct home *home, struct block **made, size_t bytes,
                                  size_t reserved)
{
    struct device *device = home->device;
    struct spot spot = {OWN_DEVICE, place_of_device(device)};
    CUresult code = CUDA_ERROR_OUT_OF_MEMORY;
    for (int round = 0; round < 100 && code == CUDA_ERROR_OUT_OF_MEMORY; round++) {
        lock_books();
        uint64_t returns = device->returns;
        unlock_books();
        settle_device(device);
        *made = reserved == 0 ? take_ready(home, bytes, OWN_DEVICE) : NULL;
        if (*made != NULL)
            return CUDA_SUCCESS;
        code = take_new(home, made, bytes, reserved, spot, true);
        if (code == CUDA_ERROR_OUT_OF_MEMORY) { /* mapped and unused, as chunks of any size */
            dismantle_kept(device);
            code = take_new(home, made, bytes, reserved, spot, true);
        }
        if (code == CUDA_ERROR_OUT_OF_MEMORY) { /* chunks that are too large go to the driver */
            trim_pool(place_of_device(device), 0);
            trim_driver_pools(device->id);
            code = take_new(home, made, bytes, reserved, spot, true);
        }
        lock_books();
        bool came_back = device->returns != returns;
        unlock_books();
        bool others = __atomic_load_n(&device->gathering, __ATOMIC_ACQUIRE) > 0;
        if (!came_back && !others)
            break; /* there is no more, and nobody holds any that may come back */
        if (others)
            sched_yield();
    }
    return code;
}

static CUresult take_elsewhere(struct home *home, struct block **made, size_t bytes,
                               size_t reserved)
{
    struct device *device = home->device;
    int count = 0, can;
    CUresult code = CUDA_ERROR_OUT_OF_MEMORY;
    *made = reserved == 0 ? take_ready(home, bytes, ON_PEER) : NULL;
    if (*made == NULL && reserved == 0)
        *made = take_ready(home, bytes, ON_HOST);
    if (*made != NULL)
        return CUDA_SUCCESS;
    if (settings()->peer && NEXT(cuDeviceGetCount)(&count) == CUDA_SUCCESS)
        for (int peer = 0; peer < count && peer < MOST_DEVICES; peer++) {
            if (peer == device->id ||
                NEXT(cuDeviceCanAccessPeer)(&can, device->id, peer) != CUDA_SUCCESS || !can)
                continue;
            code = take_new(home, made, bytes, reserved, (struct spot){ON_PEER, peer}, true);
            if (code == CUDA_SUCCESS)
                return code;
        }
    if (settings()->host && device->spills_to_host)
        code = take_new(home, made, bytes, reserved,
                        (struct spot){ON_HOST, place_of_node(device->node)}, true);
    return code;
}

CUresult take_block(struct home *home, CUdeviceptr *at, size_t bytes, size_t reserved,
                    enum placing *placing)
{
    struct device *device = home->device;
    struct block *block = NULL;
    CUresult code = CUDA_SUCCESS;
    *placing = OWN_DEVICE;
    if (bytes > SIZE_MAX / 2 || reserved > SIZE_MAX / 2)
        return CUDA_ERROR_OUT_OF_MEMORY;
    int mode = enter_relaxed();
    if (reserved == 0)
        block = take_ready(home, bytes, OWN_DEVICE);
    if (block == NULL && reserved == 0 && !capturing()) {
        if (make_fence(home) == CUDA_SUCCESS && pass_fences(home, false))
            block = take_ready(home, bytes, OWN_DEVICE);
        lock_books();
        bool much_waits = device->pending_bytes > device->total_bytes / 64;
        unlock_books();
        /* The driver's own free would have waited; so this is no worse, and memory stays bounded. */
        if (block == NULL && much_waits && pass_fences(home, true))
            block = take_ready(home, bytes, OWN_DEVICE);
    }
    if (block == NULL)
        code = take_new(home, &block, bytes, reserved,
                        (struct spot){OWN_DEVICE, place_of_device(device)}, false);
    if (code == CUDA_ERROR_OUT_OF_MEMORY)
        code = take_at_all_costs(home, &block, bytes, reserved);
    if (code == CUDA_ERROR_OUT_OF_MEMORY && (settings()->peer || settings()->host)) {
        CUresult spilled = take_elsewhere(home, &block, bytes, reserved);
        if (spilled == CUDA_SUCCESS) {
            code = spilled;
            *placing = block->span->placing;
            log_event((struct event){.time_ns = log_now_ns(), .op = OP_SPILL,
                                     .address = block->at, .bytes = bytes,
                                     .device = (uint16_t)device->id,
                                     .place = (uint16_t)*placing});
        }
    }
    leave_relaxed(mode);
    if (code == CUDA_SUCCESS)
        *at = block->at;
    return code;
}

CUresult free_block(CUdeviceptr at, bool *mine, size_t *asked)
{
    lock_books();
    struct block *block = live_block_of(at);
    *mine = block != NULL || is_within(at);
    if (block == NULL || block->at != at) {
        unlock_books();
        return CUDA_ERROR_INVALID_VALUE; /* as the driver says of what it did not give */
    }
    struct home *home = block->home;
    *asked = block->asked;
    set_pending(block);
    bool due = home->pending_count >= FENCE_BLOCKS || home->pending_bytes >= FENCE_BYTES;
    unlock_books();
    if (!due || capturing())
        return CUDA_SUCCESS;
    CUresult code = make_fence(home);
    pass_fences(home, false);
    return code;
}

struct found find_block(CUdeviceptr at)
{
    struct found found = {0};
    lock_books();
    struct block *block = live_block_of(at);
    found.within = block != NULL || is_within(at);
    if (block != NULL) {
        found.live = true;
        found.at = block->at;
        found.bytes = block->asked;
        found.id = block->id;
        found.context = block->home->context;
        found.device = block->span->device;
    }
    unlock_books();
    return found;
}

static CUresult wait_for_context(const struct home *home)
{
    CUcontext popped;
    CUresult code = NEXT(cuCtxPushCurrent_v2)(home->context);
    if (code != CUDA_SUCCESS)
        return code;
    code = NEXT(cuCtxSynchronize)();
    NEXT(cuCtxPopCurrent_v2)(&popped);
    return code;
}

/* A large block: more chunks under its addresses, or all of them under others. */
static CUresult resize_span(struct block *block, size_t bytes)
{
    struct span *span = block->span;
    struct device *device = block->home->device;
    size_t room = rounded(bytes, device->granularity);
    CUresult code = CUDA_SUCCESS;
    if (room < span->bytes) {
        code = wait_for_context(block->home);
        if (code == CUDA_SUCCESS)
            shrink_span(span, room);
        return code;
    }
    bool fits = room <= span->reserved;
    if (!fits) /* twice the size: growing by a little each time moves it rarely */
        code = wait_for_context(block->home);
    for (int attempt = 0; attempt < 2 && room > span->bytes && code == CUDA_SUCCESS; attempt++) {
        code = fits ? grow_span(span, room, attempt > 0)
                    : move_span(span, room, 2 * room, attempt > 0);
        if (code != CUDA_ERROR_OUT_OF_MEMORY || attempt > 0)
            break;
        settle_device(device);
        trim_device(device);
        trim_driver_pools(device->id);
        code = CUDA_SUCCESS;
    }
    return code;
}

CUresult resize_block(CUdeviceptr *at, size_t bytes)
{
    lock_books();
    struct block *block = live_block_of(*at);
    bool whole = block != NULL && block->at == *at;
    bool fits = whole && block->span->slab && bytes <= block->room;
    if (fits)
        block->asked = bytes;
    unlock_books();
    if (!whole || bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (fits)
        return CUDA_SUCCESS;
    if (!block->span->slab) {
        CUresult code = resize_span(block, bytes);
        if (code != CUDA_SUCCESS)
            return code;
        lock_books();
        tree_take(&blocks, &block->by_address);
        block->at = block->span->base;
        block->room = block->span->bytes;
        block->asked = bytes;
        tree_put(&blocks, &block->by_address, block->at, 0);
        unlock_books();
        *at = block->at;
        return CUDA_SUCCESS;
    }
    CUdeviceptr moved;
    enum placing placing;
    bool mine;
    size_t before;
    CUresult code = take_block(block->home, &moved, bytes, 0, &placing);
    if (code != CUDA_SUCCESS)
        return code;
    code = wait_for_context(block->home);
    if (code == CUDA_SUCCESS)
        code = NEXT(cuMemcpyDtoD_v2)(moved, *at, block->asked < bytes ? block->asked : bytes);
    free_block(code == CUDA_SUCCESS ? *at : moved, &mine, &before);
    if (code == CUDA_SUCCESS)
        *at = moved;
    return code;
}

size_t unused_bytes(CUdevice id)
{
    lock_books();
    struct device *device = &devices[id];
    size_t bytes = pools[id].free_bytes + device->kept_bytes + device->pending_bytes;
    unlock_books();
    return bytes;
}

void trim_unused(size_t keep)
{
    for (int id = 0; id < MOST_DEVICES; id++) {
        struct device *device = &devices[id];
        lock_books();
        bool known = device->known;
        unlock_books();
        if (!known)
            continue;
        settle_device(device);
        if (keep == 0 || unused_bytes(id) > keep) {
            dismantle_kept(device);
            trim_pool(id, keep);
        }
    }
    for (int node = 0; node < MOST_NODES; node++)
        trim_pool(place_of_node(node), keep);
}

void free_blocks_of(struct home *home)
{
    lock_books();
    struct block *list = NULL;
    for (CUdeviceptr from = 0;;) {
        struct node *node = tree_at_least(&blocks, from, 0);
        if (node == NULL)
            break;
        struct block *block = HOLDER(node, struct block, by_address);
        from = block->at + 1;
        if (block->home != home)
            continue;
        tree_take(&blocks, node);
        block->next = list;
        list = block;
        devices[block->span->device].pending_bytes += block->room; /* take_back subtracts it */
    }
    struct span *leaving = take_back(list);
    unlock_books();
    dismantle_list(leaving);
}
