/* The three ways by which a program gets at a function of the driver: its symbol, dlsym and dlvsym,
   and cuGetProcAddress. */
#ifndef VSIM_PRELOAD_DOORS_H
#define VSIM_PRELOAD_DOORS_H

#include "driver.h"

/* The library's own function for what the driver calls `name`, exactly; NULL if it hooks none. */
void *wrapper_of_symbol(const char *name);

/* The same for a name without its suffix, as cuGetProcAddress takes it, at a version of CUDA. */
void *wrapper_of_base(const char *name, int version, uint64_t flags);

#endif
