// What launches and loads cost by themselves.

extern "C" __global__ void empty() {}

// Writes a ring through all `slots` of 128 bytes: slot i leads to (a * i + c) mod slots, which
// visits every slot where slots is a power of two, c is odd and a is 1 more than a multiple of 4.
extern "C" __global__ void make_ring(unsigned long long* ring, unsigned long long slots,
                                     unsigned long long a, unsigned long long c) {
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x; i < slots;
         i += step)
        ring[i * 16] = (a * i + c) & (slots - 1);
}

// One thread goes `steps` steps along a ring, each load waiting for the one before it.
extern "C" __global__ void follow(const unsigned long long* ring, unsigned long long from,
                                  int steps, unsigned long long* end) {
    unsigned long long at = from;
    for (int i = 0; i < steps; ++i)
        asm volatile("ld.global.cv.u64 %0, [%1];" : "=l"(at) : "l"(ring + at * 16));
    *end = at;
}
