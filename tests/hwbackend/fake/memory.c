/* Memory: chunks and the addresses they are mapped at, plain buffers, pinned host memory.

   A place's physical memory is one sparse file in memory, a chunk a piece of it, a mapping a shared
   mapping of that piece. So what is written at one address is read at every other of the same chunk,
   and addresses to which no access was given, or that were given back, can't be touched. */
#define _GNU_SOURCE
#include "fake.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUFFER_STEP ((size_t)4096)
#define ARENA_BYTES ((size_t)64 << 30)
#define NO_ADDRESS ((Address)(uintptr_t)MAP_FAILED)
enum { ON_DEVICE = 1, ON_HOST_NODE = 3 }; /* CUmemLocationType */
enum { PINNED_KIND = 1 };                 /* CUmemAllocationType */
enum { READ_WRITE = 3 };                  /* CUmemAccess_flags */

struct location {
    int type, id;
};
struct allocation_prop {
    int type, handle_types;
    struct location location;
    void *unused;
    unsigned char flags[8];
};
struct access_desc {
    struct location location;
    int flags;
};

struct place {
    size_t total, used;
    int file; /* plus one, so that 0 is none yet */
    off_t end;
};
struct chunk {
    struct place *place;
    size_t bytes, mappings, handles;
    off_t offset;
    bool rdma;
    Handle handle; /* the same for whoever holds it, and again where nobody did meanwhile */
};
struct mapping {
    struct chunk *chunk;
    Address at;
    bool readers[DEVICES];
};
struct range {
    struct range *next;
    Address at;
    size_t bytes;
    bool given_back;
    struct mapping **steps; /* what is mapped at each step of the granularity */
};
struct buffer {
    struct buffer *next;
    Address at;
    size_t bytes;
    int device; /* that it is counted on, or -1: pinned host memory */
    bool given_back;
};

static const size_t DEVICE_BYTES = (size_t)64 << 30, HOST_BYTES = (size_t)64 << 30;
static struct place devices[DEVICES], hosts[HOSTS];
static struct range *ranges;
static struct buffer *buffers;
static size_t ranges_alive, mappings_alive, buffers_alive, pinned_alive;

static struct place *place_of(int type, int id)
{
    bool host = type == ON_HOST_NODE;
    if ((type != ON_DEVICE && !host) || id < 0 || id >= (host ? HOSTS : DEVICES))
        return NULL;
    struct place *place = host ? &hosts[id] : &devices[id];
    if (place->total == 0)
        place->total = host ? HOST_BYTES : DEVICE_BYTES;
    return place;
}

static size_t rounded(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }
static void *pointer(Address at) { return (void *)(uintptr_t)at; }

/* Addresses that nothing can touch, aligned to the granularity; NO_ADDRESS if there are none. They
   never come again, and lie side by side in a few large pieces: the kernel counts what is given back
   as one mapping then, and has room for some ten thousand only. */
static struct arena {
    struct arena *next;
    Address end, unused;
    void *mapped;
    size_t bytes;
} *arenas;

static Address reserve(size_t bytes)
{
    if (arenas == NULL || arenas->end - arenas->unused < bytes) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        size_t wanted = (bytes > ARENA_BYTES ? bytes : ARENA_BYTES) + GRANULARITY;
        void *found = mmap(NULL, wanted, PROT_NONE, flags, -1, 0);
        if (found == MAP_FAILED)
            return NO_ADDRESS;
        struct arena *made = calloc(1, sizeof *made);
        *made = (struct arena){.next = arenas, .mapped = found, .bytes = wanted};
        made->unused = rounded((Address)(uintptr_t)found, GRANULARITY);
        made->end = (Address)(uintptr_t)found + wanted;
        arenas = made;
    }
    Address at = arenas->unused;
    arenas->unused += bytes;
    return at;
}

/* Let nothing be there, but let nobody else have the addresses: their use stays a fault. */
static void forbid(Address at, size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    mmap(pointer(at), bytes, PROT_NONE, flags, -1, 0);
}

size_t ranges_held(void) { return ranges_alive; }
size_t mappings_held(void) { return mappings_alive; }
size_t buffers_held(bool pinned) { return pinned ? pinned_alive : buffers_alive; }

size_t place_total(bool host, int number)
{
    return place_of(host ? ON_HOST_NODE : ON_DEVICE, number)->total;
}

size_t place_used(bool host, int number)
{
    return place_of(host ? ON_HOST_NODE : ON_DEVICE, number)->used;
}

