/* Which library each door leads to, for every function that the preload library hooks: one line of
   JSON. Run with and without the library; without it, whether the doors give equal addresses. */
#define _GNU_SOURCE
#include "../library/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *symbol, *base;
    int since, until, per_thread;
} ROWS[] = {
#define ROW(symbol, base, since, until, per_thread) {#symbol, base, since, until, per_thread},
    HOOKS(ROW)
#undef ROW
};

static const char *library_of(const void *address)
{
    Dl_info info;
    if (address == NULL)
        return "none";
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL)
        return "unknown";
    const char *slash = strrchr(info.dli_fname, '/');
    return slash == NULL ? info.dli_fname : slash + 1;
}

int main(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL)
        return 2;
    CUresult (*get)(const char *, void **, int, uint64_t, int *) =
        (CUresult(*)(const char *, void **, int, uint64_t, int *))dlsym(driver, "cuGetProcAddress_v2");
    CUresult (*init)(unsigned) = (CUresult(*)(unsigned))dlsym(driver, "cuInit");
    if (get == NULL || init == NULL || init(0) != 0)
        return 1;
    int equal = 0, all = 0;
    printf("{\"doors\": {");
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        void *by_dlsym = dlsym(driver, ROWS[i].symbol), *by_version = NULL, *newest = NULL;
        int status;
        uint64_t flags = ROWS[i].per_thread == 1 ? PER_THREAD_DEFAULT_STREAM : 1;
        int version = ROWS[i].until == NO_END ? 12000 : ROWS[i].until - 1;
        if (version < ROWS[i].since)
            version = ROWS[i].since;
        get(ROWS[i].base, &by_version, version, flags, &status);
        get(ROWS[i].base, &newest, 13000, flags, &status);
        all++;
        equal += by_dlsym == by_version;
        printf("%s\"%s\": [\"%s\", \"%s\", \"%s\"]", i ? ", " : "", ROWS[i].symbol,
               library_of(by_dlsym), library_of(by_version), library_of(newest));
    }
    printf("}, \"equal\": %d, \"all\": %d}\n", equal, all);
    return 0;
}
