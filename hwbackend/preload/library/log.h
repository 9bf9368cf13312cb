/* Log: what happened, one record an event, in a file of each process.

   A file is begun by the first event, so a program that never touches the driver makes none. It
   lives in shared mappings: what was written is in the file at once, also after SIGKILL. Threads
   take records one after another with one addition and mark each complete when they are done. */
#ifndef VSIM_PRELOAD_LOG_H
#define VSIM_PRELOAD_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum event_op {
    OP_MALLOC = 1,
    OP_FREE = 2,
    OP_REALLOC = 3,
    OP_END = 4,          /* the process ended in order */
    OP_CREATE = 5,       /* from here on what the library did, in manage mode: a new chunk */
    OP_GATHER = 6,       /* chunks of the pool under one address; `other` counts them */
    OP_REUSE = 7,        /* memory that was mapped already */
    OP_WAIT = 8,         /* for work that may use freed memory */
    OP_TRIM = 9,         /* pooled memory went back to the driver */
    OP_SPILL = 10,       /* a block was placed outside its device */
    OP_RETRY = 11,       /* a call of the program ran out of memory and was made again */
    OP_CONTEXT_END = 12, /* a context went, and what was allocated in it; `other` is its handle */
    OP_MAP = 13,         /* the program mapped a chunk of its own; `other` is its handle */
    OP_UNMAP = 14,       /* and unmapped what is there */
    OP_RETAIN = 15,      /* it took one more handle of a chunk; the address is the handle */
};
enum event_kind {
    KIND_PLAIN = 1,   /* cuMemAlloc, cuMemAllocPitch: cudaMalloc, cudaMallocPitch */
    KIND_ASYNC = 2,   /* cuMemAllocAsync and from pools */
    KIND_MANAGED = 3, /* cuMemAllocManaged */
    KIND_VMM = 4,     /* cuMemCreate; the address is the handle */
};

struct event {
    uint64_t time_ns; /* CLOCK_MONOTONIC: after a malloc, before a free */
    uint64_t address, bytes, stream, other; /* other: of a malloc its context */
    uint32_t thread, duration_ns;
    uint16_t op, kind, device, place; /* place: 0 own device, 1 a peer, 2 host memory */
    uint32_t result, complete;        /* complete: 1 once all of the record is written */
};
_Static_assert(sizeof(struct event) == 64, "the reader counts on it");

uint64_t log_now_ns(void);
bool log_wanted(void);
void log_event(struct event event); /* thread and complete are filled in */
void log_end(void);
void log_context_end(const void *context);
void log_forget(void); /* in a child after fork: its events go to a file of its own */

#endif
