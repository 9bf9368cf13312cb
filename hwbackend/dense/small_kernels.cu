// The small kernels of a decoder's step, bf16 in and out, sums in float32. No header is included, so
// that NVRTC needs none beside it. A vector is 8 numbers, 16 bytes: what one thread moves at once.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short bf16;

struct alignas(16) Vector {
    u32 word[4];
};

__device__ __forceinline__ float low(u32 word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high(u32 word) { return __uint_as_float(word & 0xffff0000u); }
__device__ __forceinline__ float number(bf16 value) { return __uint_as_float((u32)value << 16); }

// Two floats rounded to nearest even, the first in the low half.
__device__ __forceinline__ u32 packed(float first, float second) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
    return word;
}

__device__ __forceinline__ void unpack(const Vector& from, float* to) {
#pragma unroll
    for (int each = 0; each < 4; ++each) {
        to[2 * each] = low(from.word[each]);
        to[2 * each + 1] = high(from.word[each]);
    }
}

__device__ __forceinline__ Vector pack(const float* from) {
    Vector to;
#pragma unroll
    for (int each = 0; each < 4; ++each) to.word[each] = packed(from[2 * each], from[2 * each + 1]);
    return to;
}

// Sum over a block of whole warps, the same in every thread.
__device__ __forceinline__ float block_sum(float value) {
    __shared__ float parts[32];
#pragma unroll
    for (int lane = 16; lane; lane >>= 1) value += __shfl_xor_sync(0xffffffffu, value, lane);
    if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = value;
    __syncthreads();
    float sum = (threadIdx.x & 31) < (blockDim.x >> 5) ? parts[threadIdx.x & 31] : 0.0f;
#pragma unroll
    for (int lane = 16; lane; lane >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, lane);
    return sum;
}

// out[row] = table[ids[row]]: embeddings, rows that are sampled, tokens sorted by expert.
// Grid (rows), any block.
extern "C" __global__ void gather_rows(const Vector* table, const int* ids, Vector* out, int vectors) {
    const Vector* from = table + (u64)ids[blockIdx.x] * vectors;
    Vector* to = out + (u64)blockIdx.x * vectors;
    for (int at = threadIdx.x; at < vectors; at += blockDim.x) to[at] = from[at];
}

// residual += delta (where there is one); out = residual / rms(residual) * weight.
// Grid (rows), block of whole warps with 4 vectors a thread at most.
extern "C" __global__ void __launch_bounds__(1024)
add_norm(const Vector* delta, Vector* residual, const Vector* weight, Vector* out, int vectors,
         float epsilon) {
    const u64 row = (u64)blockIdx.x * vectors;
    float held[4][8];
    float squares = 0.0f;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        const int at = threadIdx.x + part * blockDim.x;
        if (at < vectors) {
            unpack(residual[row + at], held[part]);
            if (delta) {
                float added[8];
                unpack(delta[row + at], added);
#pragma unroll
                for (int each = 0; each < 8; ++each) held[part][each] += added[each];
                residual[row + at] = pack(held[part]);
            }
#pragma unroll
            for (int each = 0; each < 8; ++each) squares += held[part][each] * held[part][each];
        }
    }
    const float scale = rsqrtf(block_sum(squares) / (8.0f * vectors) + epsilon);
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        const int at = threadIdx.x + part * blockDim.x;
        if (at < vectors) {
            float gain[8];
            unpack(weight[at], gain);
#pragma unroll
            for (int each = 0; each < 8; ++each) held[part][each] *= scale * gain[each];
            out[row + at] = pack(held[part]);
        }
    }
}

// Rotate queries into a buffer of their own and keys where they are. A row of qkv is query heads, key
// heads, value heads; a row of angles is the cosines of half a head, then the sines, in float32.
// Grid (tokens), any block.
extern "C" __global__ void rotary(Vector* qkv, const int* positions, const float* angles,
                                  Vector* queries, int heads, int kv_heads, int half_vectors) {
    const int head_vectors = 2 * half_vectors;
    Vector* row = qkv + (u64)blockIdx.x * (heads + 2 * kv_heads) * head_vectors;
    Vector* rotated = queries + (u64)blockIdx.x * heads * head_vectors;
    const float* cosines = angles + (u64)positions[blockIdx.x] * head_vectors * 8;
    const float* sines = cosines + half_vectors * 8;
    for (int item = threadIdx.x; item < (heads + kv_heads) * half_vectors; item += blockDim.x) {
        const int head = item / half_vectors, at = item % half_vectors;
        const int place = head * head_vectors + at;
        float first[8], second[8], one[8], two[8];
        unpack(row[place], first);
        unpack(row[place + half_vectors], second);
#pragma unroll
        for (int each = 0; each < 8; ++each) {
            const float cosine = cosines[at * 8 + each], sine = sines[at * 8 + each];
            one[each] = first[each] * cosine - second[each] * sine;
            two[each] = second[each] * cosine + first[each] * sine;
        }
        Vector* to = head < heads ? rotated : row;
        to[place] = pack(one);
        to[place + half_vectors] = pack(two);
    }
}

