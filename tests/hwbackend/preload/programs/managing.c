/* What programs see of managed memory; each claim is a subcommand, named as the test that runs it. */
#include "program.h"

#include <fcntl.h>
#include <unistd.h>

static size_t calls_of(const char *name, size_t since)
{
    size_t count = 0;
    for (size_t at = since; at < fake_call_count(); at++)
        count += strcmp(fake_call_name(at), name) == 0;
    return count;
}

static size_t free_now(void)
{
    size_t available, total;
    DO(cuMemGetInfo_v2(&available, &total));
    return available;
}

static CUdeviceptr take(size_t bytes)
{
    CUdeviceptr at;
    DO(cuMemAlloc_v2(&at, bytes));
    return at;
}

static void small_blocks_share_a_chunk(void)
{
    begin_on(0);
    CUdeviceptr at[1000];
    for (int i = 0; i < 1000; i++) {
        at[i] = take(1000);
        MUST(at[i] % 256 == 0);
        DO(cuMemsetD8_v2(at[i], (unsigned char)i, 1000));
    }
    MUST(fake_live("chunk") == 1 && fake_live("buffer") == 0); /* 1000 x 1024 bytes in 2 MiB */
    for (int i = 0; i < 1000; i++)
        MUST(holds(at[i], (unsigned char)i, 1000));
    for (int i = 0; i < 1000; i++)
        DO(cuMemFree_v2(at[i]));
    DO(vsim_pool_trim(0));
    MUST(fake_live("chunk") == 0 && fake_live("mapping") == 0 && fake_live("range") == 0);
}

static void large_blocks_are_gathered_from_pooled_chunks(void)
{
    begin_on(0);
    CUdeviceptr at[8];
    for (int i = 0; i < 8; i++)
        at[i] = take(32 * MIB);
    for (int i = 0; i < 8; i += 2) /* every other one: no two lie side by side */
        DO(cuMemFree_v2(at[i]));
    fake_limit(0, 0, 8 * 32 * MIB);
    size_t before = fake_call_count();
    CUdeviceptr large = take(4 * 32 * MIB);
    MUST(calls_of("cuMemMap", before) == 4 && fake_used(0, 0) == 8 * 32 * MIB);
    DO(cuMemsetD8_v2(large, 7, 4 * 32 * MIB));
    MUST(holds(large, 7, 4 * 32 * MIB));
    DO(cuMemFree_v2(large));
    for (int i = 1; i < 8; i += 2)
        DO(cuMemFree_v2(at[i]));
}

static void memory_in_use_is_not_given_out_again(void)
{
    begin_on(0);
    CUstream stream;
    DO(cuStreamCreate(&stream, STREAM_NON_BLOCKING));
    for (int i = 0; i < 50; i++) {
        CUdeviceptr first = take(4 * MIB), second = take(4 * MIB);
        DO(cuMemsetD8_v2(first, 1, 4 * MIB));
        DO(cuMemsetD8Async(first, 2, 4 * MIB, stream)); /* the fake does it as late as it can */
        DO(cuMemcpyDtoDAsync_v2(second, first, 4 * MIB, stream));
        DO(cuMemFree_v2(first));
        CUdeviceptr third = take(4 * MIB);
        DO(cuMemsetD8_v2(third, 3, 4 * MIB));
        DO(cuStreamSynchronize(stream));
        MUST(holds(second, 2, 4 * MIB) && holds(third, 3, 4 * MIB));
        DO(cuMemFree_v2(second));
        DO(cuMemFree_v2(third));
    }
    DO(vsim_pool_trim(0));
    MUST(fake_hazards() == 0);
}

static void unmapping_waits_for_work_on_a_stream_that_is_gone(void)
{
    begin_on(0);
    CUstream stream;
    DO(cuStreamCreate(&stream, STREAM_NON_BLOCKING));
    CUdeviceptr at = take(4 * MIB);
    DO(cuMemsetD8Async(at, 2, 4 * MIB, stream));
    DO(cuStreamDestroy_v2(stream));
    DO(cuMemFree_v2(at));
    DO(vsim_pool_trim(0));
    MUST(fake_hazards() == 0 && fake_live("mapping") == 0);
}

