#include "spans.h"

#include "chunks.h"
#include "log.h"

#include <sched.h>
#include <stdlib.h>

/* Its device, every one that the program gave access to it, and where it lies if that is a peer. */
static size_t access_of(const struct device *device, int place, MemAccess *access)
{
    uint64_t readers = __atomic_load_n(&device->peers, __ATOMIC_ACQUIRE) | (uint64_t)1 << device->id;
    if (place < MOST_DEVICES)
        readers |= (uint64_t)1 << place;
    size_t count = 0;
    for (int id = 0; id < MOST_DEVICES; id++)
        if ((readers >> id & 1) != 0)
            access[count++] = (MemAccess){{LOCATION_DEVICE, id}, ACCESS_READ_WRITE};
    return count;
}

/* Map chunks from an address on; says how far it came. */
static CUresult map_chunks(CUdeviceptr at, const struct chunk *chunks, size_t *mapped)
{
    *mapped = 0;
    for (const struct chunk *chunk = chunks; chunk != NULL; chunk = chunk->next) {
        CUresult code = NEXT(cuMemMap)(at + *mapped, chunk->bytes, 0, chunk->handle, 0);
        if (code != CUDA_SUCCESS)
            return code;
        *mapped += chunk->bytes;
    }
    return CUDA_SUCCESS;
}

/* Map and give access, or leave nothing mapped. `stuck` says that even taking back failed: then the
   addresses and the chunks can't be used again. */
static CUresult map_all(CUdeviceptr at, const struct chunk *chunks, const struct device *device,
                        bool *stuck)
{
    MemAccess access[MOST_DEVICES];
    size_t mapped;
    CUresult code = map_chunks(at, chunks, &mapped);
    if (code == CUDA_SUCCESS && mapped > 0)
        code = NEXT(cuMemSetAccess)(at, mapped, access,
                                    access_of(device, chunks->place, access));
    *stuck = code != CUDA_SUCCESS && mapped > 0 && NEXT(cuMemUnmap)(at, mapped) != CUDA_SUCCESS;
    return code;
}

static void log_gathered(const struct span *span, const struct chunk *chunks, uint64_t begin)
{
    size_t count = 0;
    for (; chunks != NULL; chunks = chunks->next)
        count++;
    uint64_t end = log_now_ns();
    log_event((struct event){.time_ns = end, .duration_ns = (uint32_t)(end - begin),
                             .op = OP_GATHER, .kind = KIND_VMM, .address = span->base,
                             .bytes = span->bytes, .other = count,
                             .device = (uint16_t)span->device, .place = (uint16_t)span->placing});
}

static CUresult gather(struct span **made, struct device *device, struct spot spot, size_t bytes,
                       size_t reserved, bool all)
{
    struct chunk *chunks;
    CUresult code = take_chunks(&chunks, device, spot.place, bytes, all);
    if (code != CUDA_SUCCESS)
        return code;
    uint64_t begin = log_now_ns(), peers = __atomic_load_n(&device->peers, __ATOMIC_ACQUIRE);
    struct span *span = calloc(1, sizeof *span);
    CUdeviceptr base = 0;
    code = span == NULL ? CUDA_ERROR_OUT_OF_MEMORY
                        : NEXT(cuMemAddressReserve)(&base, reserved, 0, 0, 0);
    bool stuck = false;
    if (code == CUDA_SUCCESS) {
        code = map_all(base, chunks, device, &stuck);
        if (code != CUDA_SUCCESS && !stuck)
            NEXT(cuMemAddressFree)(base, reserved);
    }
    if (code != CUDA_SUCCESS) {
        if (!stuck)
            give_back_chunks(chunks);
        free(span);
        return code;
    }
    *span = (struct span){.base = base, .bytes = bytes, .reserved = reserved, .chunks = chunks,
                          .device = device->id, .placing = spot.placing};
    lock_books();
    tree_put(&spans, &span->by_base, base, 0);
    unlock_books();
    if (peers != __atomic_load_n(&device->peers, __ATOMIC_ACQUIRE)) { /* it was not seen in time */
        MemAccess access[MOST_DEVICES];
        code = NEXT(cuMemSetAccess)(base, bytes, access, access_of(device, spot.place, access));
        if (code != CUDA_SUCCESS) {
            dismantle(span);
            return code;
        }
    }
    log_gathered(span, chunks, begin);
    *made = span;
    return CUDA_SUCCESS;
}

CUresult make_span(struct span **made, struct device *device, struct spot spot, size_t bytes,
                   size_t reserved, bool all)
{
    __atomic_fetch_add(&device->gathering, 1, __ATOMIC_ACQ_REL);
    CUresult code = gather(made, device, spot, bytes, reserved, all);
    __atomic_fetch_sub(&device->gathering, 1, __ATOMIC_ACQ_REL);
    return code;
}

static struct chunk **end_of(struct chunk **list)
{
    while (*list != NULL)
        list = &(*list)->next;
    return list;
}

CUresult grow_span(struct span *span, size_t bytes, bool all)
{
    struct device *device = &devices[span->device];
    struct chunk *chunks;
    CUresult code =
        take_chunks(&chunks, device, span->chunks->place, bytes - span->bytes, all);
    if (code != CUDA_SUCCESS)
        return code;
    uint64_t begin = log_now_ns();
    bool stuck;
    code = map_all(span->base + span->bytes, chunks, device, &stuck);
    if (code != CUDA_SUCCESS) {
        if (!stuck)
            give_back_chunks(chunks);
        return code;
    }
    lock_books();
    *end_of(&span->chunks) = chunks;
    span->bytes = bytes;
    unlock_books();
    log_gathered(span, chunks, begin);
    return CUDA_SUCCESS;
}

