// What cudaMalloc and cudaFree of one size cost: calls_program BYTES PAIRS ROUNDS. Each round holds
// sixteen blocks at a time; a kernel has written to each before it is freed. Microseconds a pair.
#include <chrono>
#include <cstdio>
#include <cstdlib>

__global__ void touch(char *data) { data[threadIdx.x] = 1; }

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    size_t bytes = strtoull(argv[1], nullptr, 10);
    int pairs = atoi(argv[2]), rounds = atoi(argv[3]);
    void *held[16] = {};
    printf("{\"us\": [");
    for (int round = -1; round < rounds; round++) { // the first one warms up
        cudaDeviceSynchronize();
        auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < pairs; i++) {
            void *&slot = held[i % 16];
            if (slot != nullptr && cudaFree(slot) != cudaSuccess)
                return 1;
            if (cudaMalloc(&slot, bytes) != cudaSuccess)
                return 1;
            touch<<<1, bytes < 32 ? bytes : 32>>>((char *)slot);
        }
        cudaDeviceSynchronize();
        std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
        if (round >= 0)
            printf("%s%.3f", round ? ", " : "", took.count() / pairs);
    }
    printf("]}\n");
    return 0;
}