/* Give a place so many bytes; less than what is taken leaves nothing free. */
EXPORT void fake_limit(int host, int number, size_t bytes)
{
    struct place *place = place_of(host ? ON_HOST_NODE : ON_DEVICE, number);
    if (place != NULL)
        place->total = bytes;
}

EXPORT size_t fake_used(int host, int number)
{
    lock_driver();
    struct place *place = place_of(host ? ON_HOST_NODE : ON_DEVICE, number);
    size_t used = place == NULL ? 0 : place->used;
    unlock_driver(NULL);
    return used;
}

static bool take(struct place *place, size_t bytes)
{
    if (bytes > place->total || place->used > place->total - bytes)
        return false;
    place->used += bytes;
    return true;
}

/* Who has which addresses, by step of the granularity: a range or a buffer, also once given back. */
struct owner {
    Address step; /* plus one, so that 0 is none */
    struct range *range;
    struct buffer *buffer;
};
static struct owner *owners;
static size_t owner_count, owner_room;

static struct owner *owner_slot(Address step)
{
    size_t at = (size_t)(step * 0x9e3779b97f4a7c15u) & (owner_room - 1);
    while (owners[at].step != 0 && owners[at].step != step + 1)
        at = (at + 1) & (owner_room - 1);
    return &owners[at];
}

static void own(Address at, size_t bytes, struct range *range, struct buffer *buffer)
{
    for (Address step = at / GRANULARITY; step * GRANULARITY < at + bytes; step++) {
        if (2 * (owner_count + 1) > owner_room) {
            struct owner *before = owners;
            size_t room = owner_room;
            owner_room = room ? 2 * room : 1024;
            owners = calloc(owner_room, sizeof *owners);
            for (size_t i = 0; i < room; i++)
                if (before[i].step != 0)
                    *owner_slot(before[i].step - 1) = before[i];
            free(before);
        }
        struct owner *owner = owner_slot(step);
        owner_count += owner->step == 0;
        *owner = (struct owner){step + 1, range, buffer};
    }
}

static struct owner owner_of(Address at)
{
    return owner_room == 0 ? (struct owner){0} : *owner_slot(at / GRANULARITY);
}

static struct range *range_at(Address at) { return owner_of(at).range; }

static struct buffer *buffer_at(Address at)
{
    struct buffer *buffer = owner_of(at).buffer;
    bool inside = buffer != NULL && at - buffer->at < rounded(buffer->bytes, BUFFER_STEP);
    return inside ? buffer : NULL;
}

bool can_touch(Address at, size_t bytes, int device)
{
    struct range *range = range_at(at);
    if (range != NULL) {
        if (range->given_back || bytes > range->bytes - (at - range->at))
            return false;
        size_t first = (at - range->at) / GRANULARITY;
        size_t last = (at - range->at + (bytes ? bytes - 1 : 0)) / GRANULARITY;
        for (size_t step = first; step <= last; step++)
            if (range->steps[step] == NULL || !range->steps[step]->readers[device])
                return false;
        return true;
    }
    struct buffer *buffer = buffer_at(at);
    if (buffer != NULL)
        return !buffer->given_back && bytes <= buffer->bytes - (at - buffer->at);
    return at != 0; /* memory of the host that CUDA does not know */
}

/* Chunks */

EXPORT CUresult cuMemGetAllocationGranularity(size_t *bytes, const struct allocation_prop *prop,
                                              int recommended)
{
    ENTER();
    (void)recommended;
    *bytes = GRANULARITY;
    return place_of(prop->location.type, prop->location.id) == NULL ? INVALID_DEVICE : OK;
}

EXPORT CUresult cuMemCreate(Handle *made, size_t bytes, const struct allocation_prop *prop,
                            unsigned long long flags)
{
    ENTER();
    struct place *place = place_of(prop->location.type, prop->location.id);
    if (place == NULL)
        return INVALID_DEVICE;
    if (bytes == 0 || bytes % GRANULARITY != 0 || prop->type != PINNED_KIND || flags != 0)
        return INVALID_VALUE;
    if (!take(place, bytes))
        return OUT_OF_MEMORY;
    if (place->file == 0)
        place->file = 1 + memfd_create("fake memory", MFD_CLOEXEC);
    struct chunk *chunk = calloc(1, sizeof *chunk);
    *chunk = (struct chunk){.place = place, .bytes = bytes, .handles = 1, .offset = place->end,
                            .rdma = prop->flags[1] != 0};
    place->end += (off_t)bytes;
    if (ftruncate(place->file - 1, place->end) != 0)
        return OUT_OF_MEMORY;
    *made = chunk->handle = keep(CHUNK, chunk);
    return OK;
}

