/* The books of manage mode: which memory there is, where it is mapped, and who has it.

   One mutex guards them all. It is held for a few steps in memory, never across a call of the
   driver: whoever calls it takes what it needs out of the books first and puts back what came of it.

   chunk  physical memory, one handle of the driver, in one place (a device or a host NUMA node)
   span   an address range with chunks mapped side by side; a large block, or a slab of small ones
   block  what the program was given
   home   a context: its blocks, its streams, and the fences behind which freed blocks wait */
#ifndef VSIM_PRELOAD_BOOKS_H
#define VSIM_PRELOAD_BOOKS_H

#include "driver.h"
#include "tree.h"

enum { MOST_DEVICES = 64, MOST_NODES = 64, MOST_PLACES = MOST_DEVICES + MOST_NODES };
enum placing { OWN_DEVICE, ON_PEER, ON_HOST, PLACINGS };
enum block_state { FREE, LIVE, PENDING };

struct chunk {
    struct node node; /* in its place's pool while nobody has it, by (bytes, handle) */
    struct chunk *next;
    CUmemHandle handle;
    size_t bytes;
    int place;
};

struct span {
    struct node by_base, by_bytes; /* the latter while it is kept, mapped and unused */
    struct span *next;
    CUdeviceptr base;
    size_t bytes, reserved; /* mapped, and addresses */
    struct chunk *chunks;   /* in the order of their addresses */
    int device;             /* whose memory the program takes it for */
    enum placing placing;
    bool slab;
    unsigned pins; /* somebody gives access to it just now */
};

struct block {
    struct node by_address, by_room; /* the latter while it is free, in a slab */
    struct block *before, *after;    /* neighbours in a slab */
    struct block *next;              /* in a list of freed ones */
    CUdeviceptr at;
    size_t room, asked;
    struct span *span;
    struct home *home;
    uint64_t id;
    enum block_state state;
};

struct pool {
    struct tree free;
    size_t free_bytes;
};

struct device {
    bool known, managed, spills_to_host;
    int id, node;
    unsigned char rdma;
    size_t granularity, total_bytes, pool_limit;
    uint64_t peers; /* devices that may read and write its memory, a bit each */
    struct tree free_blocks[PLACINGS];
    struct tree kept; /* spans that are mapped and unused, by (bytes, base) */
    size_t kept_bytes, pending_bytes, slab_bytes;
    uint64_t returns;   /* rises whenever blocks come back */
    unsigned gathering; /* atomic: threads that hold chunks which they may give back */
};

struct fence {
    struct fence *next;
    CUevent *events;
    size_t count;
    struct block *blocks;
};

struct home {
    CUcontext context;
    struct device *device;
    bool gone;
    struct block *pending;
    size_t pending_count, pending_bytes;
    struct fence *first, *last;
    unsigned settling; /* threads that are waiting for one of its fences */
    CUstream *streams; /* those that the default stream does not wait for */
    size_t stream_count, stream_room;
    CUevent *orphans; /* recorded on streams that are gone */
    size_t orphan_count, orphan_room;
    CUevent *events; /* unused */
    size_t event_count, event_room;
};

void lock_books(void);
void unlock_books(void);
void forget_books(void); /* in a child after fork: the parent's memory is not the child's */

extern __attribute__((visibility("hidden"))) struct pool pools[MOST_PLACES];
extern __attribute__((visibility("hidden"))) struct device devices[MOST_DEVICES];
extern __attribute__((visibility("hidden"))) struct tree spans;  /* by base, all of them */
extern __attribute__((visibility("hidden"))) struct tree blocks; /* by address, the LIVE ones */

static inline size_t rounded(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }
static inline int place_of_device(const struct device *device) { return device->id; }
static inline int place_of_node(int node) { return MOST_DEVICES + node; }

#endif
