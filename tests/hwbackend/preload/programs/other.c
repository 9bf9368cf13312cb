/* Another library for LD_PRELOAD that hooks the driver's memory, and says at the end how often it was
   called. BY_HANDLE: it finds the driver's functions by dlopen and dlsym, else by RTLD_NEXT. */
#define _GNU_SOURCE
#include "../../../../hwbackend/preload/library/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned calls, depth;

static void *next(const char *name)
{
#ifdef BY_HANDLE
    return dlsym(dlopen("libcuda.so.1", RTLD_NOW), name);
#else
    return dlsym(RTLD_NEXT, name);
#endif
}

CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes)
{
    calls++;
    if (++depth > 3) {
        fputs("a circle\n", stderr);
        abort();
    }
    CUresult code = ((CUresult(*)(CUdeviceptr *, size_t))next("cuMemAlloc_v2"))(at, bytes);
    depth--;
    return code;
}

CUresult cuMemFree_v2(CUdeviceptr at)
{
    calls++;
    if (++depth > 3) {
        fputs("a circle\n", stderr);
        abort();
    }
    CUresult code = ((CUresult(*)(CUdeviceptr))next("cuMemFree_v2"))(at);
    depth--;
    return code;
}

__attribute__((destructor)) static void tell(void)
{
    if (getenv("TELL") != NULL)
        printf("other: %u\n", calls);
}
