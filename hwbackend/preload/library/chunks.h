/* Chunks: physical memory, pooled by place. */
#ifndef VSIM_PRELOAD_CHUNKS_H
#define VSIM_PRELOAD_CHUNKS_H

#include "books.h"

/* Chunks of one place that hold so many bytes together, in a list: from the pool first, largest
   first, and what lacks made anew. A pooled one of less than 1/32 of the whole is left alone, since
   each costs a call to map; with `all` they are all taken, and what is made anew comes in pieces
   where it can't come in one. CUDA_ERROR_OUT_OF_MEMORY leaves all as it was. */
CUresult take_chunks(struct chunk **taken, const struct device *device, int place, size_t bytes,
                     bool all);

/* Back to their pools; then down to the limit of each. */
void give_back_chunks(struct chunk *list);

/* Release pooled chunks until `keep` bytes are left at most; says how many were released. */
size_t trim_pool(int place, size_t keep);

#endif
