// An unmodified program of nvcc's, which links cudart statically: streams, events, pitched memory, a
// captured graph, memory freed while kernels use it. Prints a checksum and the time of its rounds.
// With the word `turns` a round waits for a line of standard input, as those of rounds.py do.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <chrono>
#include <vector>
#include <algorithm>

#define DO(call)                                                                                   \
    do {                                                                                           \
        cudaError_t code = (call);                                                                 \
        if (code != cudaSuccess) {                                                                 \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(code)); \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

__global__ void mix(uint32_t *data, size_t count, uint32_t seed)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        uint32_t x = (uint32_t)i * 2654435761u + seed;
        for (int k = 0; k < 8; k++)
            x = x * 1664525u + 1013904223u;
        data[i] = x;
    }
}

__global__ void sum(const uint32_t *data, size_t count, unsigned long long *total)
{
    unsigned long long mine = 0;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        mine += data[i];
    atomicAdd(total, mine);
}

static double now_s()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static double busy_s()
{
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static bool told()
{
    char line[64];
    return fgets(line, sizeof line, stdin) != nullptr;
}

int main(int argc, char **argv)
{
    const int rounds = 24, first = 2, blocks = 64;
    const bool turns = argc > 1 && strcmp(argv[1], "turns") == 0;
    DO(cudaFree(0));
    size_t free_before, free_after, total;
    DO(cudaMemGetInfo(&free_before, &total));
    cudaStream_t streams[4];
    for (auto &stream : streams)
        DO(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    unsigned long long *sums, checksum = 0;
    DO(cudaMalloc(&sums, 8));
    std::vector<double> times;
    for (int round = 0; turns || round < rounds; round++) {
        if (turns && round == first) {
            puts("ready");
            fflush(stdout);
        }
        if (turns && round >= first && !told())
            break;
        DO(cudaMemset(sums, 0, 8));
        DO(cudaDeviceSynchronize());
        double begin = now_s(), busy = busy_s();
        for (int i = 0; i < blocks; i++) {
            size_t count = ((size_t)(i * 37 % 41) + 1) * 400009; // 1.6 MB to 66 MB
            uint32_t *data, *copy;
            cudaStream_t stream = streams[i % 4];
            DO(cudaMalloc(&data, count * 4));
            DO(cudaMalloc(&copy, count * 4));
            mix<<<512, 256, 0, stream>>>(data, count, (uint32_t)(round * blocks + i));
            DO(cudaMemcpyAsync(copy, data, count * 4, cudaMemcpyDeviceToDevice, stream));
            sum<<<512, 256, 0, stream>>>(copy, count, sums);
            DO(cudaFree(data)); // the kernels that use it may not have begun
            DO(cudaFree(copy));
        }
        unsigned long long found;
        DO(cudaDeviceSynchronize());
        DO(cudaMemcpy(&found, sums, 8, cudaMemcpyDeviceToHost));
        times.push_back(now_s() - begin);
        checksum = checksum * 31 + found;
        if (turns && round >= first) {
            printf("{\"wall_s\": %.9f, \"cpu_s\": %.9f}\n", times.back(), busy_s() - busy);
            fflush(stdout);
        }
    }
    // A graph whose capture sees frees and allocations, replayed.
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    uint32_t *kept, *freed, *late;
    const size_t count = 1 << 20;
    DO(cudaMalloc(&kept, count * 4));
    DO(cudaMalloc(&freed, count * 4));
    DO(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeRelaxed));
    mix<<<512, 256, 0, streams[0]>>>(kept, count, 7);
    DO(cudaMalloc(&late, 64 << 20));
    DO(cudaFree(freed));
    sum<<<512, 256, 0, streams[0]>>>(kept, count, sums);
    DO(cudaStreamEndCapture(streams[0], &graph));
    DO(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 3; i++)
        DO(cudaGraphLaunch(exec, streams[0]));
    DO(cudaStreamSynchronize(streams[0]));
    unsigned long long found;
    DO(cudaMemcpy(&found, sums, 8, cudaMemcpyDeviceToHost));
    checksum = checksum * 31 + found;
    DO(cudaGraphExecDestroy(exec));
    DO(cudaGraphDestroy(graph));
    cudaPointerAttributes attributes;
    DO(cudaPointerGetAttributes(&attributes, kept + 100));
    bool is_device = attributes.type == cudaMemoryTypeDevice && attributes.device == 0 &&
                     attributes.devicePointer == kept + 100;
    void *pitched;
    size_t pitch;
    DO(cudaMallocPitch(&pitched, &pitch, 1000, 100));
    DO(cudaMemset2D(pitched, pitch, 1, 1000, 100));
    std::vector<unsigned char> host(1000 * 100);
    DO(cudaMemcpy2D(host.data(), 1000, pitched, pitch, 1000, 100, cudaMemcpyDeviceToHost));
    for (unsigned char byte : host)
        checksum += byte;
    DO(cudaFree(pitched));
    DO(cudaFree(kept));
    DO(cudaFree(late));
    DO(cudaFree(sums));
    for (auto &stream : streams)
        DO(cudaStreamDestroy(stream));
    DO(cudaDeviceSynchronize());
    DO(cudaMemGetInfo(&free_after, &total));
    std::sort(times.begin(), times.end());
    printf("{\"digest\": \"%llx-%d\", \"work_s\": %.6f, \"free_before\": %zu, \"free_after\": %zu, "
           "\"pitch\": %zu}\n",
           checksum, is_device, times[0], free_before, free_after, pitch);
    return 0;
}
