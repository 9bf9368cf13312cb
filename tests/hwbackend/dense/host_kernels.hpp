// CUDA's words on a CPU, as far as small_kernels.cu uses them. The threads of a block are fibers that
// go on in turn: one that shuffles or waits for the others yields, once all others have come there.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>

#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(threads)

struct Place {
    unsigned x, y, z;
};
static Place threadIdx, blockIdx, blockDim, gridDim;

constexpr int MOST_THREADS = 1024, STACK_BYTES = 64 << 10;
static ucontext_t scheduler, fibers[MOST_THREADS];
static bool finished[MOST_THREADS];
static unsigned long long exchanged[MOST_THREADS];

static void yield() { swapcontext(&fibers[threadIdx.x], &scheduler); }
static void __syncthreads() { yield(); }

template <class Value>
static Value __shfl_xor_sync(unsigned, Value value, int lane) {
    std::memcpy(&exchanged[threadIdx.x], &value, sizeof value);
    yield();
    Value other;
    std::memcpy(&other, &exchanged[threadIdx.x ^ lane], sizeof other);
    yield();
    return other;
}

static float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
static float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
#define __expf std::exp // glibc has functions of CUDA's names
#define __logf std::log
#define __sincosf sine_and_cosine
static void sine_and_cosine(float angle, float* sine, float* cosine) {
    *sine = std::sin(angle);
    *cosine = std::cos(angle);
}
static unsigned cvt_rn_bf16(float value) {
    const unsigned bits = __float_as_uint(value);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static void (*body)(void**);
static void** arguments;

static void fiber() {
    body(arguments);
    finished[threadIdx.x] = true;
    swapcontext(&fibers[threadIdx.x], &scheduler);
}

static void run_block(char* stacks) {
    for (unsigned each = 0; each < blockDim.x; ++each) {
        finished[each] = false;
        getcontext(&fibers[each]);
        fibers[each].uc_stack.ss_sp = stacks + (size_t)each * STACK_BYTES;
        fibers[each].uc_stack.ss_size = STACK_BYTES;
        fibers[each].uc_link = nullptr;
        makecontext(&fibers[each], fiber, 0);
    }
    for (bool going = true; going;) {
        going = false;
        for (unsigned each = 0; each < blockDim.x; ++each) {
            if (finished[each]) continue;
            threadIdx.x = each;
            swapcontext(&scheduler, &fibers[each]);
            going |= !finished[each];
        }
    }
}

// As cuLaunchKernel: arguments are addresses of values.
static void launch(void (*kernel)(void**), const unsigned* grid, unsigned threads, void** args) {
    char* stacks = (char*)std::malloc((size_t)threads * STACK_BYTES);
    body = kernel, arguments = args;
    blockDim = {threads, 1, 1}, gridDim = {grid[0], grid[1], 1};
    for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) run_block(stacks);
    std::free(stacks);
}

template <auto Kernel>
struct Entry;
template <class... A, void (*Kernel)(A...)>
struct Entry<Kernel> {
    template <size_t... I>
    static void unpacked(void** args, std::index_sequence<I...>) {
        Kernel(*(A*)args[I]...);
    }
    static void call(void** args) { unpacked(args, std::index_sequence_for<A...>()); }
    static int sizes(int* out) {
        int at = 0;
        ((out[at++] = (int)sizeof(A)), ...);
        return at;
    }
};

#define ENTRY(name)                                                                        \
    extern "C" void launch_##name(const unsigned* grid, unsigned threads, void** args) {   \
        launch(Entry<name>::call, grid, threads, args);                                    \
    }                                                                                      \
    extern "C" int sizes_##name(int* out) { return Entry<name>::sizes(out); }