static void forget_unless_held(struct chunk *chunk)
{
    if (chunk->handles > 0 || chunk->mappings > 0)
        return;
    int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (fallocate(chunk->place->file - 1, punch, chunk->offset, (off_t)chunk->bytes) == 0)
        chunk->place->used -= chunk->bytes;
}

EXPORT CUresult cuMemRelease(Handle handle)
{
    ENTER();
    struct chunk *chunk = find(CHUNK, handle);
    if (chunk == NULL)
        return INVALID_VALUE;
    if (--chunk->handles == 0)
        drop(handle);
    forget_unless_held(chunk); /* while it is mapped, its memory stays */
    return OK;
}

/* Addresses */

EXPORT CUresult cuMemAddressReserve(Address *made, size_t bytes, size_t alignment, Address wanted,
                                    unsigned long long flags)
{
    ENTER();
    (void)wanted; /* a wish */
    if (bytes == 0 || bytes % GRANULARITY != 0 || alignment > GRANULARITY || flags != 0)
        return INVALID_VALUE;
    Address at = reserve(bytes);
    if (at == NO_ADDRESS)
        return OUT_OF_MEMORY;
    struct range *range = calloc(1, sizeof *range);
    *range = (struct range){.next = ranges, .at = at, .bytes = bytes};
    range->steps = calloc(bytes / GRANULARITY, sizeof *range->steps);
    ranges = range;
    own(at, bytes, range, NULL);
    ranges_alive++;
    *made = at;
    return OK;
}

/* The range that holds these addresses, from one step of the granularity to another. */
static struct range *range_of_steps(Address at, size_t bytes)
{
    struct range *range = range_at(at);
    bool inside = range != NULL && !range->given_back && bytes > 0 && bytes % GRANULARITY == 0 &&
                  (at - range->at) % GRANULARITY == 0 && bytes <= range->bytes - (at - range->at);
    return inside ? range : NULL;
}

EXPORT CUresult cuMemAddressFree(Address at, size_t bytes)
{
    ENTER();
    struct range *range = range_of_steps(at, bytes);
    if (range == NULL || range->at != at || range->bytes != bytes)
        return INVALID_VALUE;
    for (size_t step = 0; step < bytes / GRANULARITY; step++)
        if (range->steps[step] != NULL)
            return INVALID_VALUE;
    note_hazards(at, bytes);
    range->given_back = true;
    ranges_alive--;
    return OK;
}

EXPORT CUresult cuMemMap(Address at, size_t bytes, size_t offset, Handle handle,
                         unsigned long long flags)
{
    ENTER();
    struct range *range = range_of_steps(at, bytes);
    struct chunk *chunk = find(CHUNK, handle);
    if (range == NULL || chunk == NULL || chunk->bytes != bytes || offset != 0 || flags != 0)
        return INVALID_VALUE;
    size_t first = (at - range->at) / GRANULARITY;
    for (size_t step = first; step < first + bytes / GRANULARITY; step++)
        if (range->steps[step] != NULL)
            return INVALID_VALUE;
    int flags_there = MAP_SHARED | MAP_FIXED;
    if (mmap(pointer(at), bytes, PROT_NONE, flags_there, chunk->place->file - 1, chunk->offset) ==
        MAP_FAILED)
        return OUT_OF_MEMORY;
    struct mapping *mapping = calloc(1, sizeof *mapping);
    mapping->chunk = chunk;
    mapping->at = at;
    for (size_t step = first; step < first + bytes / GRANULARITY; step++)
        range->steps[step] = mapping;
    chunk->mappings++;
    mappings_alive++;
    return OK;
}

/* Whether these addresses are mapped from the first to the last, and hold no mapping in part. */
static bool holds_whole_mappings(const struct range *range, Address at, size_t bytes)
{
    for (Address here = at; here < at + bytes;) {
        struct mapping *mapping = range->steps[(here - range->at) / GRANULARITY];
        if (mapping == NULL || mapping->at != here || here + mapping->chunk->bytes > at + bytes)
            return false;
        here += mapping->chunk->bytes;
    }
    return true;
}

