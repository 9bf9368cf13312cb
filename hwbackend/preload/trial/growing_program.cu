// Growth of a buffer: `copy BEGIN ADDED` allocates a larger one, copies and frees; `map BEGIN ADDED`
// asks the preloaded library. Prints microseconds of each of some growths, each from BEGIN.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

#define DO(call)                                                                                   \
    do {                                                                                           \
        int code = (int)(call);                                                                    \
        if (code != 0) {                                                                           \
            printf("{\"failed\": %d, \"call\": \"%s\"}\n", code, #call);                               \
            return code == 2 ? 3 : 1;                                                              \
        }                                                                                          \
    } while (0)

static double now_us()
{
    return std::chrono::duration<double, std::micro>(
               std::chrono::steady_clock::now().time_since_epoch()).count();
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    bool map = strcmp(argv[1], "map") == 0;
    size_t begin = strtoull(argv[2], nullptr, 10), added = strtoull(argv[3], nullptr, 10);
    int repeats = atoi(argv[4]);
    auto reserve = (int (*)(unsigned long long *, size_t, size_t))dlsym(RTLD_DEFAULT, "vsim_reserve");
    auto resize = (int (*)(unsigned long long *, size_t))dlsym(RTLD_DEFAULT, "vsim_realloc");
    auto trim = (int (*)(size_t))dlsym(RTLD_DEFAULT, "vsim_pool_trim");
    DO(cudaFree(0));
    printf("{\"us\": [");
    for (int i = 0; i < repeats; i++) {
        unsigned char probe[2] = {0, 0};
        double us;
        if (map) {
            unsigned long long at;
            DO(reserve(&at, begin, begin + added));
            DO(cudaMemset((void *)at, 5, begin));
            DO(cudaDeviceSynchronize());
            double from = now_us();
            DO(resize(&at, begin + added));
            us = now_us() - from;
            DO(cudaMemset((void *)(at + begin), 6, added));
            DO(cudaMemcpy(&probe[0], (void *)(at + begin - 1), 1, cudaMemcpyDeviceToHost));
            DO(cudaMemcpy(&probe[1], (void *)(at + begin + added - 1), 1, cudaMemcpyDeviceToHost));
            DO(cudaFree((void *)at));
            DO(trim(0)); // so that the next one's chunks are new, too
        } else {
            void *at, *larger;
            DO(cudaMalloc(&at, begin));
            DO(cudaMemset(at, 5, begin));
            DO(cudaDeviceSynchronize());
            double from = now_us();
            DO(cudaMalloc(&larger, begin + added));
            DO(cudaMemcpy(larger, at, begin, cudaMemcpyDeviceToDevice));
            DO(cudaFree(at));
            DO(cudaDeviceSynchronize());
            us = now_us() - from;
            DO(cudaMemset((char *)larger + begin, 6, added));
            DO(cudaMemcpy(&probe[0], (char *)larger + begin - 1, 1, cudaMemcpyDeviceToHost));
            DO(cudaMemcpy(&probe[1], (char *)larger + begin + added - 1, 1, cudaMemcpyDeviceToHost));
            DO(cudaFree(larger));
        }
        if (probe[0] != 5 || probe[1] != 6)
            return 1;
        printf("%s%.1f", i ? ", " : "", us);
    }
    printf("]}\n");
    return 0;
}
