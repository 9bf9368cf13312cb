// Paged prefill attention: a chunk of new tokens at the end of a context, causal.
//
// A block takes 128 rows of one KV head: row = token · GROUP + query head, so that all query heads
// that share keys read them once. Its 8 warps hold 16 rows each, keep queries and results in
// registers, and walk the context in tiles of 64 tokens, which come by cp.async in three stages.
#include "intrinsics.cuh"

#ifndef GROUP
#define GROUP 4
#endif
#ifndef HEAD_DIM
#define HEAD_DIM 128
#endif

#ifndef WARPS
#define WARPS 8
#endif
#ifndef PAGE_SLICES
#define PAGE_SLICES 1  // slices of 16 tokens in a page
#endif

static constexpr int THREADS = WARPS * 32, ROWS = WARPS * 16, STAGES = 3;
static constexpr int SLICE = 16, TILE = 64, SLICES = TILE / SLICE;
static constexpr int SLICE_BYTES = SLICE * HEAD_DIM * 2, TILE_BYTES = SLICES * SLICE_BYTES;
static constexpr int STEPS = HEAD_DIM / 16, CHUNKS = HEAD_DIM / 8;
static constexpr int AT_ONCE = THREADS / CHUNKS;  // rows that one copy of every thread covers

struct Item {
    int first_query, head, pages_at, context, new_tokens, tile, unused0, unused1;
};

struct Arguments {
    const u16* q;  // [new tokens of all requests][kv_head][GROUP][HEAD_DIM]
    u16* out;      // likewise
    const char* keys;
    long long slot_bytes, v_offset, token_stride, head_stride;
    const Item* items;
    const int* indices;
    int kv_heads;
    float scale;
};

#ifdef ARGUMENT_BYTES
static_assert(sizeof(Arguments) == ARGUMENT_BYTES, "prefill.py counts other arguments");
static_assert(STAGES * 2 * TILE_BYTES == SHARED_BYTES, "prefill.py counts other shared memory");
#endif

__device__ __forceinline__ u32 in_tile(int row, int chunk) {
    return row / SLICE * SLICE_BYTES + (chunk >> 3) * (SLICE * 128) + row % SLICE * 128
        + (((chunk & 7) ^ (row & 7)) << 4);
}

