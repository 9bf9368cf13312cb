/* Homes: contexts, their streams, and the fences behind which freed blocks wait.

   A block that the program freed may still be in use by work that it put on streams before. A fence
   is an event on every stream that could hold such work: the default one, which waits for all
   blocking ones and those of threads, and each stream that it does not wait for. While any stream
   is captured no fence is made, since recording would end the capture in an error. */
#ifndef VSIM_PRELOAD_HOMES_H
#define VSIM_PRELOAD_HOMES_H

#include "books.h"

/* The home of the current context, made when it is first seen; NULL where there is none. */
struct home *current_home(void);

/* Where a capture goes on, from its beginning to its end. */
void capture_begins(void);
void capture_began(CUstream stream, bool succeeded);
void capture_may_have_ended(CUstream stream);
bool capturing(void);

/* While a thread's own driver calls must not disturb a capture: hand the result back to leave. */
int enter_relaxed(void);
void leave_relaxed(int before);

void stream_was_made(CUstream stream);
void stream_will_go(CUstream stream);

/* Have freed blocks of a home wait behind a fence; nothing to do is no fault. */
CUresult make_fence(struct home *home);

/* Take back blocks behind fences that are passed: those that are now, or with `wait` all of them.
   Says whether any came back. */
bool pass_fences(struct home *home, bool wait);

/* Fence and wait for everything that was freed on a device; true if anything came back. */
bool settle_device(struct device *device);

/* The context is gone, and with it all memory that the program had in it. */
void context_went(CUcontext context);

/* A device's primary context while it is active, else NULL. */
CUcontext primary_context(CUdevice device);

/* Trim what the driver's own stream-ordered pools hold unused. */
void note_pool(CUmemoryPool pool, bool made);
void trim_driver_pools(CUdevice device);

void forget_homes(void);

#endif