static void frees_in_a_capture_wait_until_it_ends(void)
{
    begin_on(0);
    CUstream stream;
    CUgraph graph;
    void *exec;
    DO(cuStreamCreate(&stream, 0));
    CUdeviceptr kept = take(4 * MIB), freed = take(4 * MIB);
    DO(cuMemsetD8_v2(kept, 1, 4 * MIB));
    DO(cuStreamBeginCapture_v2(stream, 0));
    DO(cuMemsetD8Async(kept, 9, 4 * MIB, stream));
    for (int i = 0; i < 100; i++) /* enough for fences; a record would end the capture */
        DO(cuMemFree_v2(take(3 * MIB)));
    DO(cuMemFree_v2(freed));
    CUdeviceptr mapped = take(64 * MIB); /* a map in the midst of it */
    DO(cuStreamEndCapture(stream, &graph));
    MUST(holds(kept, 1, 4 * MIB));
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    DO(cuGraphLaunch(exec, stream));
    DO(cuStreamSynchronize(stream));
    MUST(holds(kept, 9, 4 * MIB));
    DO(cuMemFree_v2(kept));
    DO(cuMemFree_v2(mapped));
    DO(cuGraphExecDestroy(exec));
    DO(cuGraphDestroy(graph));
    DO(vsim_pool_trim(0));
    MUST(fake_live("chunk") == 0 && fake_hazards() == 0);
}

static void out_of_memory_trims_the_pool_and_tries_again(void)
{
    begin_on(0);
    fake_limit(0, 0, 100 * MIB);
    CUdeviceptr at = take(80 * MIB);
    DO(cuMemFree_v2(at));
    at = take(90 * MIB); /* the pooled chunk of 80 MiB does not suffice, and fills the device */
    DO(cuMemsetD8_v2(at, 5, 90 * MIB));
    MUST(holds(at, 5, 90 * MIB));
    DO(cuMemFree_v2(at));
    at = take(40 * MIB); /* and one that is too large for this goes back to the driver */
    CUdeviceptr other = take(60 * MIB);
    MUST(cuMemAlloc_v2(&other, 2 * MIB) == CUDA_ERROR_OUT_OF_MEMORY);
    DO(cuMemFree_v2(at));
}

static void a_program_s_own_chunks_get_what_is_pooled(void)
{
    begin_on(0);
    fake_limit(0, 0, 100 * MIB);
    DO(cuMemFree_v2(take(80 * MIB)));
    MemProp prop = {.type = 1, .location = {LOCATION_DEVICE, 0}};
    CUmemHandle handle;
    DO(cuMemCreate(&handle, 60 * MIB, &prop, 0)); /* as expandable segments do */
    CUdeviceptr at;
    DO(cuMemAllocAsync(&at, 30 * MIB, NULL));
    MUST(cuMemCreate(&handle, 60 * MIB, &prop, 0) == CUDA_ERROR_OUT_OF_MEMORY);
}

static void pooled_memory_counts_as_free(void)
{
    begin_on(0);
    size_t before = free_now();
    CUdeviceptr at = take(64 * MIB);
    MUST(free_now() == before - 64 * MIB);
    DO(cuMemFree_v2(at));
    MUST(free_now() == before && fake_used(0, 0) == 64 * MIB);
    size_t available = 1, total = 1;
    DO(cuMemGetInfo_v2(&available, &total));
    MUST(total == (size_t)64 << 30);
    DO(vsim_pool_trim(0));
    MUST(free_now() == before && fake_used(0, 0) == 0);
}

static void the_pool_keeps_no_more_than_its_limit(void) /* run with VSIM_PRELOAD_POOL of 16 MiB */
{
    begin_on(0);
    CUdeviceptr at[6];
    for (int i = 0; i < 6; i++)
        at[i] = take(8 * MIB);
    for (int i = 0; i < 6; i++)
        DO(cuMemFree_v2(at[i]));
    DO(cuMemFree_v2(take(200 * MIB)));
    for (int i = 0; i < 40; i++) /* fences come with further frees */
        DO(cuMemFree_v2(take(4096)));
    DO(cuMemFree_v2(take(4 * MIB)));
    DO(cuMemFree_v2(take(100 * MIB)));
    free_now(); /* waits for all that was freed */
    MUST(fake_used(0, 0) <= 16 * MIB); /* mapped blocks and chunks together */
}