EXPORT CUresult cuMemSetAccess(Address at, size_t bytes, const struct access_desc *wanted,
                               size_t count)
{
    ENTER();
    struct range *range = range_of_steps(at, bytes);
    if (range == NULL || count == 0 || !holds_whole_mappings(range, at, bytes))
        return INVALID_VALUE;
    for (size_t i = 0; i < count; i++)
        if (place_of(wanted[i].location.type, wanted[i].location.id) == NULL)
            return INVALID_DEVICE;
    for (size_t step = 0; step < bytes / GRANULARITY; step++)
        for (size_t i = 0; i < count; i++)
            if (wanted[i].location.type == ON_DEVICE)
                range->steps[(at - range->at) / GRANULARITY + step]->readers[wanted[i].location.id] =
                    wanted[i].flags == READ_WRITE;
    mprotect(pointer(at), bytes, PROT_READ | PROT_WRITE);
    return OK;
}

EXPORT CUresult cuMemUnmap(Address at, size_t bytes)
{
    ENTER();
    struct range *range = range_of_steps(at, bytes);
    if (range == NULL || !holds_whole_mappings(range, at, bytes))
        return INVALID_VALUE;
    note_hazards(at, bytes); /* it waits for nothing */
    for (Address here = at; here < at + bytes;) {
        size_t step = (here - range->at) / GRANULARITY;
        struct chunk *chunk = range->steps[step]->chunk;
        for (size_t i = 0; i < chunk->bytes / GRANULARITY; i++)
            range->steps[step + i] = NULL;
        chunk->mappings--;
        mappings_alive--;
        here += chunk->bytes;
        forget_unless_held(chunk);
    }
    forbid(at, bytes);
    return OK;
}

/* Plain memory */

static CUresult make_buffer(Address *made, size_t bytes, int device)
{
    if (bytes == 0)
        return INVALID_VALUE;
    if (bytes > DEVICE_BYTES)
        return OUT_OF_MEMORY; /* rounded it might be small */
    if (device >= 0 && !take(place_of(ON_DEVICE, device), rounded(bytes, GRANULARITY)))
        return OUT_OF_MEMORY;
    Address at = reserve(rounded(bytes, GRANULARITY));
    if (at == NO_ADDRESS)
        return OUT_OF_MEMORY;
    mprotect(pointer(at), rounded(bytes, BUFFER_STEP), PROT_READ | PROT_WRITE);
    struct buffer *buffer = calloc(1, sizeof *buffer);
    *buffer = (struct buffer){.next = buffers, .at = at, .bytes = bytes, .device = device};
    buffers = buffer;
    own(at, bytes, NULL, buffer);
    if (device >= 0)
        buffers_alive++;
    else
        pinned_alive++;
    *made = at;
    return OK;
}

static CUresult free_buffer(Address at, bool pinned)
{
    struct buffer *buffer = buffer_at(at);
    bool is_one = buffer != NULL && buffer->at == at && !buffer->given_back;
    if (!is_one || (buffer->device < 0) != pinned)
        return INVALID_VALUE;
    CUresult finished = finish_everything(); /* both wait for whatever may use it */
    forbid(at, rounded(buffer->bytes, GRANULARITY));
    buffer->given_back = true;
    if (pinned) {
        pinned_alive--;
    } else {
        buffers_alive--;
        devices[buffer->device].used -= rounded(buffer->bytes, GRANULARITY);
    }
    return finished;
}

void free_buffers_of(int device)
{
    for (struct buffer *buffer = buffers; buffer != NULL; buffer = buffer->next)
        if (buffer->device == device && !buffer->given_back)
            free_buffer(buffer->at, false);
}

EXPORT CUresult cuMemGetInfo(size_t *available, size_t *total)
{
    ENTER_ON(device);
    struct place *place = place_of(ON_DEVICE, device);
    *total = place->total;
    *available = place->total > place->used ? place->total - place->used : 0;
    return OK;
}

EXPORT CUresult cuMemAlloc(Address *made, size_t bytes)
{
    ENTER_ON(device);
    return make_buffer(made, bytes, device);
}

EXPORT CUresult cuMemFree(Address at)
{
    ENTER_ON(device);
    return at == 0 ? OK : free_buffer(at, false);
}

EXPORT CUresult cuMemHostAlloc(Address *made, size_t bytes, unsigned flags)
{
    ENTER_ON(device);
    return flags > 7 ? INVALID_VALUE : make_buffer(made, bytes, -1);
}

EXPORT CUresult cuMemFreeHost(Address at)
{
    ENTER_ON(device);
    return free_buffer(at, true);
}

