// Paged decode attention: one new token a request, its context in pages, in one launch.
//
// Swapped operands, so that few query heads waste little: scores[16 tokens x 8 heads] = K q^T and
// out^T[head_dim x 8 heads] += V^T p. A block walks its items (see planner.py); its warps take the
// 16-token slices of an item in turn, each with its own pipeline of copies into shared memory that
// runs on from item to item, so that memory is never idle. Results of the warps meet in shared
// memory; those of blocks, where a request and head is split, in global memory, where the block that
// arrives last merges them in the order of the slots: the sum does not depend on who is last.
#include "intrinsics.cuh"

#ifndef GROUP
#define GROUP 4  // query heads of one KV head, 1 to 8
#endif
#ifndef HEAD_DIM
#define HEAD_DIM 128
#endif
#ifndef WARPS
#define WARPS 4
#endif
#ifndef STAGES
#define STAGES 3
#endif
#ifndef BLOCKS
#define BLOCKS 2  // of one multiprocessor at once
#endif
#ifndef PAGE_SLICES
#define PAGE_SLICES 1  // slices of 16 tokens in a page
#endif
#ifndef TOGETHER
#define TOGETHER 8  // partial results that a thread reads at once when it merges
#endif
#ifndef EARLY
#define EARLY 0  // 1: it may begin while the launch before it ends
#endif

static constexpr int THREADS = WARPS * 32;
static constexpr int TOKENS = 16;
static constexpr int HALVES = HEAD_DIM / 64;                 // rows of 128 bytes of a token
static constexpr int TILE_BYTES = TOKENS * HEAD_DIM * 2;     // keys, or values, of a slice
static constexpr int STAGE_BYTES = 2 * TILE_BYTES;
static constexpr int STEPS = HEAD_DIM / 16;
static constexpr int ROW = HEAD_DIM + 4;                     // floats; 4 keep banks apart
static constexpr int WARP_RESULT = GROUP * ROW + 16;         // floats: out, then 8 maxima, 8 sums
static constexpr int QUADS = GROUP * HEAD_DIM / 4;           // float4 of a result
static constexpr int CREWS = QUADS >= THREADS ? 1 : THREADS / QUADS;
static constexpr int CREW_RESULT = 6;                        // floats: out of a quad, maximum, sum
static constexpr int RESULTS = WARPS * WARP_RESULT > CREWS * QUADS * CREW_RESULT
    ? WARPS * WARP_RESULT : CREWS * QUADS * CREW_RESULT;     // floats

// Dynamic shared memory, in this order: stages, results, whether the block came last.
// `shared_bytes` of decode.py counts the same.

struct Item {
    int request, head, pages_at, first, last, slot, first_slot, slots;
};

struct Arguments {
    const u16* q;            // [request][kv_head][GROUP][HEAD_DIM]
    u16* out;                // likewise
    const char* keys;        // of slot 0 and this layer
    long long slot_bytes, v_offset, token_stride, head_stride;
    const int* block_items;
    const Item* items;
    const int* indices;
    float* partials;         // [slot][GROUP][HEAD_DIM]
    float* weights;          // [slot][maximum, sum][8]
    unsigned* arrivals;      // [slot], zero between launches
    int kv_heads;
    float scale;             // log2(e) / sqrt(HEAD_DIM)
};

#ifdef ARGUMENT_BYTES
static_assert(sizeof(Arguments) == ARGUMENT_BYTES, "decode.py counts other arguments");
static_assert(WARPS * STAGES * STAGE_BYTES + RESULTS * 4 + 16 == SHARED_BYTES,
              "decode.py counts other shared memory");
#endif

// Where one warp reads in its block's items; `turn` counts its own slices of the item.
struct Cursor {
    int at, turn, turns;
    int pages_at, head, first, last;

    __device__ __forceinline__ void take(const Item* items, int end, int warp) {
        turns = 0;
        while (at < end) {
            const int4 x = __ldg((const int4*)(items + at));
            head = x.y, pages_at = x.z, first = x.w;
            last = __ldg(&items[at].last);
            const int slices = (last - first + TOKENS - 1) / TOKENS;
            turns = slices > warp ? (slices - warp + WARPS - 1) / WARPS : 0;
            if (turns) break;
            at++;
        }
        turn = 0;
    }
    __device__ __forceinline__ int slice(int turn_, int warp) const {
        return first / TOKENS + warp + turn_ * WARPS;
    }
};

