/* Modules and launches. A kernel's code is not run: what was launched is written down, and a test
   may have a function of its own called in its place.

   A module is a cubin as NVRTC makes it, or text for tests that compile nothing: a line for each
   kernel, `kernel NAME`, followed by the size in bytes of each argument. */
#define _GNU_SOURCE
#include "fake.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ARGUMENTS 256
enum { PARAMETER = 0x17, REGISTERS = 0x2f, FRAME = 0x11, SIZED = 4 }; /* entries of .nv.info */
enum { MOST_THREADS = 1024, SHARED_WITHOUT_LEAVE = 48 << 10, MOST_SHARED = 227 << 10 };

struct kernel {
    struct kernel *next;
    struct module *module;
    Handle handle; /* 0 until someone asked for it */
    char *name;
    size_t arguments, sizes[MOST_ARGUMENTS];
    int registers, local_bytes, shared_bytes, most_dynamic_bytes;
};
struct module {
    int device;
    struct kernel *kernels;
};

static struct launch **launches;
static size_t launch_count, launch_room;
static void (*instead)(const char *, const unsigned *, unsigned, const void *const *, size_t);

static struct kernel *add_kernel(struct module *module, const char *name, size_t length)
{
    struct kernel *kernel = calloc(1, sizeof *kernel);
    kernel->module = module;
    kernel->name = strndup(name, length);
    kernel->registers = 32;
    kernel->most_dynamic_bytes = SHARED_WITHOUT_LEAVE;
    kernel->next = module->kernels;
    module->kernels = kernel;
    return kernel;
}

static struct kernel *kernel_named(struct module *module, const char *name)
{
    struct kernel *kernel = module->kernels;
    while (kernel != NULL && strcmp(kernel->name, name) != 0)
        kernel = kernel->next;
    return kernel;
}

static bool read_text(struct module *module, const char *text)
{
    for (int used = 0; sscanf(text, " kernel %*s%n", &used) == 0 && used > 0; used = 0) {
        char name[256];
        if (sscanf(text, " kernel %255s", name) != 1)
            return false;
        struct kernel *kernel = add_kernel(module, name, strlen(name));
        text += used;
        for (char *end; kernel->arguments < MOST_ARGUMENTS; text = end) {
            size_t size = strtoul(text, &end, 10);
            if (end == text)
                break;
            kernel->sizes[kernel->arguments++] = size;
        }
    }
    return module->kernels != NULL;
}