// Write keys and values of a row of qkv where their page wants them. Offsets and strides are bytes:
// of a token's first key from the base, between heads, and from a key to its value.
// Grid (tokens), any block.
extern "C" __global__ void write_kv(const Vector* qkv, const long long* places, char* base,
                                    long long head_stride, long long value_offset, int heads,
                                    int kv_heads, int head_vectors) {
    const Vector* row = qkv + ((u64)blockIdx.x * (heads + 2 * kv_heads) + heads) * head_vectors;
    char* to = base + places[blockIdx.x];
    const int keys = kv_heads * head_vectors;
    for (int item = threadIdx.x; item < 2 * keys; item += blockDim.x) {
        const int number = item < keys ? item : item - keys;
        const long long head = number / head_vectors, at = number % head_vectors;
        const long long offset = head * head_stride + at * 16 + (item < keys ? 0 : value_offset);
        *(Vector*)(to + offset) = row[item];
    }
}

// out = silu(gate) * up, of rows of gates and then ups. Grid (blocks of a row, rows).
extern "C" __global__ void silu_mul(const Vector* gate_up, Vector* out, int vectors) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= vectors) return;
    const Vector* row = gate_up + (u64)blockIdx.y * 2 * vectors;
    float gate[8], up[8];
    unpack(row[at], gate);
    unpack(row[vectors + at], up);
#pragma unroll
    for (int each = 0; each < 8; ++each) gate[each] = gate[each] / (1.0f + __expf(-gate[each])) * up[each];
    out[(u64)blockIdx.y * vectors + at] = pack(gate);
}

// out[token] = sum over its experts of share * rows[place]. Grid (tokens), any block.
extern "C" __global__ void combine(const Vector* rows, const int* places, const float* shares,
                                   Vector* out, int per_token, int vectors) {
    const int* from = places + (u64)blockIdx.x * per_token;
    const float* share = shares + (u64)blockIdx.x * per_token;
    for (int at = threadIdx.x; at < vectors; at += blockDim.x) {
        float sum[8] = {};
        for (int chosen = 0; chosen < per_token; ++chosen) {
            float row[8];
            unpack(rows[(u64)from[chosen] * vectors + at], row);
#pragma unroll
            for (int each = 0; each < 8; ++each) sum[each] += share[chosen] * row[each];
        }
        out[(u64)blockIdx.x * vectors + at] = pack(sum);
    }
}

// A key that orders as (value, lower index first): the largest is the first maximum.
__device__ __forceinline__ u64 ordered(float value, u32 index) {
    const u32 bits = __float_as_uint(value);
    const u32 rising = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (u64)rising << 32 | ~index;
}

__device__ __forceinline__ u64 block_max(u64 value) {
    __shared__ u64 parts[32];
#pragma unroll
    for (int lane = 16; lane; lane >>= 1) {
        const u64 other = __shfl_xor_sync(0xffffffffu, value, lane);
        value = other > value ? other : value;
    }
    if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = value;
    __syncthreads();
    u64 most = (threadIdx.x & 31) < (blockDim.x >> 5) ? parts[threadIdx.x & 31] : 0;
#pragma unroll
    for (int lane = 16; lane; lane >>= 1) {
        const u64 other = __shfl_xor_sync(0xffffffffu, most, lane);
        most = other > most ? other : most;
    }
    return most;
}

// The largest of each part of a row of logits. Grid (parts, rows), block of whole warps.
extern "C" __global__ void argmax_parts(const bf16* logits, u64* parts, int columns) {
    const bf16* row = logits + (u64)blockIdx.y * columns;
    u64 most = 0;
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < columns; at += gridDim.x * blockDim.x) {
        const u64 key = ordered(number(row[at]), at);
        most = key > most ? key : most;
    }
    most = block_max(most);
    if (threadIdx.x == 0) parts[(u64)blockIdx.y * gridDim.x + blockIdx.x] = most;
}

// The column of each row's largest. Grid (rows), block of one warp.
extern "C" __global__ void argmax_rows(const u64* parts, int* out, int count) {
    u64 most = 0;
    for (int at = threadIdx.x; at < count; at += blockDim.x) {
        const u64 key = parts[(u64)blockIdx.x * count + at];
        most = key > most ? key : most;
    }
    most = block_max(most);
    if (threadIdx.x == 0) out[blockIdx.x] = (int)~(u32)most;
}

// A well-mixed 32 bits of a counter (PCG's output permutation, O'Neill 2014, as in Jarzynski and
// Olano, JCGT 9(3), 2020).
__device__ __forceinline__ u32 mixed(u32 value) {
    const u32 state = value * 747796405u + 2891336453u;
    const u32 word = ((state >> ((state >> 28) + 4)) ^ state) * 277803737u;
    return word >> 22 ^ word;
}

// Numbers with a normal distribution, from their index and a seed. What a product takes in decides
// how much power it draws and so how fast it is: zeros would be too quick. Any grid and block.
extern "C" __global__ void fill_normal(u32* out, u64 pairs, float mean, float deviation, u32 seed) {
    for (u64 at = blockIdx.x * (u64)blockDim.x + threadIdx.x; at < pairs;
         at += (u64)gridDim.x * blockDim.x) {
        const u32 low_half = mixed((u32)at ^ mixed((u32)(at >> 32) + seed));
        const float radius = sqrtf(fmaxf(-2.0f * __logf((low_half + 1.0f) * 0x1p-32f), 0.0f));
        float sine, cosine;
        __sincosf(6.2831853f * 0x1p-32f * mixed(low_half + seed), &sine, &cosine);
        out[at] = packed(mean + deviation * radius * cosine, mean + deviation * radius * sine);
    }
}
