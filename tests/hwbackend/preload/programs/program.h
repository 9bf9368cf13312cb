/* What the test programs share: the driver's functions, the fake's controls, and how they fail. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "../../../../hwbackend/preload/library/driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

CUresult cuInit(unsigned flags);
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
CUresult cuCtxSetCurrent(CUcontext context);
CUresult cuMemcpyHtoD_v2(CUdeviceptr target, const void *source, size_t bytes);
CUresult cuMemcpyDtoH_v2(void *target, CUdeviceptr source, size_t bytes);
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream);
CUresult cuMemsetD8_v2(CUdeviceptr target, unsigned char value, size_t count);
CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t count, CUstream stream);
CUresult cuStreamSynchronize(CUstream stream);
CUresult cuGraphInstantiateWithFlags(void **made, CUgraph graph, unsigned long long flags);
CUresult cuGraphLaunch(void *graph, CUstream stream);
CUresult cuGraphExecDestroy(void *graph);
CUresult cuGraphDestroy(CUgraph graph);
CUresult cuMemExportToShareableHandle(int *file, CUmemHandle handle, int type,
                                      unsigned long long flags);
CUresult cuMemGetHandleForAddressRange(void *made, CUdeviceptr at, size_t bytes, int type,
                                       unsigned long long flags);
CUresult cuPointerSetAttribute(const void *value, int attribute, CUdeviceptr at);

/* Of the fake driver (tests/hwbackend/fake). */
void fake_limit(int host, int number, size_t bytes);
size_t fake_used(int host, int number);
long fake_live(const char *kind);
size_t fake_hazards(void);
size_t fake_call_count(void);
const char *fake_call_name(size_t at);
bool fake_fail(const char *function, long nth, int code);
size_t fake_failures_left(void);
void fake_heal(void);

/* Of the library, where it is preloaded. */
int vsim_reserve(unsigned long long *address, size_t bytes, size_t reserve_bytes)
    __attribute__((weak));
int vsim_realloc(unsigned long long *address, size_t bytes) __attribute__((weak));
int vsim_pool_trim(size_t keep_bytes) __attribute__((weak));

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define DO(call)                                                                                   \
    do {                                                                                           \
        CUresult code_of_it = (call);                                                              \
        if (code_of_it != CUDA_SUCCESS) {                                                          \
            fprintf(stderr, "%s:%d: %s: code %d\n", __FILE__, __LINE__, #call, code_of_it);        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static inline CUcontext begin_on(int device)
{
    CUcontext context;
    DO(cuInit(0));
    DO(cuDevicePrimaryCtxRetain(&context, device));
    DO(cuCtxSetCurrent(context));
    return context;
}

/* Whether so many bytes from an address on all hold a value. */
static inline bool holds(CUdeviceptr at, unsigned char value, size_t bytes)
{
    unsigned char *found = malloc(bytes);
    DO(cuMemcpyDtoH_v2(found, at, bytes));
    bool same = true;
    for (size_t i = 0; i < bytes; i++)
        same &= found[i] == value;
    free(found);
    return same;
}

#endif