static void attributes_are_those_of_plain_memory(void)
{
    CUcontext context = begin_on(0);
    CUdeviceptr first = take(1000), at = take(1000), large = take(5 * MIB);
    CUdeviceptr base;
    size_t bytes;
    DO(cuMemGetAddressRange_v2(&base, &bytes, at + 999));
    MUST(base == at && bytes == 1000);
    DO(cuMemGetAddressRange_v2(NULL, &bytes, large + 4 * MIB));
    MUST(bytes == 5 * MIB);
    CUcontext of = NULL;
    unsigned type = 0, managed = 1;
    int device = -1;
    void *host = &of;
    bool legacy = true, mapped = false;
    uint64_t id = 0, other = 0;
    int names[] = {1, 2, 4, 8, 9, 10, 11, 12, 13, 7};
    void *data[] = {&of, &type, &host, &managed, &device, &legacy, &base, &bytes, &mapped, &id};
    DO(cuPointerGetAttributes(10, names, data, at + 10));
    MUST(of == context && type == 2 && host == NULL && managed == 0 && device == 0 && !legacy);
    MUST(base == at && bytes == 1000 && mapped);
    DO(cuPointerGetAttribute(&other, 7, first));
    MUST(other != id); /* two blocks of one chunk are two allocations */
    MUST(cuPointerGetAttribute(&host, 4, at) == CUDA_ERROR_INVALID_VALUE);
    DO(cuMemFree_v2(at));
    MUST(cuMemGetAddressRange_v2(&base, &bytes, at) != CUDA_SUCCESS); /* while first still lives */
    MUST(cuPointerGetAttribute(&type, 2, at) == CUDA_ERROR_INVALID_VALUE);
    DO(cuPointerGetAttributes(10, names, data, at));
    MUST(type == 0 && of == NULL);
    MUST(cuMemFree_v2(at) == CUDA_ERROR_INVALID_VALUE);      /* twice */
    MUST(cuMemFree_v2(first + 8) == CUDA_ERROR_INVALID_VALUE); /* the midst of one */
    DO(cuMemFree_v2(first));
    DO(cuMemFree_v2(large));
}

static void pointers_never_seen_are_the_driver_s(void)
{
    begin_on(0);
    CUdeviceptr async, managed, pitched;
    size_t pitch;
    DO(cuMemAllocAsync(&async, 4096, NULL));
    DO(cuMemFree_v2(async)); /* the driver allows either free for either */
    DO(cuMemAllocAsync(&async, 4096, NULL));
    DO(cuMemFreeAsync(async, NULL));
    CUdeviceptr at = take(4096);
    DO(cuMemFreeAsync(at, NULL));
    DO(cuMemAllocManaged(&managed, 4096, 1));
    DO(cuMemFree_v2(managed));
    DO(cuMemAllocPitch_v2(&pitched, &pitch, 1000, 8, 4));
    MUST(pitch == 1024);
    DO(cuMemsetD8_v2(pitched, 1, pitch * 8));
    DO(cuMemFree_v2(pitched));
    DO(cuMemFree_v2(0));
    MUST(cuMemFree_v2(0x1234500) == CUDA_ERROR_INVALID_VALUE);
    MUST(cuMemAlloc_v2(&at, 0) == CUDA_ERROR_INVALID_VALUE);
    MUST(cuMemAlloc_v2(&at, SIZE_MAX - 5) == CUDA_ERROR_OUT_OF_MEMORY);
    MUST(fake_live("buffer") == 0);
}

static void ipc_handles_are_refused_by_name(void)
{
    begin_on(0);
    CUdeviceptr at = take(4096), plain;
    CUipcMemHandle handle;
    MUST(cuIpcGetMemHandle(&handle, at) == CUDA_ERROR_NOT_SUPPORTED);
    CUmemHandle chunk;
    MUST(cuMemRetainAllocationHandle(&chunk, (void *)(uintptr_t)at) == CUDA_ERROR_INVALID_VALUE);
    DO(cuMemAllocManaged(&plain, 4096, 1));
    DO(cuIpcGetMemHandle(&handle, plain));
}

