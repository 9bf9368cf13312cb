// Pages from address to address by multiprocessors, of any place that the GPU can reach.
typedef unsigned long long u64;

static constexpr int MOST = 240;  // pages of one launch: both lists fit a kernel's 4 KiB of arguments
static constexpr int THREADS = 512, TOGETHER = 4;
static constexpr u64 SEGMENT = THREADS * TOGETHER;  // words of 16 bytes that a block moves at once

struct Pages {
    u64 source[MOST], target[MOST];
    u64 words;  // of a page
    int pages;
};

#ifdef ARGUMENT_BYTES
static_assert(sizeof(Pages) == ARGUMENT_BYTES, "pages.py counts other arguments");
#endif

__device__ __forceinline__ uint4 load_once(const uint4* from) {
    uint4 r;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(from) : "memory");
    return r;
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) copy_pages(const __grid_constant__ Pages a) {
    const u64 of_page = (a.words + SEGMENT - 1) / SEGMENT;
    for (u64 at = blockIdx.x; at < of_page * a.pages; at += gridDim.x) {
        const int page = (int)(at / of_page);
        const u64 first = at % of_page * SEGMENT + threadIdx.x;
        const uint4* from = (const uint4*)a.source[page];
        uint4* to = (uint4*)a.target[page];
        uint4 held[TOGETHER];
        #pragma unroll
        for (int i = 0; i < TOGETHER; i++)
            if (first + i * THREADS < a.words) held[i] = load_once(from + first + i * THREADS);
        #pragma unroll
        for (int i = 0; i < TOGETHER; i++)
            if (first + i * THREADS < a.words) to[first + i * THREADS] = held[i];
    }
}
