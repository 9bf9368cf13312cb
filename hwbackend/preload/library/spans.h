/* Spans: address ranges with chunks mapped side by side. */
#ifndef VSIM_PRELOAD_SPANS_H
#define VSIM_PRELOAD_SPANS_H

#include "books.h"

/* Where to put a span: which placing, and in which pool that is. */
struct spot {
    enum placing placing;
    int place;
};

/* A new one, in the books, readable by its device and by all that were given access to it. Bytes
   and addresses are multiples of the granularity. A fault halfway leaves nothing behind. */
CUresult make_span(struct span **made, struct device *device, struct spot spot, size_t bytes,
                   size_t reserved, bool all);

/* Map more behind what is there, within its addresses; or drop the whole chunks at its end that lie
   above `bytes`. Nothing may be using what is dropped. */
CUresult grow_span(struct span *span, size_t bytes, bool all);
void shrink_span(struct span *span, size_t bytes);

/* The same memory, grown to `bytes`, under new addresses; the old ones go. Nothing may be using
   them. Where it fails, all is as it was. */
CUresult move_span(struct span *span, size_t bytes, size_t reserved, bool all);

/* Unmap one that nobody has and pool its chunks. Where the driver refuses, it is kept as it is. */
void dismantle(struct span *span);
void dismantle_list(struct span *list);

/* Keep one for the next block of its size, or say that there is no room for it (books locked). */
bool keep_span(struct span *span);
struct span *reuse_span(struct device *device, size_t bytes);

/* Dismantle all that are kept of a device; says how many bytes that were. */
size_t dismantle_kept(struct device *device);

/* Let a device read and write all memory of another, from now on. */
CUresult open_to_peer(struct device *owner, int peer);

#endif