static void peers_may_read_what_was_there_and_what_comes(void)
{
    CUcontext first = begin_on(0), second;
    DO(cuDevicePrimaryCtxRetain(&second, 1));
    CUdeviceptr before = take(4 * MIB), small = take(100);
    DO(cuCtxSetCurrent(second));
    MUST(cuMemsetD8_v2(before, 1, 4 * MIB) != CUDA_SUCCESS); /* not yet */
    DO(cuCtxEnablePeerAccess(first, 0));
    DO(cuMemsetD8_v2(before, 1, 4 * MIB));
    DO(cuMemsetD8_v2(small, 1, 100));
    DO(cuCtxSetCurrent(first));
    CUdeviceptr after = take(6 * MIB);
    DO(cuCtxSetCurrent(second));
    DO(cuMemsetD8_v2(after, 2, 6 * MIB));
    MUST(holds(after, 2, 6 * MIB));
    DO(cuCtxDisablePeerAccess(first));
    DO(cuCtxSetCurrent(first));
    CUdeviceptr last = take(10 * MIB);
    DO(cuCtxSetCurrent(second));
    MUST(cuMemsetD8_v2(last, 1, 10 * MIB) != CUDA_SUCCESS);
}

static void spilled(int host, size_t expected_host, size_t expected_peer)
{
    begin_on(0);
    fake_limit(0, 0, 64 * MIB);
    CUdeviceptr own = take(60 * MIB), at = take(40 * MIB), small = take(1000);
    (void)host;
    MUST(fake_used(1, 0) == expected_host && fake_used(0, 1) == expected_peer);
    DO(cuMemsetD8_v2(at, 6, 40 * MIB));
    MUST(holds(at, 6, 40 * MIB));
    unsigned type;
    int device;
    CUdeviceptr base;
    size_t bytes;
    DO(cuPointerGetAttribute(&type, 2, at));
    DO(cuPointerGetAttribute(&device, 9, at));
    DO(cuMemGetAddressRange_v2(&base, &bytes, at + 1));
    MUST(type == 2 && device == 0 && base == at && bytes == 40 * MIB);
    DO(cuMemFree_v2(at));
    DO(cuMemFree_v2(own));
    DO(cuMemFree_v2(small));
    DO(vsim_pool_trim(0));
    MUST(fake_used(0, 0) + fake_used(0, 1) + fake_used(1, 0) == 0);
}

static void a_block_spills_to_host_memory(void) { spilled(1, 40 * MIB, 0); }
static void a_block_spills_to_a_peer(void) { spilled(0, 0, 40 * MIB); }

static void nothing_spills_unasked(void)
{
    begin_on(0);
    fake_limit(0, 0, 64 * MIB);
    CUdeviceptr at = take(60 * MIB), other;
    MUST(cuMemAlloc_v2(&other, 40 * MIB) == CUDA_ERROR_OUT_OF_MEMORY);
    MUST(fake_used(1, 0) == 0 && fake_used(0, 1) == 0);
    DO(cuMemFree_v2(at));
    DO(cuMemAlloc_v2(&other, 40 * MIB));
}

static void growth_maps_and_copies_nothing(void)
{
    begin_on(0);
    CUdeviceptr at;
    MUST(vsim_reserve(&at, 4 * MIB, 2 * MIB) == CUDA_ERROR_INVALID_VALUE);
    DO(vsim_reserve(&at, 4 * MIB, 64 * MIB));
    CUdeviceptr begin = at;
    DO(cuMemsetD8_v2(at, 3, 4 * MIB));
    size_t before = fake_call_count();
    DO(vsim_realloc(&at, 64 * MIB));
    MUST(at == begin && calls_of("cuMemMap", before) == 1);
    DO(vsim_realloc(&at, 100 * MIB)); /* beyond its addresses */
    MUST(at != begin && calls_of("cuMemcpyDtoD", before) == 0);
    MUST(holds(at, 3, 4 * MIB));
    DO(cuMemsetD8_v2(at + 4 * MIB, 4, 96 * MIB));
    MUST(fake_used(0, 0) == 100 * MIB);
    DO(vsim_realloc(&at, 2 * MIB)); /* whole chunks at the end go: here all but the first */
    MUST(holds(at, 3, 2 * MIB));
    CUdeviceptr small = take(100);
    DO(cuMemsetD8_v2(small, 5, 100));
    DO(vsim_realloc(&small, 4000));
    MUST(holds(small, 5, 100));
    MUST(vsim_realloc(&small, 0) == CUDA_ERROR_INVALID_VALUE);
    DO(cuMemFree_v2(small));
    DO(cuMemFree_v2(at));
    DO(vsim_pool_trim(0));
    MUST(fake_live("chunk") == 0 && fake_live("range") == 0 && fake_hazards() == 0);
}

