/* A library that looks symbols up for itself, with its own handle and from its own place. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT void *ask(void *handle, const char *name) { return dlsym(handle, name); }

/* It has this itself and forwards to the next, as OpenMP's ompt_start_tool does: were the caller
   not kept, it would find itself again. */
EXPORT int forwarded(void)
{
    int (*next)(void) = (int (*)(void))dlsym(RTLD_NEXT, "forwarded");
    return next == NULL ? 7 : next();
}
