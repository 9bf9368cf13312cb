/* dlsym and dlvsym: what they hand out for a hooked function of the driver.

   Everything else passes with the caller's own handle and version, and by a jump, so that the
   return address, by which the real ones tell who asks (RTLD_NEXT, RTLD_DEFAULT), is the caller's.
   No lock, no allocation and no driver call here: sanitizers and allocators call dlsym before main. */
#define _GNU_SOURCE
#include "doors.h"

#include "elf.h"

#include <dlfcn.h>

struct answer {
    void *found;
    uintptr_t decided; /* 0: jump on to the real one */
};

typedef void *(*dlsym_type)(void *, const char *);
typedef void *(*dlvsym_type)(void *, const char *, const char *);

__attribute__((visibility("hidden"))) dlsym_type real_dlsym;
__attribute__((visibility("hidden"))) dlvsym_type real_dlvsym;

static const struct hook {
    const char *symbol, *base;
    int since, until, per_thread;
    void *wrapper;
} HOOKED[HOOK_COUNT] = {
#define ROW(symbol, base, since, until, per_thread)                                                \
    {#symbol, base, since, until, per_thread, (void *)&symbol},
    HOOKS(ROW)
#undef ROW
};

static const char *const NAMES[FUNCTION_COUNT] = {
#define ROW(symbol, base, since, until, per_thread) [AT_##symbol] = #symbol,
    HOOKS(ROW)
#undef ROW
#define ROW(symbol) [AT_##symbol] = #symbol,
        CALLED(ROW)
#undef ROW
};

EARLY void *wrapper_of_symbol(const char *name)
{
    if (name == NULL || name[0] != 'c' || name[1] != 'u' || name[2] < 'A' || name[2] > 'Z')
        return NULL; /* not the driver's: cublas, cudnn, cudaMalloc and the rest of the world */
    for (size_t i = 0; i < HOOK_COUNT; i++)
        if (same_name(HOOKED[i].symbol, name))
            return HOOKED[i].wrapper;
    return NULL;
}

EARLY void *wrapper_of_base(const char *name, int version, uint64_t flags)
{
    int per_thread = (flags & PER_THREAD_DEFAULT_STREAM) != 0;
    for (size_t i = 0; i < HOOK_COUNT; i++)
        if (same_name(HOOKED[i].base, name) && version >= HOOKED[i].since &&
            version < HOOKED[i].until &&
            (HOOKED[i].per_thread == EITHER || HOOKED[i].per_thread == per_thread))
            return HOOKED[i].wrapper;
    return NULL;
}

EARLY static const struct link_map *own_object(void) { return object_of((const void *)&HOOKED); }

EARLY static void find_real(void)
{
    if (__atomic_load_n(&real_dlvsym, __ATOMIC_ACQUIRE) != NULL)
        return;
    const struct link_map *own = own_object();
    /* The next library's, so that another preloaded one which hooks them keeps its say. */
    dlsym_type first = (dlsym_type)defined_after(own, "dlsym");
    dlvsym_type second = (dlvsym_type)defined_after(own, "dlvsym");
    __atomic_store_n(&real_dlsym, first, __ATOMIC_RELEASE);
    __atomic_store_n(&real_dlvsym, second, __ATOMIC_RELEASE);
}

EARLY void *driver_handle(void)
{
    static void *handle;
    void *known = __atomic_load_n(&handle, __ATOMIC_ACQUIRE);
    if (known == NULL) {
        known = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
        __atomic_store_n(&handle, known, __ATOMIC_RELEASE);
    }
    return known;
}

static CUresult missing(void) { return CUDA_ERROR_NOT_FOUND; }

void *next_function(enum function which)
{
    static void *known[FUNCTION_COUNT];
    void *found = __atomic_load_n(&known[which], __ATOMIC_ACQUIRE);
    if (found != NULL)
        return found;
    find_real();
    found = real_dlsym(RTLD_NEXT, NAMES[which]);
    if (found == NULL) {
        void *driver = driver_handle();
        found = driver == NULL ? NULL : real_dlsym(driver, NAMES[which]);
    }
    if (found == NULL)
        return (void *)&missing;
    __atomic_store_n(&known[which], found, __ATOMIC_RELEASE);
    return found;
}

/* Whether there is a function to pass calls on to: else this library's symbol is not to be seen. */
EARLY static bool has_next(const char *name)
{
    void *driver = driver_handle();
    return real_dlsym(RTLD_NEXT, name) != NULL ||
           (driver != NULL && real_dlsym(driver, name) != NULL);
}

/* A preloaded library that comes after this one and hooks the same function asks for the one that
   it shall call: the driver's, else calls would go in a circle. So does the driver itself. */
EARLY static bool hooks_it_too(const struct link_map *caller, const char *name)
{
    const struct link_map *own = own_object();
    return caller != NULL && caller != own && is_after(caller, own) &&
           defined_in(caller, name) != NULL;
}

EARLY static struct answer pass(void) { return (struct answer){NULL, 0}; }
EARLY static struct answer give(void *found) { return (struct answer){found, 1}; }

EARLY static struct answer answer_for(void *handle, const char *name, const char *version,
                                const void *return_address)
{
    find_real();
    void *wrapper = wrapper_of_symbol(name);
    if (wrapper == NULL)
        return pass();
    const struct link_map *caller = object_of(return_address), *own = own_object();
    if (caller == own || hooks_it_too(caller, name))
        return pass();
    if (handle == RTLD_NEXT) {
        bool before = caller != NULL && is_after(own, caller);
        if (before && defined_after(caller, name) != wrapper)
            return pass(); /* one between the caller and this library */
        return has_next(name) ? give(wrapper) : pass();
    }
    if (handle == RTLD_DEFAULT) {
        if (has_next(name))
            return give(wrapper);
        real_dlsym(RTLD_NEXT, name); /* leaves what dlerror says */
        return give(NULL);
    }
    void *found = version == NULL ? real_dlsym(handle, name) : real_dlvsym(handle, name, version);
    if (found == NULL)
        return pass();
    if (found == wrapper) /* a handle of the whole program, or of this library */
        return has_next(name) ? give(wrapper) : give(NULL);
    void *driver = driver_handle();
    bool of_driver = driver != NULL && (handle == driver || object_of(found) == driver);
    return of_driver ? give(wrapper) : pass();
}

EARLY __attribute__((visibility("hidden"))) struct answer
answer_dlsym(void *handle, const char *name, const void *return_address)
{
    return answer_for(handle, name, NULL, return_address);
}

EARLY __attribute__((visibility("hidden"))) struct answer
answer_dlvsym(void *handle, const char *name, const char *version, const void *return_address)
{
    return answer_for(handle, name, version, return_address);
}

#ifndef __x86_64__
#error "the doors are written for x86-64: a jump that keeps the caller's return address"
#endif

/* Each saves its arguments, asks above, and either returns that or jumps on with all as it came. */
__asm__(".text\n"
        ".globl dlsym_door\n.hidden dlsym_door\n.type dlsym_door, @function\n"
        "dlsym_door:\n"
        ".cfi_startproc\n"
        "    endbr64\n"
        "    pushq %rdi\n    .cfi_adjust_cfa_offset 8\n"
        "    pushq %rsi\n    .cfi_adjust_cfa_offset 8\n"
        "    subq $8, %rsp\n    .cfi_adjust_cfa_offset 8\n"
        "    movq 24(%rsp), %rdx\n"
        "    call answer_dlsym\n"
        "    addq $8, %rsp\n    .cfi_adjust_cfa_offset -8\n"
        "    popq %rsi\n    .cfi_adjust_cfa_offset -8\n"
        "    popq %rdi\n    .cfi_adjust_cfa_offset -8\n"
        "    testq %rdx, %rdx\n"
        "    jne 1f\n"
        "    jmp *real_dlsym(%rip)\n"
        "1:  ret\n"
        ".cfi_endproc\n"
        ".size dlsym_door, . - dlsym_door\n"
        ".globl dlvsym_door\n.hidden dlvsym_door\n.type dlvsym_door, @function\n"
        "dlvsym_door:\n"
        ".cfi_startproc\n"
        "    endbr64\n"
        "    pushq %rdi\n    .cfi_adjust_cfa_offset 8\n"
        "    pushq %rsi\n    .cfi_adjust_cfa_offset 8\n"
        "    pushq %rdx\n    .cfi_adjust_cfa_offset 8\n"
        "    movq 24(%rsp), %rcx\n"
        "    call answer_dlvsym\n"
        "    movq %rdx, %rcx\n"
        "    popq %rdx\n    .cfi_adjust_cfa_offset -8\n"
        "    popq %rsi\n    .cfi_adjust_cfa_offset -8\n"
        "    popq %rdi\n    .cfi_adjust_cfa_offset -8\n"
        "    testq %rcx, %rcx\n"
        "    jne 1f\n"
        "    jmp *real_dlvsym(%rip)\n"
        "1:  ret\n"
        ".cfi_endproc\n"
        ".size dlvsym_door, . - dlvsym_door\n"
        /* In the versions that glibc before and from 2.34 has them under. */
        ".globl dlsym_old\n.set dlsym_old, dlsym_door\n"
        ".globl dlsym_new\n.set dlsym_new, dlsym_door\n"
        ".globl dlvsym_old\n.set dlvsym_old, dlvsym_door\n"
        ".globl dlvsym_new\n.set dlvsym_new, dlvsym_door\n"
        ".type dlsym_old, @function\n.type dlsym_new, @function\n"
        ".type dlvsym_old, @function\n.type dlvsym_new, @function\n"
        ".symver dlsym_old, dlsym@GLIBC_2.2.5\n.symver dlsym_new, dlsym@@GLIBC_2.34\n"
        ".symver dlvsym_old, dlvsym@GLIBC_2.2.5\n.symver dlvsym_new, dlvsym@@GLIBC_2.34\n");
