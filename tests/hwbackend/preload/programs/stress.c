/* Threads that allocate, fill, copy, check and free at random: stress THREADS ROUNDS SEED [MIB]. With
   MIB the device has only so much, and what finds no room has to go elsewhere. */
#include "program.h"

#include <pthread.h>

enum { HELD = 12 };

static int rounds;
static bool spilled;
static CUcontext context;
static unsigned first_seed;

static unsigned draw(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static size_t draw_size(unsigned *state)
{
    unsigned kind = draw(state) % 64;
    if (kind == 0)
        return 2 * MIB * (1 + draw(state) % 3);
    if (kind == 1)
        return MIB + draw(state) % (3 * MIB);
    return 1 + draw(state) % (kind < 16 ? 60000 : 2000);
}

static void *work(void *which)
{
    unsigned state = first_seed + 7919u * (unsigned)(size_t)which;
    struct {
        CUdeviceptr at;
        size_t bytes;
        unsigned char value;
    } held[HELD] = {0};
    CUstream stream;
    DO(cuCtxSetCurrent(context));
    DO(cuStreamCreate(&stream, STREAM_NON_BLOCKING));
    for (int round = 0; round < rounds; round++) {
        unsigned slot = draw(&state) % HELD, other = draw(&state) % HELD;
        if (held[slot].at == 0) {
            size_t bytes = draw_size(&state), end = bytes > 64 ? bytes - 64 : 0;
            CUdeviceptr at;
            DO(cuMemAlloc_v2(&at, bytes));
            if (fake_used(1, 0) > 0)
                __atomic_store_n(&spilled, true, __ATOMIC_RELAXED);
            unsigned char value = (unsigned char)draw(&state);
            DO(cuMemsetD8Async(at, value, bytes - end < bytes ? 64 : bytes, stream));
            DO(cuMemsetD8Async(at + end, value, bytes - end, stream));
            held[slot].at = at;
            held[slot].bytes = bytes;
            held[slot].value = value;
        } else if (slot != other && held[other].at != 0 && draw(&state) % 4 == 0) {
            size_t both = held[slot].bytes < held[other].bytes ? held[slot].bytes
                                                               : held[other].bytes;
            if (both <= 64 && held[slot].bytes == both) { /* all of it becomes the other's */
                DO(cuMemcpyDtoDAsync_v2(held[slot].at, held[other].at, both, stream));
                held[slot].value = held[other].value;
            }
        } else {
            unsigned char found[64];
            size_t bytes = held[slot].bytes, some = bytes < 64 ? bytes : 64;
            DO(cuStreamSynchronize(stream));
            DO(cuMemcpyDtoH_v2(found, held[slot].at + bytes - some, some));
            for (size_t i = 0; i < some; i++)
                MUST(found[i] == held[slot].value);
            if (draw(&state) % 2) /* still in use when it is freed, which must not matter */
                DO(cuMemsetD8Async(held[slot].at, 0xee, some, stream));
            DO(cuMemFree_v2(held[slot].at));
            held[slot].at = 0;
        }
    }
    for (int slot = 0; slot < HELD; slot++)
        if (held[slot].at != 0)
            DO(cuMemFree_v2(held[slot].at));
    DO(cuStreamDestroy_v2(stream));
    return NULL;
}

int main(int count, char **words)
{
    pthread_t threads[64];
    int many = count == 4 || count == 5 ? atoi(words[1]) : 0;
    if (many < 1 || many > 64)
        return 2;
    rounds = atoi(words[2]);
    first_seed = (unsigned)atoi(words[3]);
    context = begin_on(0);
    if (count == 5)
        fake_limit(0, 0, (size_t)atoi(words[4]) * MIB);
    for (int i = 0; i < many; i++)
        MUST(pthread_create(&threads[i], NULL, work, (void *)(size_t)i) == 0);
    for (int i = 0; i < many; i++)
        pthread_join(threads[i], NULL);
    if (vsim_pool_trim != NULL && vsim_pool_trim(0) == 0)
        MUST(fake_live("chunk") == 0 && fake_live("mapping") == 0 && fake_live("range") == 0);
    MUST(fake_live("buffer") == 0 && fake_hazards() == 0);
    MUST(spilled == (count == 5));
    printf("done\n");
    return 0;
}
