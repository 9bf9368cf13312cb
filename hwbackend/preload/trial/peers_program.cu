// An unmodified program of two GPUs in one process: copies between them before and after access is
// enabled, kernels of each that read and write the other's memory, made before and after that.
// `peers_program share` instead hands memory to a second process by an IPC handle, on one GPU.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include <sys/wait.h>
#include <unistd.h>

#define DO(call)                                                                                   \
    do {                                                                                           \
        cudaError_t code = (call);                                                                 \
        if (code != cudaSuccess) {                                                                 \
            printf("{\"failed\": \"%s\", \"code\": %d, \"call\": \"%s\"}\n",                           \
                   cudaGetErrorString(code), (int)code, #call);                                    \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

__global__ void fill(uint32_t *data, size_t count, uint32_t seed)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        data[i] = (uint32_t)i * 2654435761u + seed;
}

__global__ void sum(const uint32_t *data, size_t count, unsigned long long *total)
{
    unsigned long long mine = 0;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        mine += data[i];
    atomicAdd(total, mine);
}

static unsigned long long sum_on(int device, const uint32_t *data, size_t count)
{
    unsigned long long *total, found;
    DO(cudaSetDevice(device));
    DO(cudaMalloc(&total, 8));
    DO(cudaMemset(total, 0, 8));
    sum<<<132, 256>>>(data, count, total);
    DO(cudaMemcpy(&found, total, 8, cudaMemcpyDeviceToHost));
    DO(cudaFree(total));
    return found;
}

struct Buffer {
    uint32_t *at;
    size_t count;
    int device;
};

static Buffer made(int device, size_t bytes, uint32_t seed)
{
    Buffer buffer = {nullptr, bytes / 4, device};
    DO(cudaSetDevice(device));
    DO(cudaMalloc(&buffer.at, bytes));
    fill<<<132, 256>>>(buffer.at, buffer.count, seed);
    DO(cudaDeviceSynchronize());
    return buffer;
}

static void check_place(const Buffer &buffer)
{
    cudaPointerAttributes found;
    DO(cudaPointerGetAttributes(&found, buffer.at + buffer.count / 2));
    if (found.type != cudaMemoryTypeDevice || found.device != buffer.device) {
        printf("{\"failed\": \"memory of device %d is said to be of %d\"}\n", buffer.device,
               found.device);
        exit(1);
    }
}

static int share(int argc, char **argv)
{
    cudaIpcMemHandle_t handle;
    const size_t count = 1 << 20;
    if (argc == 3) { // the second process: open what the first one names
        uint32_t *at;
        for (size_t i = 0; i < sizeof handle; i++) {
            unsigned byte;
            sscanf(argv[2] + 2 * i, "%2x", &byte);
            ((unsigned char *)&handle)[i] = (unsigned char)byte;
        }
        DO(cudaIpcOpenMemHandle((void **)&at, handle, cudaIpcMemLazyEnablePeerAccess));
        printf("{\"digest\": \"%llx\", \"shared\": true}\n", sum_on(0, at, count));
        DO(cudaIpcCloseMemHandle(at));
        return 0;
    }
    Buffer buffer = made(0, count * 4, 3);
    unsigned long long own = sum_on(0, buffer.at, count);
    cudaError_t code = cudaIpcGetMemHandle(&handle, buffer.at);
    if (code != cudaSuccess) { // refused: the program goes on with what it has
        cudaGetLastError();
        printf("{\"digest\": \"%llx\", \"shared\": false, \"code\": %d, \"said\": \"%s\"}\n",
               sum_on(0, buffer.at, count), (int)code, cudaGetErrorString(code));
        return own != sum_on(0, buffer.at, count);
    }
    char text[2 * sizeof handle + 1];
    for (size_t i = 0; i < sizeof handle; i++)
        sprintf(text + 2 * i, "%02x", ((unsigned char *)&handle)[i]);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", argv[0], "share", text, (char *)nullptr);
        _exit(127);
    }
    int status = 1;
    waitpid(child, &status, 0);
    DO(cudaFree(buffer.at));
    return status != 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "share") == 0)
        return share(argc, argv);
    const size_t sizes[] = {1000, 300004, 1 << 20, 1153436, 5 << 20, 64 << 20};
    unsigned long long digest = 0;
    std::vector<Buffer> buffers;
    auto mix = [&](unsigned long long found) { digest = digest * 1000003 + found; };
    auto another = [&](uint32_t seed) {
        for (int device = 0; device < 2; device++)
            for (size_t bytes : sizes)
                buffers.push_back(made(device, bytes, seed++));
    };
    another(1);
    for (size_t i = 0; i < 6; i++) { // without access: the driver copies by its own means
        DO(cudaMemcpyPeer(buffers[6 + i].at, 1, buffers[i].at, 0, sizes[i]));
        mix(sum_on(1, buffers[6 + i].at, buffers[i].count));
    }
    for (int device = 0; device < 2; device++) {
        DO(cudaSetDevice(device));
        DO(cudaDeviceEnablePeerAccess(1 - device, 0));
    }
    another(100);
    for (const Buffer &buffer : buffers) {
        check_place(buffer);
        mix(sum_on(1 - buffer.device, buffer.at, buffer.count)); // the other reads it
        DO(cudaSetDevice(1 - buffer.device));
        fill<<<132, 256>>>(buffer.at, buffer.count, 77); // and writes it
        DO(cudaDeviceSynchronize());
        mix(sum_on(buffer.device, buffer.at, buffer.count));
    }
    cudaStream_t stream;
    DO(cudaSetDevice(1));
    DO(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int round = 0; round < 20; round++) { // what is freed comes again, for the peer too
        Buffer from = made(0, sizes[round % 6], (uint32_t)round), to = made(1, sizes[round % 6], 0);
        DO(cudaSetDevice(1));
        DO(cudaMemcpyAsync(to.at, from.at, from.count * 4, cudaMemcpyDefault, stream));
        DO(cudaStreamSynchronize(stream));
        mix(sum_on(1, to.at, to.count));
        mix(sum_on(1, from.at, from.count));
        DO(cudaFree(from.at));
        DO(cudaFree(to.at));
    }
    DO(cudaStreamDestroy(stream));
    for (int device = 0; device < 2; device++) {
        DO(cudaSetDevice(device));
        DO(cudaDeviceDisablePeerAccess(1 - device));
    }
    for (const Buffer &buffer : buffers)
        mix(sum_on(buffer.device, buffer.at, buffer.count));
    for (const Buffer &buffer : buffers)
        DO(cudaFree(buffer.at));
    printf("{\"digest\": \"%llx\"}\n", digest);
    return 0;
}
