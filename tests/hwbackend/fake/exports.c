/* The names under which libcuda exports functions that changed since CUDA 2, for programs that link
   it or look them up by dlsym. Every other file has them by the names that cuGetProcAddress takes. */
#include "fake.h"

/* A jump: whatever the arguments are, they go on as they came. */
#define JUMP(exported, function)                                                                   \
    __asm__(".text\n.globl " #exported "\n.type " #exported ", @function\n" #exported ":\n"        \
            "    jmp " #function "@PLT\n.size " #exported ", . - " #exported "\n");

JUMP(cuCtxDestroy_v2, cuCtxDestroy)
JUMP(cuCtxPopCurrent_v2, cuCtxPopCurrent)
JUMP(cuCtxPushCurrent_v2, cuCtxPushCurrent)
JUMP(cuDevicePrimaryCtxRelease_v2, cuDevicePrimaryCtxRelease)
JUMP(cuDevicePrimaryCtxReset_v2, cuDevicePrimaryCtxReset)
JUMP(cuDeviceTotalMem_v2, cuDeviceTotalMem)
JUMP(cuEventDestroy_v2, cuEventDestroy)
JUMP(cuMemAlloc_v2, cuMemAlloc)
JUMP(cuMemAllocPitch_v2, cuMemAllocPitch)
JUMP(cuMemFree_v2, cuMemFree)
JUMP(cuMemGetAddressRange_v2, cuMemGetAddressRange)
JUMP(cuMemGetInfo_v2, cuMemGetInfo)
JUMP(cuMemcpyDtoDAsync_v2, cuMemcpyDtoDAsync)
JUMP(cuMemcpyDtoD_v2, cuMemcpyDtoD)
JUMP(cuMemcpyDtoHAsync_v2, cuMemcpyDtoHAsync)
JUMP(cuMemcpyDtoH_v2, cuMemcpyDtoH)
JUMP(cuMemcpyHtoDAsync_v2, cuMemcpyHtoDAsync)
JUMP(cuMemcpyHtoD_v2, cuMemcpyHtoD)
JUMP(cuMemsetD8_v2, cuMemsetD8)
JUMP(cuMemsetD32_v2, cuMemsetD32)
JUMP(cuStreamBeginCapture_v2, cuStreamBeginCapture)
JUMP(cuStreamDestroy_v2, cuStreamDestroy)
JUMP(cuMemAllocAsync_ptsz, cuMemAllocAsync)
JUMP(cuMemFreeAsync_ptsz, cuMemFreeAsync)
JUMP(cuMemAllocFromPoolAsync_ptsz, cuMemAllocFromPoolAsync)
JUMP(cuStreamBeginCapture_v2_ptsz, cuStreamBeginCapture)
JUMP(cuStreamEndCapture_ptsz, cuStreamEndCapture)
JUMP(cuStreamBeginCaptureToGraph_ptsz, cuStreamBeginCaptureToGraph)