static void a_reset_context_takes_its_memory_along(void)
{
    CUcontext context = begin_on(0);
    CUdeviceptr at = take(8 * MIB), small = take(10);
    DO(cuMemFree_v2(take(8 * MIB)));
    DO(cuDevicePrimaryCtxReset_v2(0));
    MUST(cuMemFree_v2(at) != CUDA_SUCCESS && cuMemFree_v2(small) != CUDA_SUCCESS);
    DO(cuCtxSetCurrent(context));
    at = take(8 * MIB);
    DO(cuMemsetD8_v2(at, 1, 8 * MIB));
    DO(cuMemFree_v2(at));
    DO(vsim_pool_trim(0));
    MUST(fake_live("chunk") == 0);
}

static void without_a_context_the_driver_answers(void)
{
    CUdeviceptr at;
    MUST(cuMemAlloc_v2(&at, 100) != CUDA_SUCCESS);
    DO(cuInit(0));
    MUST(cuMemAlloc_v2(&at, 100) == 201);
    MUST(cuMemFree_v2(0x1000) == 201);
    size_t bytes;
    MUST(cuMemGetInfo_v2(&bytes, &bytes) == 201);
    MUST(cuMemGetAddressRange_v2(&at, &bytes, 0x1000) == 201);
}

static void ten_thousand_handles_under_1024_files(void) /* run under ulimit -n 1024 */
{
    begin_on(0);
    static CUdeviceptr at[10000];
    for (int i = 0; i < 10000; i++)
        at[i] = take(2 * MIB);
    MUST(fake_live("chunk") == 10000);
    int files = 0;
    for (int file = 0; file < 1024; file++)
        files += fcntl(file, F_GETFD) != -1;
    MUST(files < 16);
    for (int i = 0; i < 10000; i++)
        DO(cuMemFree_v2(at[i]));
    MemProp prop = {.type = 1, .handle_types = 1, .location = {LOCATION_DEVICE, 0}};
    for (int i = 0; i < 2000; i++) { /* the program's own exports: nothing here keeps one open */
        CUmemHandle handle;
        int file;
        DO(cuMemCreate(&handle, 2 * MIB, &prop, 0));
        DO(cuMemExportToShareableHandle(&file, handle, 1, 0));
        close(file);
        DO(cuMemRelease(handle));
    }
}

static void a_map_that_fails_halfway_is_taken_back(void)
{
    begin_on(0);
    CUdeviceptr at[4], large;
    for (int i = 0; i < 4; i++)
        at[i] = take(8 * MIB);
    for (int i = 0; i < 4; i++)
        DO(cuMemFree_v2(at[i]));
    fake_limit(0, 0, 32 * MIB); /* so that a block of 32 MiB is gathered from these four */
    size_t before = fake_call_count();
    fake_fail("cuMemMap", 3, 999);
    MUST(cuMemAlloc_v2(&large, 32 * MIB) == 999);
    MUST(calls_of("cuMemMap", before) == 3);
    MUST(fake_live("mapping") == 0 && fake_live("range") == 0);
    MUST(fake_live("chunk") == 4 && fake_used(0, 0) == 32 * MIB && free_now() == 32 * MIB);
    fake_fail("cuMemSetAccess", 1, 999);
    MUST(cuMemAlloc_v2(&large, 32 * MIB) == 999);
    MUST(fake_live("mapping") == 0 && fake_live("range") == 0 && free_now() == 32 * MIB);
    large = take(32 * MIB);
    MUST(fake_live("mapping") == 4);
    DO(cuMemsetD8_v2(large, 8, 32 * MIB));
    MUST(holds(large, 8, 32 * MIB));
    DO(cuMemFree_v2(large));
    DO(vsim_pool_trim(0));
    MUST(fake_used(0, 0) == 0 && fake_hazards() == 0);
}

