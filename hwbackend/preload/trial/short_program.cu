// Programs that want more memory than plain cudaMalloc gives, a word each:
//   blocks BYTES SHARE    blocks of so many bytes, until they are SHARE of the device's memory;
//     [FIRST]             one of FIRST bytes before them, so that few fill the rest
//   pooled                cudaMallocAsync fills a pool that keeps what is freed; then cudaMalloc
//   beyond BYTES          all of the device's memory and so many bytes more
//   holes BYTES           the device full of such blocks, every other freed; then one large block
//   granules              what one block of a size takes of the device
// Whatever is had is filled and checked. Exit code 3: out of memory.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <chrono>
#include <vector>

#define DO(call)                                                                                   \
    do {                                                                                           \
        cudaError_t code = (call);                                                                 \
        if (code != cudaSuccess) {                                                                 \
            printf("{\"failed\": \"%s\", \"call\": \"%s\", \"blocks\": %zu, \"bytes\": %zu}\n",        \
                   cudaGetErrorString(code), #call, had.size(), had_bytes);                        \
            exit(code == cudaErrorMemoryAllocation ? 3 : 1);                                       \
        }                                                                                          \
    } while (0)

struct Block {
    uint32_t *at;
    size_t bytes;
};
static std::vector<Block> had;
static size_t had_bytes;

__global__ void fill(uint32_t *data, size_t count, uint32_t seed)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        data[i] = (uint32_t)i * 2654435761u + seed;
}

__global__ void check(const uint32_t *data, size_t count, uint32_t seed, unsigned long long *wrong)
{
    unsigned long long mine = 0;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        mine += data[i] != (uint32_t)i * 2654435761u + seed;
    if (mine != 0)
        atomicAdd(wrong, mine);
}

static void take(size_t bytes)
{
    uint32_t *at;
    DO(cudaMalloc(&at, bytes));
    had.push_back({at, bytes});
    had_bytes += bytes;
}

static unsigned long long check_all(unsigned long long *wrong)
{
    unsigned long long found;
    DO(cudaMemset(wrong, 0, 8));
    for (size_t i = 0; i < had.size(); i++)
        fill<<<132, 256>>>(had[i].at, had[i].bytes / 4, (uint32_t)i);
    for (size_t i = 0; i < had.size(); i++)
        check<<<132, 256>>>(had[i].at, had[i].bytes / 4, (uint32_t)i, wrong);
    DO(cudaMemcpy(&found, wrong, 8, cudaMemcpyDeviceToHost));
    return found;
}

int main(int argc, char **argv)
{
    auto begin = std::chrono::steady_clock::now();
    const char *what = argc > 1 ? argv[1] : "";
    size_t bytes = argc > 2 ? strtoull(argv[2], nullptr, 10) : 0, available, total;
    unsigned long long *wrong, found = 0;
    DO(cudaMalloc(&wrong, 8));
    DO(cudaMemGetInfo(&available, &total));
    if (strcmp(what, "blocks") == 0) {
        double share = atof(argv[3]);
        if (argc > 4)
            take(strtoull(argv[4], nullptr, 10));
        while (had_bytes < share * total)
            take(bytes);
        found = check_all(wrong);
    } else if (strcmp(what, "pooled") == 0) {
        cudaMemPool_t pool;
        uint64_t all = UINT64_MAX;
        void *first;
        DO(cudaDeviceGetDefaultMemPool(&pool, 0));
        DO(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all));
        DO(cudaMallocAsync(&first, available / 10 * 6, 0));
        DO(cudaMemsetAsync(first, 1, available / 10 * 6, 0));
        DO(cudaFreeAsync(first, 0));
        DO(cudaDeviceSynchronize());
        take(available / 10 * 6);
        found = check_all(wrong);
    } else if (strcmp(what, "beyond") == 0) {
        size_t step = (size_t)1 << 30;
        while (had_bytes < total + bytes)
            take(step);
        found = check_all(wrong);
    } else if (strcmp(what, "holes") == 0) {
        uint32_t *at;
        while (cudaMalloc(&at, bytes) == cudaSuccess)
            had.push_back({at, bytes});
        cudaGetLastError();
        size_t blocks = had.size();
        std::vector<Block> kept;
        for (size_t i = 0; i < had.size(); i++) {
            if (i % 2)
                kept.push_back(had[i]);
            else
                DO(cudaFree(had[i].at));
        }
        had = kept;
        size_t large = (blocks - kept.size()) * bytes / 100 * 98 / 256 * 256;
        size_t now;
        DO(cudaMemGetInfo(&now, &total));
        cudaError_t code = cudaMalloc(&at, large);
        if (code == cudaSuccess) {
            had.push_back({at, large});
            found = check_all(wrong);
        }
        printf("{\"block\": %zu, \"blocks\": %zu, \"free\": %zu, \"wanted\": %zu, \"got\": %s, "
               "\"wrong\": %llu}\n",
               bytes, blocks, now, large, code == cudaSuccess ? "true" : "false", found);
        return found != 0;
    } else if (strcmp(what, "granules") == 0) {
        const size_t sizes[] = {1, 512, 4096, 65536, 1 << 20, (1 << 20) + 1, 1153434, 1 << 21,
                                (1 << 21) + 1, 3 << 20, 5 << 20, (size_t)33 << 20};
        printf("{\"granules\": {");
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t before, after;
            DO(cudaMemGetInfo(&before, &total));
            for (int k = 0; k < 64; k++)
                take(sizes[i]);
            DO(cudaMemGetInfo(&after, &total));
            printf("%s\"%zu\": %.0f", i ? ", " : "", sizes[i], (before - (double)after) / 64);
            for (const Block &block : had)
                DO(cudaFree(block.at));
            had.clear();
        }
        printf("}}\n");
        return 0;
    } else {
        fprintf(stderr, "blocks, pooled, beyond, holes or granules\n");
        return 2;
    }
    double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    printf("{\"blocks\": %zu, \"bytes\": %zu, \"total\": %zu, \"wrong\": %llu, \"wall_s\": %.3f}\n",
           had.size(), had_bytes, total, found, wall);
    for (const Block &block : had)
        DO(cudaFree(block.at));
    DO(cudaFree(wrong));
    return found != 0;
}
