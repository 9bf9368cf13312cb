#include "chunks.h"

#include "log.h"

#include <stdlib.h>

static MemProp prop_of(const struct device *device, int place)
{
    MemProp prop = {.type = 1}; /* CU_MEM_ALLOCATION_TYPE_PINNED */
    if (place < MOST_DEVICES) {
        prop.location = (MemLocation){LOCATION_DEVICE, place};
        prop.flags.rdma_capable = device->rdma;
    } else {
        prop.location = (MemLocation){LOCATION_HOST_NUMA, place - MOST_DEVICES};
    }
    return prop;
}

static CUresult create(struct chunk **made, const struct device *device, int place, size_t bytes)
{
    MemProp prop = prop_of(device, place);
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t begin = log_now_ns();
    CUresult code = NEXT(cuMemCreate)(&chunk->handle, bytes, &prop, 0);
    if (code != CUDA_SUCCESS) {
        free(chunk);
        return code;
    }
    chunk->bytes = bytes;
    chunk->place = place;
    *made = chunk;
    uint64_t end = log_now_ns();
    log_event((struct event){.time_ns = end, .duration_ns = (uint32_t)(end - begin),
                             .op = OP_CREATE, .kind = KIND_VMM, .address = chunk->handle,
                             .bytes = bytes, .device = (uint16_t)device->id,
                             .place = place == device->id ? 0 : place < MOST_DEVICES ? 1 : 2});
    return CUDA_SUCCESS;
}

static CUresult create_pieces(struct chunk ***end, const struct device *device, int place,
                              size_t bytes, bool pieces)
{
    for (size_t piece = bytes; bytes > 0;) {
        struct chunk *made;
        CUresult code = create(&made, device, place, piece < bytes ? piece : bytes);
        if (code == CUDA_ERROR_OUT_OF_MEMORY && pieces && piece > device->granularity) {
            piece = rounded(piece / 2, device->granularity);
            continue;
        }
        if (code != CUDA_SUCCESS)
            return code;
        **end = made;
        *end = &made->next;
        bytes -= made->bytes;
    }
    return CUDA_SUCCESS;
}

/* Whether a device may have so much: pieces are not worth trying where it has not. */
static bool may_have(const struct device *device, int place, size_t bytes)
{
    size_t available, total;
    return place != device->id || NEXT(cuMemGetInfo_v2)(&available, &total) != CUDA_SUCCESS ||
           available >= bytes;
}

CUresult take_chunks(struct chunk **taken, const struct device *device, int place, size_t bytes,
                     bool all)
{
    struct pool *pool = &pools[place];
    struct chunk **end = taken;
    size_t lacking = bytes, least = all ? 0 : bytes / 32;
    *taken = NULL;
    lock_books();
    while (lacking > 0) {
        struct node *node = tree_at_most(&pool->free, lacking, UINT64_MAX);
        struct chunk *chunk = node == NULL ? NULL : HOLDER(node, struct chunk, node);
        if (chunk == NULL || chunk->bytes < least)
            break;
        tree_take(&pool->free, node);
        pool->free_bytes -= chunk->bytes;
        chunk->next = NULL;
        *end = chunk;
        end = &chunk->next;
        lacking -= chunk->bytes;
    }
    unlock_books();
    CUresult code = !all || lacking == 0 || may_have(device, place, lacking)
                        ? create_pieces(&end, device, place, lacking, all)
                        : CUDA_ERROR_OUT_OF_MEMORY;
    if (code != CUDA_SUCCESS) {
        give_back_chunks(*taken);
        *taken = NULL;
    }
    return code;
}

static void put_back(struct chunk *chunk)
{
    struct pool *pool = &pools[chunk->place];
    tree_put(&pool->free, &chunk->node, chunk->bytes, chunk->handle);
    pool->free_bytes += chunk->bytes;
}

/* What the pool may hold beside the spans that are mapped and unused: both are kept for later. */
static size_t pool_room(int place)
{
    size_t limit = __atomic_load_n(&devices[place].pool_limit, __ATOMIC_ACQUIRE);
    lock_books();
    size_t kept = devices[place].kept_bytes;
    unlock_books();
    return limit > kept ? limit - kept : 0;
}

void give_back_chunks(struct chunk *list)
{
    uint64_t touched[MOST_PLACES / 64] = {0};
    lock_books();
    for (struct chunk *next; list != NULL; list = next) {
        next = list->next;
        list->next = NULL;
        touched[list->place / 64] |= (uint64_t)1 << list->place % 64;
        put_back(list);
    }
    unlock_books();
    for (int place = 0; place < MOST_DEVICES; place++)
        if ((touched[0] >> place & 1) != 0)
            trim_pool(place, pool_room(place));
}

size_t trim_pool(int place, size_t keep)
{
    struct pool *pool = &pools[place];
    struct chunk *stuck = NULL;
    size_t released = 0;
    for (;;) {
        lock_books();
        struct node *node = pool->free_bytes > keep
                                ? tree_at_most(&pool->free, UINT64_MAX, UINT64_MAX) : NULL;
        if (node != NULL) {
            tree_take(&pool->free, node);
            pool->free_bytes -= HOLDER(node, struct chunk, node)->bytes;
        }
        unlock_books();
        if (node == NULL)
            break;
        struct chunk *chunk = HOLDER(node, struct chunk, node);
        if (NEXT(cuMemRelease)(chunk->handle) != CUDA_SUCCESS) {
            chunk->next = stuck; /* it is still this library's */
            stuck = chunk;
            continue;
        }
        released += chunk->bytes;
        free(chunk);
    }
    lock_books();
    for (struct chunk *next; stuck != NULL; stuck = next) {
        next = stuck->next;
        put_back(stuck);
    }
    unlock_books();
    if (released > 0)
        log_event((struct event){.time_ns = log_now_ns(), .op = OP_TRIM, .kind = KIND_VMM,
                                 .bytes = released,
                                 .device = (uint16_t)(place < MOST_DEVICES ? place : 0),
                                 .place = place < MOST_DEVICES ? 0 : 2});
    return released;
}