static void chunks_that_run_out_at_any_call_leave_the_books_right(void)
{
    begin_on(0);
    for (int nth = 1; nth <= 6; nth++) {
        CUdeviceptr at[6];
        fake_fail("cuMemCreate", nth, CUDA_ERROR_OUT_OF_MEMORY);
        for (int i = 0; i < 6; i++) { /* the driver finds none once; then there is some */
            at[i] = take((8 + 2 * (size_t)i) * MIB);
            DO(cuMemsetD8_v2(at[i], (unsigned char)(i + 1), 8 * MIB));
        }
        MUST(fake_failures_left() == 0);
        size_t live = 0;
        for (int i = 0; i < 6; i++) {
            MUST(holds(at[i], (unsigned char)(i + 1), 8 * MIB));
            live += (8 + 2 * (size_t)i) * MIB;
        }
        MUST(fake_used(0, 0) == live && free_now() == ((size_t)64 << 30) - live);
        for (int i = 0; i < 6; i++)
            DO(cuMemFree_v2(at[i]));
        DO(vsim_pool_trim(0));
        MUST(fake_live("chunk") == 0 && fake_live("mapping") == 0 && fake_live("range") == 0);
    }
}

static void host_blocks_live_on_without_a_current_context(void) /* run with --spill host */
{
    CUcontext context = begin_on(0);
    fake_limit(0, 0, 64 * MIB);
    CUdeviceptr own = take(60 * MIB), at = take(40 * MIB), base, other;
    DO(cuMemsetD8_v2(at, 6, 40 * MIB));
    MUST(fake_used(1, 0) == 40 * MIB);
    DO(cuCtxSetCurrent(NULL));
    size_t bytes, total;
    int device = -1;
    MUST(cuMemAlloc_v2(&other, 100) == 201); /* INVALID_CONTEXT, as without the library */
    MUST(cuMemGetInfo_v2(&bytes, &total) == 201);
    DO(cuPointerGetAttribute(&device, 9, at));
    MUST(device == 0);
    MemProp prop = {.type = 1, .location = {LOCATION_HOST_NUMA, 1}};
    CUmemHandle handle; /* the program's own, of a place that is no device */
    DO(cuMemCreate(&handle, 2 * MIB, &prop, 0));
    DO(cuMemRelease(handle));
    DO(cuCtxSetCurrent(context));
    DO(cuMemGetAddressRange_v2(&base, &bytes, at + 5));
    MUST(base == at && bytes == 40 * MIB && holds(at, 6, 40 * MIB));
    DO(cuMemFree_v2(at));
    DO(cuMemFree_v2(own));
    DO(vsim_pool_trim(0));
    MUST(fake_used(0, 0) + fake_used(1, 0) + fake_used(1, 1) == 0);
}

/* fake_used is what the driver counts, which is what NVML reports. */
static void what_is_free_agrees_with_the_driver_on_error_paths_too(void)
{
    begin_on(0);
    fake_limit(0, 0, 64 * MIB);
    CUdeviceptr gone = take(12 * MIB), kept = take(20 * MIB), none = 0;
    DO(cuMemFree_v2(gone));
    MUST(free_now() == 44 * MIB && fake_used(0, 0) == 32 * MIB); /* 12 are kept unused */
    MUST(cuMemAlloc_v2(&none, 60 * MIB) == CUDA_ERROR_OUT_OF_MEMORY);
    MUST(none == 0 && free_now() == 44 * MIB && fake_used(0, 0) == 20 * MIB);
    fake_fail("cuMemCreate", 1, 999);
    MUST(cuMemAlloc_v2(&none, 30 * MIB) == 999);
    MUST(none == 0 && free_now() == 44 * MIB && fake_used(0, 0) == 20 * MIB);
    size_t available = 7, total = 9;
    fake_fail("cuMemGetInfo", 1, 999);
    MUST(cuMemGetInfo_v2(&available, &total) == 999 && available == 7 && total == 9);
    unsigned type = 5;
    int names[] = {2};
    void *data[] = {&type};
    fake_fail("cuPointerGetAttributes", 1, 999);
    MUST(cuPointerGetAttributes(1, names, data, kept) == 999 && type == 5);
    DO(cuPointerGetAttributes(1, names, data, kept));
    MUST(type == 2);
    DO(cuPointerGetAttributes(1, names, data, gone)); /* the driver: no error, and no type */
    MUST(type == 0);
    MUST(cuPointerGetAttribute(&type, 2, gone) == CUDA_ERROR_INVALID_VALUE);
    MUST(cuPointerGetAttribute(NULL, 2, kept) == CUDA_ERROR_INVALID_VALUE);
    DO(cuMemFree_v2(kept));
    MUST(free_now() == 64 * MIB);
}