__device__ __forceinline__ u32 in_tile(int row, int chunk) {
    // [half][token][8 chunks of 16 bytes]; chunks swizzled, so that 8 tokens lie in all banks
    return (chunk >> 3) * (TOKENS * 128) + row * 128 + (((chunk & 7) ^ (row & 7)) << 4);
}

__device__ __forceinline__ void merge(
    float& M, float& L, float4& O, float m, float l, float4 o, float scale
) {
    const float high = fmaxf(M, m);
    const float a = M == NEG_INF ? 0.f : exp2_of((M - high) * scale);
    const float b = m == NEG_INF ? 0.f : exp2_of((m - high) * scale);
    O.x = O.x * a + o.x * b, O.y = O.y * a + o.y * b;
    O.z = O.z * a + o.z * b, O.w = O.w * a + o.w * b;
    L = L * a + l * b, M = high;
}

__device__ __forceinline__ void write_out(u16* out, float4 o, float sum) {
    const float inverse = 1.f / sum;
    uint2 both = {packed(o.x * inverse, o.y * inverse), packed(o.z * inverse, o.w * inverse)};
    *(uint2*)out = both;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) paged_decode(
    const __grid_constant__ Arguments a
) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const int begin = a.block_items[blockIdx.x], end = a.block_items[blockIdx.x + 1];
    if (begin >= end) return;
    const u32 stages = shared_address(shared) + warp * STAGES * STAGE_BYTES;
    float* const results = (float*)(shared + WARPS * STAGES * STAGE_BYTES);
    int& is_last = *(int*)(results + RESULTS);
    const u64 policy = read_once_policy();

    // `load` is where the next copy goes; `next` the 32 turns after those whose pages are in `page`.
    Cursor load, next;
    int page = 0, next_page = 0, issued = 0;
    auto fetch = [&](const Cursor& c) {
        const int turn = c.turn + lane;
        return turn < c.turns ? __ldg(a.indices + c.pages_at + c.slice(turn, warp) / PAGE_SLICES)
                              : 0;
    };
    auto step_next = [&]() {
        if (next.turn + 32 < next.turns) next.turn += 32;
        else next.at++, next.take(a.items, end, warp);
        if (next.at < end) next_page = fetch(next);
    };
    auto copy_slice = [&]() {
        if (load.at < end) {
            const int slot = __shfl_sync(~0u, page, load.turn & 31);
            const int slice = load.slice(load.turn, warp), row = slice % PAGE_SLICES * TOKENS;
            const u32 to = stages + issued % STAGES * STAGE_BYTES;
            constexpr int CHUNKS = HEAD_DIM / 8, ROWS = 32 / CHUNKS;
            const int chunk = lane % CHUNKS, left = load.last - slice * TOKENS;
            const char* from = a.keys + slot * a.slot_bytes + load.head * a.head_stride
                + (long long)(row + lane / CHUNKS) * a.token_stride + chunk * 16;
            #pragma unroll
            for (int i = 0; i < TOKENS / ROWS; i++) {
                const int r = i * ROWS + lane / CHUNKS;
                copy_16(to + in_tile(r, chunk), from + i * ROWS * a.token_stride, r < left, policy);
            }
            from += a.v_offset;
            #pragma unroll
            for (int i = 0; i < TOKENS / ROWS; i++) {
                const int r = i * ROWS + lane / CHUNKS;
                copy_16(to + TILE_BYTES + in_tile(r, chunk), from + i * ROWS * a.token_stride,
                        r < left, policy);
            }
            issued++;
            if (++load.turn == load.turns || (load.turn & 31) == 0) {
                load = next, page = next_page;
                if (load.at < end) step_next();
            }
        }
        commit_copies();
    };

    load.at = begin;
    load.take(a.items, end, warp);
    if (load.at < end) page = fetch(load);
    next = load;
    if (next.at < end) step_next();
#if EARLY
    wait_for_earlier_kernel();
    let_next_kernel_begin();
