/* Calls: counted, listed, and made to fail where a test says so. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>
#include <string.h>

struct fault {
    char function[64];
    long left; /* calls until the one that fails */
    CUresult code;
};

static pthread_mutex_t driver = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static const char **names; /* __func__ of each call: they live as long as the library */
static size_t named, room;
static struct fault faults[64];
static size_t fault_count;
static long calls_until_lost = -1;
static CUresult lost_by = OK;

void lock_driver(void) { pthread_mutex_lock(&driver); }

void unlock_driver(int *unused)
{
    (void)unused;
    pthread_mutex_unlock(&driver);
}

CUresult lost(void) { return lost_by; }

CUresult lose_device(CUresult code)
{
    if (lost_by == OK)
        lost_by = code;
    return lost_by;
}

CUresult note_call(const char *name)
{
    if (named == room) {
        room = room ? 2 * room : 1024;
        names = realloc(names, room * sizeof *names);
    }
    names[named++] = name;
    if (calls_until_lost > 0 && --calls_until_lost == 0)
        lose_device(ILLEGAL_ADDRESS);
    if (lost_by != OK)
        return lost_by;
    CUresult code = in_forked_child() ? NOT_INITIALIZED : OK; /* as every real driver has it */
    for (size_t i = 0; i < fault_count; i++) {
        struct fault *fault = &faults[i];
        bool meant = fault->function[0] == '\0' || strcmp(fault->function, name) == 0;
        if (fault->left > 0 && meant && --fault->left == 0 && code == OK)
            code = fault->code;
    }
    return code;
}

/* What tests call, through ctypes. */

EXPORT size_t fake_call_count(void) { return named; }

EXPORT const char *fake_call_name(size_t at) { return at < named ? names[at] : ""; }

/* Let the nth call of a function from now on (any function: "") fail once, without having done
   anything. Says whether there was room for one more. */
EXPORT bool fake_fail(const char *function, long nth, int code)
{
    if (fault_count == sizeof faults / sizeof *faults || strlen(function) >= sizeof faults->function)
        return false;
    struct fault *fault = &faults[fault_count++];
    strcpy(fault->function, function);
    fault->left = nth;
    fault->code = code;
    return true;
}

/* How many of the failures asked for did not come yet. */
EXPORT size_t fake_failures_left(void)
{
    size_t left = 0;
    for (size_t i = 0; i < fault_count; i++)
        left += faults[i].left > 0;
    return left;
}

/* Let the nth call from now on and all after it fail with CUDA_ERROR_ILLEGAL_ADDRESS. */
EXPORT void fake_lose_device_at(long nth) { calls_until_lost = nth; }

/* No failures that were asked for, and no lost device; what is alive stays. */
EXPORT void fake_heal(void)
{
    fault_count = 0;
    calls_until_lost = -1;
    lost_by = OK;
}

/* Everything as it was when the library was loaded. */
EXPORT void fake_reset(void)
{
    lock_driver();
    fake_heal();
    named = 0;
    reset_streams();
    reset_modules();
    reset_memory();
    reset_devices();
    reset_objects();
    unlock_driver(NULL);
}