static void registration_reaches_the_driver_with_the_program_s_pointer(void)
{
    begin_on(0);
    CUdeviceptr at = take(8 * MIB), base;
    size_t bytes;
    DO(cuMemGetAddressRange_v2(&base, &bytes, at + MIB)); /* the first that NCCL and UCX ask */
    MUST(base == at && bytes == 8 * MIB);
    int file = -1;
    DO(cuMemGetHandleForAddressRange(&file, base, bytes, 1, 0)); /* its chunk is made for RDMA */
    MUST(fcntl(file, F_GETFD) != -1);
    close(file);
    unsigned on = 1;
    DO(cuPointerSetAttribute(&on, 6, at)); /* SYNC_MEMOPS */
    CUmemHandle handle; /* NCCL takes memory with a handle for its own kind: plain has none */
    MUST(cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)at) == CUDA_ERROR_INVALID_VALUE);
    DO(cuMemFree_v2(at));
    CUdeviceptr half = take(4 * MIB);
    DO(cuMemFree_v2(half));
    fake_limit(0, 0, 12 * MIB);
    at = take(12 * MIB); /* of two chunks: the driver's own no, which callers know */
    MUST(cuMemGetHandleForAddressRange(&file, at, 12 * MIB, 1, 0) == CUDA_ERROR_INVALID_VALUE);
    DO(cuMemGetHandleForAddressRange(&file, at, 4 * MIB, 1, 0));
    close(file);
    DO(cuMemFree_v2(at));
}

/* As PyTorch's expandable segments do it, and NCCL with a descriptor; also run when recording. */
static void a_program_s_own_chunks_pass_and_are_counted(void)
{
    begin_on(0);
    MemProp prop = {.type = 1, .handle_types = 1, .location = {LOCATION_DEVICE, 0}};
    MemAccess access = {{LOCATION_DEVICE, 0}, ACCESS_READ_WRITE};
    CUmemHandle handles[3];
    CUdeviceptr at;
    DO(cuMemAddressReserve(&at, 100 * MIB, 0, 0, 0));
    for (int i = 0; i < 3; i++) {
        DO(cuMemCreate(&handles[i], 20 * MIB, &prop, 0));
        DO(cuMemMap(at + (size_t)i * 20 * MIB, 20 * MIB, 0, handles[i], 0));
    }
    DO(cuMemSetAccess(at, 60 * MIB, &access, 1));
    DO(cuMemsetD8_v2(at, 3, 60 * MIB));
    MUST(holds(at, 3, 60 * MIB));
    CUmemHandle found; /* the driver's answer: it is the program's own */
    DO(cuMemRetainAllocationHandle(&found, (void *)(uintptr_t)at));
    DO(cuMemRelease(found));
    size_t available, total;
    DO(cuMemGetInfo_v2(&available, &total));
    MUST(total - available == 60 * MIB);
    DO(cuMemUnmap(at, 60 * MIB));
    for (int i = 0; i < 3; i++)
        DO(cuMemRelease(handles[i]));
    DO(cuMemAddressFree(at, 100 * MIB));
    MUST(fake_used(0, 0) == 0);
}

/* A round of everything; errors that were injected are seen, and survived. */
static void round_of_everything(size_t *seen)
{
    CUdeviceptr at[6] = {0};
    const size_t sizes[6] = {100, 3 * MIB, 1000, 4 * MIB, 6 * MIB, 1200 * 1024};
    bool filled[6] = {false};
    CUstream stream = NULL;
    *seen += cuStreamCreate(&stream, STREAM_NON_BLOCKING) != CUDA_SUCCESS;
    for (int i = 0; i < 6; i++) {
        CUresult code = cuMemAlloc_v2(&at[i], sizes[i]);
        *seen += code != CUDA_SUCCESS;
        if (code != CUDA_SUCCESS)
            at[i] = 0;
    }
    for (int i = 0; i < 6; i++)
        if (at[i] != 0)
            filled[i] = cuMemsetD8_v2(at[i], (unsigned char)(i + 1), 64) == CUDA_SUCCESS;
    if (at[3] != 0)
        *seen += vsim_realloc(&at[3], 8 * MIB) != CUDA_SUCCESS;
    for (int i = 0; i < 6; i++)
        if (at[i] != 0 && filled[i]) {
            unsigned char found[64] = {0};
            if (cuMemcpyDtoH_v2(found, at[i], 64) == CUDA_SUCCESS)
                MUST(found[0] == i + 1 && found[63] == i + 1);
        }
    if (stream != NULL && at[1] != 0)
        *seen += cuMemsetD8Async(at[1], 9, 64, stream) != CUDA_SUCCESS;
    for (int i = 0; i < 6; i++)
        if (at[i] != 0)
            *seen += cuMemFree_v2(at[i]) != CUDA_SUCCESS;
    if (stream != NULL)
        *seen += cuStreamDestroy_v2(stream) != CUDA_SUCCESS;
    *seen += vsim_pool_trim(0) != CUDA_SUCCESS;
}