EXPORT CUresult cuMemHostGetDevicePointer(Address *found, Address at, unsigned flags)
{
    ENTER_ON(device);
    struct buffer *buffer = buffer_at(at);
    *found = at;
    bool pinned = buffer != NULL && !buffer->given_back && buffer->device < 0;
    return pinned && flags == 0 ? OK : INVALID_VALUE;
}

EXPORT CUresult cuMemAllocPitch(Address *made, size_t *pitch, size_t width, size_t height,
                                unsigned element)
{
    ENTER_ON(device);
    if ((element != 4 && element != 8 && element != 16) || width == 0 || height == 0)
        return INVALID_VALUE;
    *pitch = rounded(width, 512);
    return make_buffer(made, *pitch * height, device);
}

EXPORT CUresult cuMemAllocManaged(Address *made, size_t bytes, unsigned flags)
{
    ENTER_ON(device);
    return flags != 1 && flags != 2 ? INVALID_VALUE : make_buffer(made, bytes, device);
}

/* Stream-ordered memory: taken at once, and given back at once after the stream's work. */

EXPORT CUresult cuMemAllocAsync(Address *made, size_t bytes, Handle stream)
{
    ENTER_ON(device);
    (void)stream;
    return make_buffer(made, bytes, device);
}

EXPORT CUresult cuMemAllocFromPoolAsync(Address *made, size_t bytes, Handle pool, Handle stream)
{
    return pool == 0 ? INVALID_VALUE : cuMemAllocAsync(made, bytes, stream);
}

EXPORT CUresult cuMemFreeAsync(Address at, Handle stream)
{
    ENTER_ON(device);
    (void)stream;
    return free_buffer(at, false);
}

/* What is known of an address: the whole of what one call took. Of virtual memory that is a chunk's
   mapping, as on a real driver. */

static CUresult what_is_at(Address at, Address *begin, size_t *bytes, int *type, int *device)
{
    struct range *range = range_at(at);
    if (range != NULL && !range->given_back) {
        struct mapping *mapping = range->steps[(at - range->at) / GRANULARITY];
        if (mapping == NULL)
            return INVALID_VALUE;
        bool on_device = mapping->chunk->place >= devices && mapping->chunk->place < devices + DEVICES;
        *begin = mapping->at;
        *bytes = mapping->chunk->bytes;
        *type = on_device ? 2 : 1;
        *device = on_device ? (int)(mapping->chunk->place - devices) : 0;
        return OK;
    }
    struct buffer *buffer = range == NULL ? buffer_at(at) : NULL;
    if (buffer == NULL || buffer->given_back)
        return INVALID_VALUE;
    *begin = buffer->at;
    *bytes = buffer->bytes;
    *type = buffer->device >= 0 ? 2 : 1;
    *device = buffer->device >= 0 ? buffer->device : 0;
    return OK;
}

EXPORT CUresult cuMemGetAddressRange(Address *base, size_t *size, Address at)
{
    ENTER_ON(current);
    (void)current;
    Address begin;
    size_t bytes;
    int type, device;
    CUresult code = what_is_at(at, &begin, &bytes, &type, &device);
    if (code == OK && base != NULL)
        *base = begin;
    if (code == OK && size != NULL)
        *size = bytes;
    return code == OK ? OK : NOT_FOUND;
}

static CUresult attribute_of(void *data, int attribute, Address at)
{
    Address begin;
    size_t bytes;
    int type, device;
    CUresult code = what_is_at(at, &begin, &bytes, &type, &device);
    bool is_virtual = code == OK && range_at(at) != NULL;
    if (code != OK)
        return code;
    switch (attribute) {
    case 1: *(Handle *)data = is_virtual ? 0 : 0x1000 + 0x10 * (Handle)device; return OK;
    case 2: *(unsigned *)data = (unsigned)type; return OK;
    case 3: *(Address *)data = at; return OK;
    case 4: *(Address *)data = at; return type == 1 ? OK : INVALID_VALUE;
    case 7: *(uint64_t *)data = begin; return OK;
    case 8: *(unsigned *)data = 0; return OK;
    case 9: *(int *)data = device; return OK;
    case 10: *(bool *)data = !is_virtual; return OK;
    case 11: *(Address *)data = begin; return OK;
    case 12: *(size_t *)data = bytes; return OK;
    case 13: *(bool *)data = true; return OK;
    default: return NOT_SUPPORTED;
    }
}

EXPORT CUresult cuPointerGetAttribute(void *data, int attribute, Address at)
{
    ENTER();
    return data == NULL ? INVALID_VALUE : attribute_of(data, attribute, at);
}

