/* Every way to a function of the driver, for each that the library hooks, as "NAME LIBRARY" lines:

   doors WAY [LIBRARY]   WAY is dlsym, dlvsym, default, whole, next, PROC, unlisted, errors, nulls;
                         PROC is a version of CUDA, for cuGetProcAddress (v1 where it is below 12000)
                         LIBRARY is one that asks in place of this program (caller.c) */
#define _GNU_SOURCE
#include "../../../../hwbackend/preload/library/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *(*asking)(void *, const char *);
typedef CUresult (*getting)(const char *, void **, int, uint64_t);
typedef CUresult (*getting_v2)(const char *, void **, int, uint64_t, int *);

static const struct {
    const char *symbol, *base;
    int since, until, per_thread;
} ROWS[] = {
#define ROW(symbol, base, since, until, per_thread) {#symbol, base, since, until, per_thread},
    HOOKS(ROW)
#undef ROW
};

static void show(const char *name, const void *address)
{
    Dl_info info = {0};
    const char *library = "none";
    if (address != NULL && dladdr(address, &info) != 0) {
        const char *slash = strrchr(info.dli_fname, '/');
        library = slash == NULL ? info.dli_fname : slash + 1;
    }
    printf("%s %s %p\n", name, library, address);
}

static void *ask_here(void *handle, const char *name) { return dlsym(handle, name); }

int main(int count, char **words)
{
    const char *way = count > 1 ? words[1] : "";
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | (strcmp(way, "dlsym") == 0 ? 0 : RTLD_GLOBAL));
    asking ask = ask_here;
    if (count > 2) {
        int deep = getenv("DEEP") != NULL ? RTLD_DEEPBIND : 0;
        void *caller = dlopen(words[2], RTLD_NOW | deep);
        ask = caller == NULL ? NULL : (asking)dlsym(caller, "ask");
    }
    if (driver == NULL || ask == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    if (strcmp(way, "unlisted") == 0) {
        const char *const others[] = {"cuMemAlloc", "cuInit", "cuLaunchKernel", "cublasCreate_v2",
                                      "cudnnCreate", "cudaMalloc", "malloc", "cuMemAlloc_v3"};
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            show(others[i], ask(i == 6 ? NULL : driver, others[i]));
        return 0;
    }
    if (strcmp(way, "nulls") == 0) { /* handles and arguments that are none */
        getting_v2 by_name = (getting_v2)dlsym(driver, "cuGetProcAddress_v2");
        void *found = NULL, *unknown = &found;
        int status = 9;
        printf("%d ", by_name(NULL, &found, 13000, 0, &status));
        printf("%d ", by_name("cuMemAlloc", NULL, 13000, 0, &status));
        printf("%d ", by_name("cuNoSuchFunction", &unknown, 13000, 0, &status));
        printf("%d %d ", unknown == NULL, status);
        printf("%d ", by_name("cuMemAlloc", &found, 13000, 0, NULL));
        printf("%d ", found == dlsym(driver, "cuMemAlloc_v2"));
        printf("%d\n", dlsym(NULL, "cuNoSuchFunction") == NULL && dlerror() != NULL);
        return 0;
    }
    if (strcmp(way, "errors") == 0) {
        dlerror();
        void *missing = ask(driver, "cuMemAlloc_v9");
        const char *text = dlerror();
        printf("%d %s\n", missing == NULL, text == NULL ? "nothing" : text);
        missing = ask(driver, "cuMemAlloc_v2");
        printf("%d %s\n", missing != NULL, dlerror() == NULL ? "nothing" : "something");
        return 0;
    }
    int version = atoi(way);
    getting get = (getting)dlsym(driver, "cuGetProcAddress");
    getting_v2 get_v2 = (getting_v2)dlsym(driver, "cuGetProcAddress_v2");
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        const char *name = ROWS[i].symbol;
        void *found = NULL;
        int status;
        uint64_t flags = ROWS[i].per_thread == 1 ? PER_THREAD_DEFAULT_STREAM : 0;
        if (strcmp(way, "dlsym") == 0)
            found = ask(driver, name);
        else if (strcmp(way, "dlvsym") == 0)
            found = dlvsym(driver, name, "libcuda.so.1"); /* the fake's version */
        else if (strcmp(way, "default") == 0)
            found = ask(RTLD_DEFAULT, name);
        else if (strcmp(way, "whole") == 0)
            found = ask(dlopen(NULL, RTLD_NOW), name);
        else if (strcmp(way, "next") == 0)
            found = ask(RTLD_NEXT, name);
        else if (version < ROWS[i].since || version >= ROWS[i].until)
            continue;
        else if (version < 12000)
            get(ROWS[i].base, &found, version, flags);
        else
            get_v2(ROWS[i].base, &found, version, flags, &status);
        show(name, found);
    }
    return 0;
}