static uint32_t word(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Goes through what .nv.info or .nv.info.KERNEL says. */
static void read_info(struct module *module, struct kernel *kernel, const unsigned char *info,
                      size_t bytes, const Elf64_Sym *symbols, const char *strings)
{
    for (size_t at = 0; at + 4 <= bytes;) {
        unsigned format = info[at], what = info[at + 1];
        const unsigned char *value = info + at + 4;
        size_t size = format == SIZED ? (size_t)info[at + 2] + 256 * (size_t)info[at + 3] : 0;
        at += 4 + size;
        if (format == SIZED && kernel != NULL && what == PARAMETER) {
            unsigned ordinal = value[4] + 256u * value[5];
            if (ordinal < MOST_ARGUMENTS) {
                kernel->sizes[ordinal] = word(value + 8) >> 18;
                if (ordinal >= kernel->arguments)
                    kernel->arguments = ordinal + 1;
            }
        } else if (format == SIZED && kernel == NULL && (what == REGISTERS || what == FRAME)) {
            struct kernel *meant =
                kernel_named(module, strings + symbols[word(value)].st_name);
            if (meant != NULL && what == REGISTERS)
                meant->registers = (int)word(value + 4);
            else if (meant != NULL)
                meant->local_bytes = (int)word(value + 4);
        }
    }
}

static bool read_cubin(struct module *module, const unsigned char *image)
{
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Shdr *sections = (const void *)(image + header->e_shoff);
    const char *words = (const char *)image + sections[header->e_shstrndx].sh_offset;
    const Elf64_Sym *symbols = NULL;
    const char *strings = NULL;
    for (int i = 0; i < header->e_shnum; i++)
        if (sections[i].sh_type == SHT_SYMTAB) {
            symbols = (const void *)(image + sections[i].sh_offset);
            strings = (const char *)image + sections[sections[i].sh_link].sh_offset;
        }
    if (symbols == NULL)
        return false;
    for (int i = 0; i < header->e_shnum; i++) {
        const char *name = words + sections[i].sh_name;
        if (strncmp(name, ".text.", 6) == 0)
            add_kernel(module, name + 6, strlen(name + 6));
    }
    for (int i = 0; i < header->e_shnum; i++) {
        const char *name = words + sections[i].sh_name;
        const unsigned char *content = image + sections[i].sh_offset;
        if (strncmp(name, ".nv.shared.", 11) == 0) {
            struct kernel *kernel = kernel_named(module, name + 11);
            if (kernel != NULL)
                kernel->shared_bytes = (int)sections[i].sh_size;
        } else if (strcmp(name, ".nv.info") == 0) {
            read_info(module, NULL, content, sections[i].sh_size, symbols, strings);
        } else if (strncmp(name, ".nv.info.", 9) == 0) {
            struct kernel *kernel = kernel_named(module, name + 9);
            if (kernel != NULL)
                read_info(module, kernel, content, sections[i].sh_size, symbols, strings);
        }
    }
    return module->kernels != NULL;
}

EXPORT CUresult cuModuleLoadData(Handle *made, const void *image)
{
    ENTER_ON(device);
    struct module *module = calloc(1, sizeof *module);
    module->device = device;
    bool cubin = memcmp(image, ELFMAG, SELFMAG) == 0;
    if (!(cubin ? read_cubin(module, image) : read_text(module, image)))
        return INVALID_IMAGE;
    *made = keep(MODULE, module);
    return OK;
}

EXPORT CUresult cuModuleLoadDataEx(Handle *made, const void *image, unsigned count, int *options,
                                   void **values)
{
    (void)count, (void)options, (void)values;
    return cuModuleLoadData(made, image);
}

EXPORT CUresult cuModuleUnload(Handle handle)
{
    ENTER_ON(device);
    struct module *module = find(MODULE, handle);
    if (module == NULL)
        return INVALID_HANDLE;
    for (struct kernel *kernel = module->kernels; kernel != NULL; kernel = kernel->next)
        drop(kernel->handle);
    drop(handle);
    return OK;
}

EXPORT CUresult cuModuleGetFunction(Handle *made, Handle handle, const char *name)
{
    ENTER_ON(device);
    struct module *module = find(MODULE, handle);
    if (module == NULL)
        return INVALID_HANDLE;
    struct kernel *kernel = kernel_named(module, name);
    if (kernel == NULL)
        return NOT_FOUND;
    if (kernel->handle == 0)
        kernel->handle = keep(KERNEL, kernel);
    *made = kernel->handle;
    return OK;
}

EXPORT CUresult cuFuncGetAttribute(int *value, int attribute, Handle handle)
{
    ENTER_ON(device);
    struct kernel *kernel = find(KERNEL, handle);
    if (kernel == NULL)
        return INVALID_HANDLE;
    switch (attribute) {
    case 0: /* MAX_THREADS_PER_BLOCK */
        *value = MOST_THREADS;
        return OK;
    case 1: /* SHARED_SIZE_BYTES */
        *value = kernel->shared_bytes;
        return OK;
    case 3: /* LOCAL_SIZE_BYTES */
        *value = kernel->local_bytes;
        return OK;
    case 4: /* NUM_REGS */
        *value = kernel->registers;
        return OK;
    case 8: /* MAX_DYNAMIC_SHARED_SIZE_BYTES */
        *value = kernel->most_dynamic_bytes;
        return OK;
    default:
        *value = 0;
        return OK;
    }
}

EXPORT CUresult cuFuncSetAttribute(Handle handle, int attribute, int value)
{
    ENTER_ON(device);
    struct kernel *kernel = find(KERNEL, handle);
    if (kernel == NULL)
        return INVALID_HANDLE;
    if (attribute == 8) { /* MAX_DYNAMIC_SHARED_SIZE_BYTES */
        if (value < 0 || value + kernel->shared_bytes > MOST_SHARED)
            return INVALID_VALUE;
        kernel->most_dynamic_bytes = value;
    }
    return OK;
}

EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Handle handle, int threads,
                                                            size_t shared_bytes)
{
    ENTER_ON(device);
    struct kernel *kernel = find(KERNEL, handle);
    if (kernel == NULL)
        return INVALID_HANDLE;
    if (threads < 1 || threads > MOST_THREADS)
        return INVALID_VALUE;
    int by_threads = 2048 / threads, by_registers = 65536 / (kernel->registers * threads + 1);
    size_t shared = shared_bytes + (size_t)kernel->shared_bytes + 1024;
    int by_shared = (int)((size_t)233472 / shared);
    *blocks = by_threads < by_registers ? by_threads : by_registers;
    *blocks = by_shared < *blocks ? by_shared : *blocks;
    *blocks = *blocks > 32 ? 32 : *blocks;
    return OK;
}

static CUresult launch(Handle handle, const unsigned *extent, unsigned shared_bytes, unsigned marks,
                       Handle stream_handle, void *const *arguments, int device)
{
    struct kernel *kernel = find(KERNEL, handle);
    struct stream *stream;
    if (kernel == NULL || stream_of(stream_handle, device, &stream) != OK ||
        stream_device(stream) != kernel->module->device)
        return INVALID_HANDLE;
    size_t threads = (size_t)extent[3] * extent[4] * extent[5];
    if (threads == 0 || threads > MOST_THREADS || extent[0] == 0 || extent[1] == 0 ||
        extent[2] == 0 || extent[1] > 65535 || extent[2] > 65535 ||
        shared_bytes > (unsigned)kernel->most_dynamic_bytes)
        return INVALID_VALUE;
    struct launch *made = calloc(1, sizeof *made);
    *made = (struct launch){.name = kernel->name, .shared_bytes = shared_bytes};
    made->attributes = marks;
    made->arguments = kernel->arguments;
    made->sizes = kernel->sizes;
    memcpy(made->extent, extent, sizeof made->extent);
    size_t bytes = 0;
    for (size_t i = 0; i < kernel->arguments; i++) {
        if (arguments == NULL || arguments[i] == NULL)
            return INVALID_VALUE;
        bytes += (kernel->sizes[i] + 7) / 8 * 8;
    }
    unsigned char *at = made->bytes = calloc(bytes + 1, 1);
    for (size_t i = 0; i < kernel->arguments; i++) {
        memcpy(at, arguments[i], kernel->sizes[i]);
        at += (kernel->sizes[i] + 7) / 8 * 8;
    }
    struct work work = {.kind = LAUNCH, .launch = made};
    return put(stream, work);
}