void shrink_span(struct span *span, size_t bytes)
{
    struct chunk **link = &span->chunks;
    size_t kept = 0;
    while (*link != NULL && kept < bytes) {
        kept += (*link)->bytes;
        link = &(*link)->next;
    }
    if (kept == span->bytes ||
        NEXT(cuMemUnmap)(span->base + kept, span->bytes - kept) != CUDA_SUCCESS)
        return;
    struct chunk *dropped = *link;
    lock_books();
    *link = NULL;
    span->bytes = kept;
    unlock_books();
    give_back_chunks(dropped);
}

CUresult move_span(struct span *span, size_t bytes, size_t reserved, bool all)
{
    struct device *device = &devices[span->device];
    struct chunk *added;
    CUdeviceptr base, old = span->base;
    bool stuck;
    size_t before = span->bytes;
    CUresult code = take_chunks(&added, device, span->chunks->place, bytes - before, all);
    if (code != CUDA_SUCCESS)
        return code;
    uint64_t begin = log_now_ns();
    code = NEXT(cuMemAddressReserve)(&base, reserved, 0, 0, 0);
    if (code != CUDA_SUCCESS) {
        give_back_chunks(added);
        return code;
    }
    /* A chunk may be mapped twice: so the old addresses stay good until the new ones are. */
    code = map_all(base, span->chunks, device, &stuck);
    if (code == CUDA_SUCCESS) {
        code = map_all(base + before, added, device, &stuck);
        if (code == CUDA_SUCCESS) {
            code = NEXT(cuMemUnmap)(old, before);
            if (code != CUDA_SUCCESS && bytes > before)
                stuck = NEXT(cuMemUnmap)(base + before, bytes - before) != CUDA_SUCCESS;
        }
        if (code != CUDA_SUCCESS)
            stuck |= NEXT(cuMemUnmap)(base, before) != CUDA_SUCCESS;
    }
    if (code != CUDA_SUCCESS) {
        if (!stuck) {
            NEXT(cuMemAddressFree)(base, reserved);
            give_back_chunks(added);
        }
        return code;
    }
    NEXT(cuMemAddressFree)(old, span->reserved);
    lock_books();
    tree_take(&spans, &span->by_base);
    *end_of(&span->chunks) = added;
    span->base = base;
    span->bytes = bytes;
    span->reserved = reserved;
    tree_put(&spans, &span->by_base, base, 0);
    unlock_books();
    log_gathered(span, span->chunks, begin);
    return CUDA_SUCCESS;
}

void dismantle(struct span *span)
{
    lock_books();
    while (span->pins > 0) { /* access is being given to it: a moment */
        unlock_books();
        sched_yield();
        lock_books();
    }
    tree_take(&spans, &span->by_base);
    unlock_books();
    if (NEXT(cuMemUnmap)(span->base, span->bytes) != CUDA_SUCCESS) {
        lock_books();
        tree_put(&spans, &span->by_base, span->base, 0);
        tree_put(&devices[span->device].kept, &span->by_bytes, span->bytes, span->base);
        devices[span->device].kept_bytes += span->bytes;
        unlock_books();
        return;
    }
    NEXT(cuMemAddressFree)(span->base, span->reserved);
    give_back_chunks(span->chunks);
    free(span);
}

void dismantle_list(struct span *list)
{
    for (struct span *next; list != NULL; list = next) {
        next = list->next;
        dismantle(list);
    }
}

bool keep_span(struct span *span)
{
    struct device *device = &devices[span->device];
    size_t held = pools[place_of_device(device)].free_bytes + device->kept_bytes;
    if (span->placing != OWN_DEVICE || span->reserved != span->bytes ||
        span->bytes > device->pool_limit || held > device->pool_limit - span->bytes)
        return false;
    span->slab = false;
    tree_put(&device->kept, &span->by_bytes, span->bytes, span->base);
    device->kept_bytes += span->bytes;
    return true;
}

struct span *reuse_span(struct device *device, size_t bytes)
{
    struct node *node = tree_at_least(&device->kept, bytes, 0);
    if (node == NULL || node->major != bytes)
        return NULL;
    tree_take(&device->kept, node);
    device->kept_bytes -= bytes;
    return HOLDER(node, struct span, by_bytes);
}

size_t dismantle_kept(struct device *device)
{
    struct span *list = NULL;
    size_t bytes = 0;
    lock_books();
    for (struct node *node; (node = tree_at_least(&device->kept, 0, 0)) != NULL;) {
        struct span *span = HOLDER(node, struct span, by_bytes);
        tree_take(&device->kept, node);
        device->kept_bytes -= span->bytes;
        bytes += span->bytes;
        span->next = list;
        list = span;
    }
    unlock_books();
    dismantle_list(list);
    return bytes;
}

CUresult open_to_peer(struct device *owner, int peer)
{
    CUresult code = CUDA_SUCCESS;
    lock_books();
    __atomic_fetch_or(&owner->peers, (uint64_t)1 << peer, __ATOMIC_ACQ_REL);
    for (CUdeviceptr from = 0; code == CUDA_SUCCESS;) {
        struct node *node = tree_at_least(&spans, from, 0);
        if (node == NULL)
            break;
        struct span *span = HOLDER(node, struct span, by_base);
        from = span->base + 1;
        if (span->device != owner->id)
            continue;
        span->pins++;
        CUdeviceptr base = span->base;
        size_t bytes = span->bytes;
        unlock_books();
        MemAccess access = {{LOCATION_DEVICE, peer}, ACCESS_READ_WRITE};
        code = NEXT(cuMemSetAccess)(base, bytes, &access, 1);
        lock_books();
        span->pins--;
    }
    unlock_books();
    return code;
}