/* Every call of the driver fails once, with either code; afterwards the books are the driver's. */
static void the_books_hold_after_a_failure_at_every_call(void)
{
    begin_on(0);
    const int codes[] = {CUDA_ERROR_OUT_OF_MEMORY, 999};
    for (int which = 0; which < 2; which++)
        for (long nth = 1;; nth++) {
            size_t seen = 0;
            fake_fail("", nth, codes[which]);
            round_of_everything(&seen);
            bool came = fake_failures_left() == 0;
            fake_heal();
            size_t calm = 0, before = fake_call_count();
            round_of_everything(&calm);
            size_t calls = fake_call_count() - before;
            MUST(calm == 0);
            MUST(fake_hazards() == 0);
            size_t available, total;
            DO(cuMemGetInfo_v2(&available, &total));
            MUST(available == total && fake_live("chunk") == 0 && fake_live("mapping") == 0);
            if (!came) {
                MUST(nth > 60 && (size_t)nth == calls + 1); /* each call of a round has failed */
                break;
            }
        }
}

#define CLAIM(name) {#name, name}
static const struct {
    const char *name;
    void (*claim)(void);
} CLAIMS[] = {
    CLAIM(small_blocks_share_a_chunk),
    CLAIM(large_blocks_are_gathered_from_pooled_chunks),
    CLAIM(memory_in_use_is_not_given_out_again),
    CLAIM(unmapping_waits_for_work_on_a_stream_that_is_gone),
    CLAIM(frees_in_a_capture_wait_until_it_ends),
    CLAIM(out_of_memory_trims_the_pool_and_tries_again),
    CLAIM(a_program_s_own_chunks_get_what_is_pooled),
    CLAIM(pooled_memory_counts_as_free),
    CLAIM(the_pool_keeps_no_more_than_its_limit),
    CLAIM(attributes_are_those_of_plain_memory),
    CLAIM(pointers_never_seen_are_the_driver_s),
    CLAIM(ipc_handles_are_refused_by_name),
    CLAIM(peers_may_read_what_was_there_and_what_comes),
    CLAIM(a_block_spills_to_host_memory),
    CLAIM(a_block_spills_to_a_peer),
    CLAIM(nothing_spills_unasked),
    CLAIM(growth_maps_and_copies_nothing),
    CLAIM(a_reset_context_takes_its_memory_along),
    CLAIM(without_a_context_the_driver_answers),
    CLAIM(ten_thousand_handles_under_1024_files),
    CLAIM(a_map_that_fails_halfway_is_taken_back),
    CLAIM(chunks_that_run_out_at_any_call_leave_the_books_right),
    CLAIM(host_blocks_live_on_without_a_current_context),
    CLAIM(what_is_free_agrees_with_the_driver_on_error_paths_too),
    CLAIM(registration_reaches_the_driver_with_the_program_s_pointer),
    CLAIM(a_program_s_own_chunks_pass_and_are_counted),
    CLAIM(the_books_hold_after_a_failure_at_every_call),
};

int main(int count, char **words)
{
    for (size_t i = 0; count == 2 && i < sizeof CLAIMS / sizeof *CLAIMS; i++)
        if (strcmp(CLAIMS[i].name, words[1]) == 0) {
            CLAIMS[i].claim();
            return 0;
        }
    for (size_t i = 0; i < sizeof CLAIMS / sizeof *CLAIMS; i++)
        puts(CLAIMS[i].name);
    return count == 1 ? 0 : 2;
}
