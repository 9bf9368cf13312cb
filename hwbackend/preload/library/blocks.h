/* Blocks: what programs are given in place of the driver's plain memory. */
#ifndef VSIM_PRELOAD_BLOCKS_H
#define VSIM_PRELOAD_BLOCKS_H

#include "books.h"

/* As cuMemAlloc, of the current context's device. `reserved` are the addresses to grow into. */
CUresult take_block(struct home *home, CUdeviceptr *at, size_t bytes, size_t reserved,
                    enum placing *placing);

/* As cuMemFree. `mine` says whether the address lies in memory of this library; where it does not,
   nothing was done. `asked` is what the program had asked for. */
CUresult free_block(CUdeviceptr at, bool *mine, size_t *asked);

/* The live block that holds an address, as plain values; `within` says that the address lies in
   memory of this library at all. */
struct found {
    bool live, within;
    CUdeviceptr at;
    size_t bytes;
    uint64_t id;
    CUcontext context;
    int device;
};
struct found find_block(CUdeviceptr at);

CUresult resize_block(CUdeviceptr *at, size_t bytes);

/* What the driver counts as used and no program has: pooled, kept and freed memory. */
size_t unused_bytes(CUdevice device);

/* Give back to the driver what is unused beyond `keep` bytes of each device. */
void trim_unused(size_t keep);
bool trim_device(struct device *device);

/* Freed blocks are free (books locked): hands back the spans that are to be dismantled. */
struct span *take_back(struct block *list);

/* The context is gone: so are its blocks. */
void free_blocks_of(struct home *home);

#endif