#endif
    #pragma unroll
    for (int i = 0; i < STAGES - 1; i++) copy_slice();

    int done = 0;  // slices computed by this warp in all
    for (int at = begin; at < end; at++) {
        const int4 x = __ldg((const int4*)(a.items + at)), y = __ldg((const int4*)(a.items + at) + 1);
        const int first = x.w, last = y.x, slots = y.w;
        const int slices = (last - first + TOKENS - 1) / TOKENS;
        const int turns = slices > warp ? (slices - warp + WARPS - 1) / WARPS : 0;
        const size_t heads_at = ((size_t)x.x * a.kv_heads + x.y) * GROUP * HEAD_DIM;

        u32 q[STEPS][2];
        {
            const int head = lane >> 2;
            const u16* from = a.q + heads_at + head * HEAD_DIM + (lane & 3) * 2;
            #pragma unroll
            for (int k = 0; k < STEPS; k++) {
                q[k][0] = head < GROUP ? *(const u32*)(from + k * 16) : 0u;
                q[k][1] = head < GROUP ? *(const u32*)(from + k * 16 + 8) : 0u;
            }
        }
        float o[STEPS][4];
        #pragma unroll
        for (int i = 0; i < STEPS; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;
        float m0 = NEG_INF, m1 = NEG_INF, l0 = 0.f, l1 = 0.f;  // of heads 2 (lane % 4) and the next

        for (int turn = 0; turn < turns; turn++, done++) {
            const int left = last - first - (warp + turn * WARPS) * TOKENS;  // tokens from here on
            wait_copies<STAGES - 2>();
            __syncwarp();
            copy_slice();
            const u32 keys = stages + done % STAGES * STAGE_BYTES, values = keys + TILE_BYTES;
            float s[4] = {0.f, 0.f, 0.f, 0.f}, t[4] = {0.f, 0.f, 0.f, 0.f};
            #pragma unroll
            for (int k = 0; k < STEPS; k++) {
                u32 tile[4];
                load_matrices(tile, keys + in_tile(lane & 15, k * 2 + (lane >> 4)));
                multiply_add(k & 1 ? t : s, tile, q[k]);
            }
            #pragma unroll
            for (int i = 0; i < 4; i++) s[i] += t[i];
            const int token = lane >> 2;
            if (token >= left) s[0] = s[1] = NEG_INF;
            if (token + 8 >= left) s[2] = s[3] = NEG_INF;
            float high0 = fmaxf(s[0], s[2]), high1 = fmaxf(s[1], s[3]);
            #pragma unroll
            for (int i = 4; i < 32; i <<= 1) {
                high0 = fmaxf(high0, from_lane_xor(high0, i));
                high1 = fmaxf(high1, from_lane_xor(high1, i));
            }
            high0 = fmaxf(m0, high0), high1 = fmaxf(m1, high1);
            const float c0 = exp2_of((m0 - high0) * a.scale), c1 = exp2_of((m1 - high1) * a.scale);
            m0 = high0, m1 = high1;
            const float p0 = exp2_of((s[0] - m0) * a.scale), p1 = exp2_of((s[1] - m1) * a.scale);
            const float p2 = exp2_of((s[2] - m0) * a.scale), p3 = exp2_of((s[3] - m1) * a.scale);
            l0 = l0 * c0 + p0 + p2, l1 = l1 * c1 + p1 + p3;
            const u32 p[2] = {transposed(packed(p0, p1)), transposed(packed(p2, p3))};
            #pragma unroll
            for (int i = 0; i < STEPS; i++) {
                o[i][0] *= c0, o[i][1] *= c1, o[i][2] *= c0, o[i][3] *= c1;
                u32 tile[4];
                load_matrices_transposed(
                    tile, values + in_tile((lane & 7) + (lane & 16 ? 8 : 0), i * 2 + (lane >> 3 & 1))
                );
                multiply_add(o[i], tile, p);
            }
            __syncwarp();
        }
        #pragma unroll
        for (int i = 4; i < 32; i <<= 1) l0 += from_lane_xor(l0, i), l1 += from_lane_xor(l1, i);

        __syncthreads();  // results of the item before are read
        {
            float* own = results + warp * WARP_RESULT;
            const int head = (lane & 3) * 2, dim = lane >> 2;
            #pragma unroll
            for (int i = 0; i < STEPS; i++) {
                float* at_dim = own + head * ROW + i * 16 + dim;
                if (head < GROUP) at_dim[0] = o[i][0], at_dim[8] = o[i][2];
                if (head + 1 < GROUP) at_dim[ROW] = o[i][1], at_dim[ROW + 8] = o[i][3];
            }
            if (lane < 4) {
                float* sums = own + GROUP * ROW;
                sums[head] = m0, sums[head + 1] = m1;
                sums[8 + head] = l0, sums[8 + head + 1] = l1;
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < QUADS; i += THREADS) {
            const int head = i / (HEAD_DIM / 4), dim = i % (HEAD_DIM / 4) * 4;
            float M = NEG_INF, L = 0.f;
            float4 O = {0.f, 0.f, 0.f, 0.f};
            #pragma unroll
            for (int w = 0; w < WARPS; w++) {
                const float* of = results + w * WARP_RESULT;
                merge(M, L, O, of[GROUP * ROW + head], of[GROUP * ROW + 8 + head],
                      *(const float4*)(of + head * ROW + dim), a.scale);
            }
            if (slots == 1) {
                write_out(a.out + heads_at + i * 4, O, L);
            } else {
                ((float4*)a.partials)[(size_t)y.y * QUADS + i] = O;
                if (dim == 0) a.weights[y.y * 16 + head] = M, a.weights[y.y * 16 + 8 + head] = L;
            }
        }
        if (slots > 1) {
            __syncthreads();
            if (threadIdx.x == 0) {  // its fences order what all threads of the block wrote and read
                __threadfence();
                is_last = atomicInc(a.arrivals + y.z, slots - 1) == slots - 1;
                __threadfence();
            }
            __syncthreads();
            if (is_last) {
                const int crew = threadIdx.x / QUADS;  // crews share the slots where threads are many
                for (int i = threadIdx.x % QUADS; i < QUADS && crew < CREWS; i += THREADS) {
                    const int head = i / (HEAD_DIM / 4);
                    float M = NEG_INF, L = 0.f;
                    float4 O = {0.f, 0.f, 0.f, 0.f};
                    for (int s = crew; s < slots; s += CREWS * TOGETHER) {
                        float m[TOGETHER], l[TOGETHER];
                        float4 part[TOGETHER];
                        #pragma unroll
                        for (int k = 0; k < TOGETHER; k++) {
                            const int slot = y.z + s + k * CREWS;
                            const bool there = s + k * CREWS < slots;
                            m[k] = there ? __ldcg(a.weights + slot * 16 + head) : NEG_INF;
                            l[k] = there ? __ldcg(a.weights + slot * 16 + 8 + head) : 0.f;
                            part[k] = there
                                ? __ldcg((const float4*)a.partials + (size_t)slot * QUADS + i)
                                : float4{0.f, 0.f, 0.f, 0.f};
                        }
                        #pragma unroll
                        for (int k = 0; k < TOGETHER; k++) merge(M, L, O, m[k], l[k], part[k], a.scale);
                    }
                    if (CREWS == 1) {
                        write_out(a.out + heads_at + i * 4, O, L);
                    } else {
                        *(float4*)(results + (crew * QUADS + i) * 4) = O;
                        results[CREWS * QUADS * 4 + (crew * QUADS + i) * 2] = M;
                        results[CREWS * QUADS * 4 + (crew * QUADS + i) * 2 + 1] = L;
                    }
                }
                if (CREWS > 1) {
                    __syncthreads();
                    for (int i = threadIdx.x; i < QUADS; i += THREADS) {
                        float M = NEG_INF, L = 0.f;
                        float4 O = {0.f, 0.f, 0.f, 0.f};
                        #pragma unroll
                        for (int c = 0; c < CREWS; c++) {
                            const float* sums = results + CREWS * QUADS * 4 + (c * QUADS + i) * 2;
                            merge(M, L, O, sums[0], sums[1],
                                  *(const float4*)(results + (c * QUADS + i) * 4), a.scale);
                        }
                        write_out(a.out + heads_at + i * 4, O, L);
                    }
                }
            }
        }
    }
}
