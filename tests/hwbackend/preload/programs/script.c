/* Makes the calls of a file and nothing else: script FILE MIB; the device has so many MiB. A line is
   "m NUMBER BYTES" or, of what is there, "g NUMBER BYTES", which may fail for want of memory, or
   "f NUMBER". */
#include "program.h"

int main(int count, char **words)
{
    static CUdeviceptr at[1 << 16];
    FILE *file = count == 3 ? fopen(words[1], "r") : NULL;
    MUST(file != NULL);
    fake_limit(0, 0, (size_t)atoi(words[2]) * MIB);
    begin_on(0);
    char what;
    unsigned number;
    size_t bytes;
    while (fscanf(file, " %c %u", &what, &number) == 2) {
        MUST(number < sizeof at / sizeof *at);
        if (what == 'f') {
            if (at[number] != 0)
                DO(cuMemFree_v2(at[number]));
            at[number] = 0;
            continue;
        }
        MUST(fscanf(file, "%zu", &bytes) == 1);
        if (what == 'g') {
            CUresult grown = vsim_realloc(&at[number], bytes);
            MUST(grown == CUDA_SUCCESS || grown == CUDA_ERROR_OUT_OF_MEMORY);
            continue;
        }
        CUresult code = cuMemAlloc_v2(&at[number], bytes);
        MUST(code == CUDA_SUCCESS || code == CUDA_ERROR_OUT_OF_MEMORY);
        if (code != CUDA_SUCCESS)
            at[number] = 0;
    }
    MUST(feof(file));
    fclose(file);
    return 0;
}