extern "C" __global__ void __launch_bounds__(THREADS, 8 / WARPS) paged_prefill(
    const __grid_constant__ Arguments a
) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const Item item = a.items[blockIdx.x];
    const int row0 = item.tile * ROWS + warp * 16 + (lane >> 2), row1 = row0 + 8;
    const int before = item.context - item.new_tokens;  // tokens in front of the chunk
    const int last_row = min(item.new_tokens * GROUP, (item.tile + 1) * ROWS) - 1;
    const int tiles = (before + last_row / GROUP) / TILE + 1;
    const u32 stages = shared_address(shared);

    auto row_at = [&](int row) {
        return ((size_t)(item.first_query + row / GROUP) * a.kv_heads + item.head) * GROUP * HEAD_DIM
            + row % GROUP * HEAD_DIM + (lane & 3) * 2;
    };
    const bool has0 = row0 / GROUP < item.new_tokens, has1 = row1 / GROUP < item.new_tokens;
    u32 q[STEPS][4];
    #pragma unroll
    for (int k = 0; k < STEPS; k++) {
        q[k][0] = has0 ? *(const u32*)(a.q + row_at(row0) + k * 16) : 0u;
        q[k][1] = has1 ? *(const u32*)(a.q + row_at(row1) + k * 16) : 0u;
        q[k][2] = has0 ? *(const u32*)(a.q + row_at(row0) + k * 16 + 8) : 0u;
        q[k][3] = has1 ? *(const u32*)(a.q + row_at(row1) + k * 16 + 8) : 0u;
    }

    constexpr int COPIES = TILE / AT_ONCE;
    const int chunk = threadIdx.x % CHUNKS, row_in = threadIdx.x / CHUNKS;
    int pages[COPIES];
    auto fetch = [&](int tile) {
        #pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int token = tile * TILE + i * AT_ONCE + row_in;
            pages[i] = token < item.context
                ? __ldg(a.indices + item.pages_at + token / SLICE / PAGE_SLICES) : 0;
        }
    };
    auto copy_tile = [&](int tile) {
        if (tile < tiles) {
            const u32 to = stages + tile % STAGES * 2 * TILE_BYTES;
            #pragma unroll
            for (int i = 0; i < COPIES; i++) {
                const int row = i * AT_ONCE + row_in, token = tile * TILE + row;
                const int in_page = token / SLICE % PAGE_SLICES * SLICE + token % SLICE;
                const char* from = a.keys + pages[i] * a.slot_bytes + item.head * a.head_stride
                    + in_page * a.token_stride + chunk * 16;
                copy_16(to + in_tile(row, chunk), from, token < item.context);
                copy_16(to + TILE_BYTES + in_tile(row, chunk), from + a.v_offset,
                        token < item.context);
            }
            fetch(tile + 1);
        }
        commit_copies();
    };

    float o[2 * STEPS][4];
    #pragma unroll
    for (int i = 0; i < 2 * STEPS; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;
    float m0 = NEG_INF, m1 = NEG_INF, l0 = 0.f, l1 = 0.f;
    const int sees0 = before + row0 / GROUP, sees1 = before + row1 / GROUP;  // last key of a row

    fetch(0);
    copy_tile(0);
    copy_tile(1);
    for (int tile = 0; tile < tiles; tile++) {
        wait_copies<STAGES - 2>();
        __syncthreads();
        copy_tile(tile + 2);
        const u32 keys = stages + tile % STAGES * 2 * TILE_BYTES, values = keys + TILE_BYTES;
        // Fragments of the next step are loaded while the products of this one run.
        u32 b[2][SLICES][4];
        auto load_keys = [&](int k) {
            #pragma unroll
            for (int n = 0; n < SLICES; n++)
                load_matrices(b[k & 1][n], keys + in_tile(n * SLICE + (lane & 7) + (lane & 16 ? 8 : 0),
                                                          k * 2 + (lane >> 3 & 1)));
        };
        float s[2 * SLICES][4];
        #pragma unroll
        for (int n = 0; n < 2 * SLICES; n++) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.f;
        load_keys(0);
        #pragma unroll
        for (int k = 0; k < STEPS; k++) {
            if (k + 1 < STEPS) load_keys(k + 1);
            #pragma unroll
            for (int n = 0; n < SLICES; n++) {
                multiply_add(s[2 * n], q[k], b[k & 1][n]);
                multiply_add(s[2 * n + 1], q[k], b[k & 1][n] + 2);
            }
        }
        const int first = tile * TILE;
        if (first + TILE - 1 > before + (item.tile * ROWS + warp * 16) / GROUP) {
            #pragma unroll
            for (int n = 0; n < 2 * SLICES; n++) {
                const int key = first + n * 8 + (lane & 3) * 2;
                if (key > sees0) s[n][0] = NEG_INF;
                if (key + 1 > sees0) s[n][1] = NEG_INF;
                if (key > sees1) s[n][2] = NEG_INF;
                if (key + 1 > sees1) s[n][3] = NEG_INF;
            }
        }
        float high0 = m0, high1 = m1;
        #pragma unroll
        for (int n = 0; n < 2 * SLICES; n++) {
            high0 = fmaxf(high0, fmaxf(s[n][0], s[n][1]));
            high1 = fmaxf(high1, fmaxf(s[n][2], s[n][3]));
        }
        #pragma unroll
        for (int i = 1; i < 4; i <<= 1) {
            high0 = fmaxf(high0, from_lane_xor(high0, i));
            high1 = fmaxf(high1, from_lane_xor(high1, i));
        }
        // The first tile holds key 0, which every row sees: no maximum is minus infinity.
        const float c0 = exp2_of((m0 - high0) * a.scale), c1 = exp2_of((m1 - high1) * a.scale);
        const float base0 = high0 * a.scale, base1 = high1 * a.scale;
        m0 = high0, m1 = high1, l0 *= c0, l1 *= c1;
        u32 p[SLICES][4];
        #pragma unroll
        for (int n = 0; n < 2 * SLICES; n++) {
            const float x0 = exp2_of(s[n][0] * a.scale - base0);
            const float x1 = exp2_of(s[n][1] * a.scale - base0);
            const float x2 = exp2_of(s[n][2] * a.scale - base1);
            const float x3 = exp2_of(s[n][3] * a.scale - base1);
            l0 += x0 + x1, l1 += x2 + x3;
            p[n / 2][n % 2 * 2] = packed(x0, x1), p[n / 2][n % 2 * 2 + 1] = packed(x2, x3);
        }
        #pragma unroll
        for (int i = 0; i < 2 * STEPS; i++) o[i][0] *= c0, o[i][1] *= c0, o[i][2] *= c1, o[i][3] *= c1;
        // Steps of 16 tokens and 64 elements of the output.
        constexpr int GROUPS = STEPS / 4;
        auto load_values = [&](int step) {
            #pragma unroll
            for (int i = 0; i < 4; i++)
                load_matrices_transposed(
                    b[step & 1][i], values + in_tile(step / GROUPS * SLICE + (lane & 15),
                                                     (step % GROUPS * 4 + i) * 2 + (lane >> 4))
                );
        };
        load_values(0);
        #pragma unroll
        for (int step = 0; step < SLICES * GROUPS; step++) {
            if (step + 1 < SLICES * GROUPS) load_values(step + 1);
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                const int d = step % GROUPS * 4 + i;
                multiply_add(o[2 * d], p[step / GROUPS], b[step & 1][i]);
                multiply_add(o[2 * d + 1], p[step / GROUPS], b[step & 1][i] + 2);
            }
        }
    }
    #pragma unroll
    for (int i = 1; i < 4; i <<= 1) l0 += from_lane_xor(l0, i), l1 += from_lane_xor(l1, i);
    const float inverse0 = 1.f / l0, inverse1 = 1.f / l1;
    #pragma unroll
    for (int i = 0; i < 2 * STEPS; i++) {
        if (has0) *(u32*)(a.out + row_at(row0) + i * 8) = packed(o[i][0] * inverse0, o[i][1] * inverse0);
        if (has1) *(u32*)(a.out + row_at(row1) + i * 8) = packed(o[i][2] * inverse1, o[i][3] * inverse1);
    }
}
