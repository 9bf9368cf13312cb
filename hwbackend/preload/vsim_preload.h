/* What libvsim_preload.so offers to programs that know of it, in manage mode (--mode manage).

   Find the functions with dlsym(RTLD_DEFAULT, "vsim_realloc"): where the library is not preloaded,
   there are none. All return a CUresult: 0 done, 1 an argument is wrong, 2 out of memory, 801 the
   library does not manage this process's memory. Addresses are freed with cuMemFree or cudaFree. */
#ifndef VSIM_PRELOAD_H
#define VSIM_PRELOAD_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Allocate `bytes` of the current context's device with addresses for `reserve_bytes`: up to these
   vsim_realloc grows the block in place, by mapping what is added. */
int vsim_reserve(unsigned long long *address, size_t bytes, size_t reserve_bytes);

/* Make a block larger or smaller. Its bytes stay, up to the smaller of both sizes. A large block is
   grown by mapping and copies nothing; where its addresses do not suffice, the same memory is mapped
   at others, and *address changes. It waits for the context's work wherever memory moves or goes. */
int vsim_realloc(unsigned long long *address, size_t bytes);

/* Give pooled memory back to the driver until every device keeps at most `keep_bytes` of it. */
int vsim_pool_trim(size_t keep_bytes);

#ifdef __cplusplus
}
#endif

#endif
