/* How cuda.bindings finds the driver's functions: by name and by the version it was built for. */
#define _GNU_SOURCE
#include "fake.h"

#include <dlfcn.h>
#include <string.h>

/* Functions that CUDA 13 has a second form of, with other arguments; this driver has the first. */
static const char *const CHANGED[] = {"cuCtxGetDevice", "cuCtxSynchronize"};

EXPORT CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                                    int *status)
{
    (void)flags;
    if (name == NULL || function == NULL)
        return INVALID_VALUE;
    *function = NULL;
    bool here = strncmp(name, "cu", 2) == 0;
    for (size_t i = 0; i < sizeof CHANGED / sizeof *CHANGED; i++)
        here &= version < 13000 || strcmp(name, CHANGED[i]) != 0;
    Dl_info self;
    if (here && dladdr((const void *)(uintptr_t)&lock_driver, &self) != 0) {
        void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
        *function = library == NULL ? NULL : dlsym(library, name);
    }
    if (status != NULL)
        *status = *function == NULL; /* CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND */
    return OK;
}

EXPORT CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}

/* NVRTC asks a driver that is there for tables that are documented nowhere, and can do without. */
EXPORT CUresult cuGetExportTable(const void **table, const void *uuid)
{
    (void)uuid;
    *table = NULL;
    return NOT_FOUND;
}