EXPORT CUresult cuLaunchKernel(Handle kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                               unsigned block_x, unsigned block_y, unsigned block_z,
                               unsigned shared_bytes, Handle stream, void **arguments, void **extra)
{
    ENTER_ON(device);
    const unsigned extent[6] = {grid_x, grid_y, grid_z, block_x, block_y, block_z};
    if (extra != NULL)
        return NOT_SUPPORTED;
    return launch(kernel, extent, shared_bytes, 0, stream, arguments, device);
}

struct launch_config {
    unsigned extent[6], shared_bytes;
    Handle stream;
    const void *attributes;
    unsigned attribute_count;
};

EXPORT CUresult cuLaunchKernelEx(const struct launch_config *config, Handle kernel,
                                 void **arguments, void **extra)
{
    ENTER_ON(device);
    if (extra != NULL)
        return NOT_SUPPORTED;
    return launch(kernel, config->extent, config->shared_bytes, config->attribute_count,
                  config->stream, arguments, device);
}

EXPORT CUresult cuLaunchCooperativeKernel(Handle kernel, unsigned grid_x, unsigned grid_y,
                                          unsigned grid_z, unsigned block_x, unsigned block_y,
                                          unsigned block_z, unsigned shared_bytes, Handle stream,
                                          void **arguments)
{
    ENTER_ON(device);
    const unsigned extent[6] = {grid_x, grid_y, grid_z, block_x, block_y, block_z};
    return launch(kernel, extent, shared_bytes, 0, stream, arguments, device);
}

/* A tensor map's 128 bytes mean something to the hardware alone. */
EXPORT CUresult cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *at,
                                       const uint64_t *dims, const uint64_t *strides,
                                       const uint32_t *box, const uint32_t *steps, int interleave,
                                       int swizzle, int promotion, int fill)
{
    ENTER_ON(device);
    (void)type, (void)dims, (void)strides, (void)box, (void)steps;
    (void)interleave, (void)swizzle, (void)promotion, (void)fill;
    memset(map, 0, 128);
    return rank < 1 || rank > 5 || (uintptr_t)at % 16 != 0 ? INVALID_VALUE : OK;
}

static const void *argument_of(const struct launch *launch, size_t wanted)
{
    const unsigned char *at = launch->bytes;
    for (size_t i = 0; i < wanted; i++)
        at += (launch->sizes[i] + 7) / 8 * 8;
    return at;
}

void do_launch(const struct launch *launch)
{
    if (launch_count == launch_room) {
        launch_room = launch_room ? 2 * launch_room : 1024;
        launches = realloc(launches, launch_room * sizeof *launches);
    }
    launches[launch_count++] = (struct launch *)(uintptr_t)launch;
    if (instead == NULL)
        return;
    const void *arguments[MOST_ARGUMENTS];
    for (size_t i = 0; i < launch->arguments; i++)
        arguments[i] = argument_of(launch, i);
    instead(launch->name, launch->extent, launch->shared_bytes, arguments, launch->arguments);
}

/* What was launched and has been done, in order; graphs' launches once for each of theirs. */

EXPORT size_t fake_launch_count(void) { return launch_count; }
EXPORT const char *fake_launch_name(size_t at) { return launches[at]->name; }
EXPORT const unsigned *fake_launch_extent(size_t at) { return launches[at]->extent; }
EXPORT unsigned fake_launch_shared(size_t at) { return launches[at]->shared_bytes; }
EXPORT unsigned fake_launch_attributes(size_t at) { return launches[at]->attributes; }
EXPORT size_t fake_launch_arguments(size_t at) { return launches[at]->arguments; }
EXPORT size_t fake_launch_size(size_t at, size_t which) { return launches[at]->sizes[which]; }
EXPORT const void *fake_launch_argument(size_t at, size_t which)
{
    return argument_of(launches[at], which);
}

/* Have a function called for each launch when its turn comes: name, grid and block, bytes of shared
   memory, addresses of the arguments, how many; NULL: nothing is done. */
EXPORT void fake_on_launch(void (*function)(const char *, const unsigned *, unsigned,
                                            const void *const *, size_t))
{
    instead = function;
}

void reset_modules(void)
{
    launch_count = 0;
    instead = NULL;
}
