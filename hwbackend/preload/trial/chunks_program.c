/* What virtual memory of one size costs in chunks of other sizes, microseconds a call of each kind:
   chunks_program TOTAL CHUNK REPEATS [host]: the device's, or the host's next to it. Needs neither a
   toolkit nor the library. */
#include "../library/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

CUresult cuInit(unsigned flags);
CUresult cuCtxSetCurrent(CUcontext context);

#define GET(name) __typeof__(&name) do_##name = (__typeof__(&name))dlsym(driver, #name)
#define DO(call)                                                                                   \
    do {                                                                                           \
        int code = (call);                                                                         \
        if (code != 0) {                                                                           \
            printf("{\"failed\": %d, \"call\": \"%s\"}\n", code, #call);                               \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

int main(int count, char **words)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (count < 4 || driver == NULL)
        return 2;
    size_t total = strtoull(words[1], NULL, 10), chunk = strtoull(words[2], NULL, 10);
    GET(cuInit);
    GET(cuDevicePrimaryCtxRetain);
    GET(cuCtxSetCurrent);
    GET(cuDeviceGetAttribute);
    GET(cuMemAddressReserve);
    GET(cuMemAddressFree);
    GET(cuMemCreate);
    GET(cuMemMap);
    GET(cuMemSetAccess);
    GET(cuMemUnmap);
    GET(cuMemRelease);
    CUcontext context;
    DO(do_cuInit(0));
    DO(do_cuDevicePrimaryCtxRetain(&context, 0));
    DO(do_cuCtxSetCurrent(context));
    size_t chunks = total / chunk;
    CUmemHandle *handles = malloc(chunks * sizeof *handles);
    MemProp prop = {.type = 1, .location = {LOCATION_DEVICE, 0}};
    if (count > 4) {
        prop.location.type = LOCATION_HOST_NUMA;
        DO(do_cuDeviceGetAttribute(&prop.location.id, ATTRIBUTE_HOST_NUMA_ID, 0));
    }
    MemAccess access = {{LOCATION_DEVICE, 0}, ACCESS_READ_WRITE};
    printf("{\"us\": [");
    for (int repeat = 0; repeat < atoi(words[3]); repeat++) {
        double at[7];
        CUdeviceptr base;
        DO(do_cuMemAddressReserve(&base, total, 0, 0, 0));
        at[0] = now_us();
        for (size_t i = 0; i < chunks; i++)
            DO(do_cuMemCreate(&handles[i], chunk, &prop, 0));
        at[1] = now_us();
        for (size_t i = 0; i < chunks; i++)
            DO(do_cuMemMap(base + i * chunk, chunk, 0, handles[i], 0));
        at[2] = now_us();
        DO(do_cuMemSetAccess(base, total, &access, 1));
        at[3] = now_us();
        DO(do_cuMemUnmap(base, total));
        at[4] = now_us();
        for (size_t i = 0; i < chunks; i++)
            DO(do_cuMemRelease(handles[i]));
        at[5] = now_us();
        DO(do_cuMemAddressFree(base, total));
        printf("%s[%.1f, %.1f, %.1f, %.1f, %.1f]", repeat ? ", " : "", at[1] - at[0],
               at[2] - at[1], at[3] - at[2], at[4] - at[3], at[5] - at[4]);
    }
    printf("]}\n");
    return 0;
}