EXPORT CUresult cuPointerGetAttributes(unsigned count, const int *attributes, void **data,
                                       Address at)
{
    ENTER();
    for (unsigned i = 0; i < count; i++)
        if (attribute_of(data[i], attributes[i], at) != OK) {
            bool narrow = attributes[i] == 2 || attributes[i] == 8 || attributes[i] == 9;
            if (attributes[i] == 9)
                *(int *)data[i] = -2; /* as a real driver says of what it does not know */
            else
                memset(data[i], 0, narrow ? 4 : attributes[i] == 10 || attributes[i] == 13 ? 1 : 8);
        }
    return OK;
}

EXPORT CUresult cuIpcGetMemHandle(void *handle, Address at)
{
    ENTER_ON(device);
    (void)device;
    struct buffer *buffer = range_at(at) == NULL ? buffer_at(at) : NULL;
    if (buffer == NULL || buffer->given_back || buffer->device < 0)
        return INVALID_VALUE; /* virtual memory has no such handle */
    memset(handle, 0, 64);
    memcpy(handle, &buffer->at, sizeof buffer->at);
    return OK;
}

EXPORT CUresult cuMemRetainAllocationHandle(Handle *made, void *address)
{
    ENTER();
    Address at = (Address)(uintptr_t)address;
    struct range *range = range_at(at);
    struct mapping *mapping =
        range == NULL || range->given_back ? NULL : range->steps[(at - range->at) / GRANULARITY];
    if (mapping == NULL)
        return INVALID_VALUE;
    struct chunk *chunk = mapping->chunk;
    if (chunk->handles++ == 0)
        put_back(chunk->handle, chunk);
    *made = chunk->handle;
    return OK;
}

/* A descriptor of the place's memory; whoever asked closes it. */
EXPORT CUresult cuMemExportToShareableHandle(int *file, Handle handle, int type,
                                             unsigned long long flags)
{
    ENTER();
    struct chunk *chunk = find(CHUNK, handle);
    if (chunk == NULL || type != 1 || flags != 0)
        return INVALID_VALUE;
    *file = fcntl(chunk->place->file - 1, F_DUPFD_CLOEXEC, 0);
    return *file < 0 ? NOT_SUPPORTED : OK;
}

/* What InfiniBand registers memory by: a descriptor of addresses within one mapping, of a chunk that
   was made for it. */
EXPORT CUresult cuMemGetHandleForAddressRange(void *made, Address at, size_t bytes, int type,
                                              unsigned long long flags)
{
    ENTER();
    struct range *range = range_at(at);
    if (range == NULL || range->given_back || type != 1 || flags != 0)
        return INVALID_VALUE;
    struct mapping *mapping = range->steps[(at - range->at) / GRANULARITY];
    if (mapping == NULL || !mapping->chunk->rdma ||
        bytes > mapping->at + mapping->chunk->bytes - at)
        return INVALID_VALUE;
    int file = fcntl(mapping->chunk->place->file - 1, F_DUPFD_CLOEXEC, 0);
    memcpy(made, &file, sizeof file);
    return file < 0 ? NOT_SUPPORTED : OK;
}

EXPORT CUresult cuPointerSetAttribute(const void *value, int attribute, Address at)
{
    ENTER();
    Address begin;
    size_t bytes;
    int type, device;
    bool sync_memops = attribute == 6 && value != NULL;
    return sync_memops ? what_is_at(at, &begin, &bytes, &type, &device) : INVALID_VALUE;
}

void reset_memory(void)
{
    for (struct range *range = ranges, *next; range != NULL; range = next) {
        next = range->next;
        free(range->steps);
        free(range);
    }
    for (struct buffer *buffer = buffers, *next; buffer != NULL; buffer = next) {
        next = buffer->next;
        free(buffer);
    }
    for (struct arena *arena = arenas, *next; arena != NULL; arena = next) {
        next = arena->next;
        munmap(arena->mapped, arena->bytes);
        free(arena);
    }
    arenas = NULL;
    free(owners);
    owners = NULL;
    owner_count = owner_room = 0;
    ranges = NULL;
    buffers = NULL;
    ranges_alive = mappings_alive = buffers_alive = pinned_alive = 0;
    for (int i = 0; i < DEVICES + HOSTS; i++) {
        struct place *place = i < DEVICES ? &devices[i] : &hosts[i - DEVICES];
        if (place->file != 0)
            close(place->file - 1);
        *place = (struct place){0};
    }
}
