/* The fake driver's parts and what they share. Names and numbers are those of CUDA 13.0's cuda.h. */
#ifndef FAKE_H
#define FAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define DEVICES 2
#define HOSTS 2
#define GRANULARITY ((size_t)2 << 20)

typedef int CUresult;
typedef uint64_t Address; /* CUdeviceptr */
typedef uint64_t Handle;  /* whatever cuda.h hides behind a pointer: never one that can be read */

enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    PEER_ACCESS_ALREADY_ENABLED = 704,
    PEER_ACCESS_NOT_ENABLED = 705,
    CONTEXT_IS_DESTROYED = 709,
    NOT_SUPPORTED = 801,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_INVALIDATED = 901,
    STREAM_CAPTURE_UNMATCHED = 903,
    STREAM_CAPTURE_UNJOINED = 904,
    STREAM_CAPTURE_IMPLICIT = 906,
};

/* calls.c: every call is counted, and may be told to fail. */

void lock_driver(void);
void unlock_driver(int *unused);
CUresult note_call(const char *name);
CUresult lose_device(CUresult code);
CUresult lost(void);

/* Begins a function of the driver: alone in it until it returns, and failed where it was told to. */
#define ENTER()                                                                                    \
    lock_driver();                                                                                 \
    __attribute__((cleanup(unlock_driver), unused)) int entered = 0;                               \
    do {                                                                                           \
        CUresult told = note_call(__func__);                                                       \
        if (told != OK)                                                                            \
            return told;                                                                           \
    } while (0)

/* The same for one that needs a context; says of which device the current one is. */
#define ENTER_ON(device)                                                                           \
    ENTER();                                                                                       \
    int device = 0;                                                                                \
    do {                                                                                           \
        CUresult found = current_device(&device);                                                  \
        if (found != OK)                                                                           \
            return found;                                                                          \
    } while (0)

/* objects.c: handles. One that was given back is never given out again, so that its use is seen; a
   chunk that is mapped has its own again. */

enum kind { STREAM, EVENT, MODULE, KERNEL, GRAPH, GRAPH_EXEC, CHUNK, KINDS };

Handle keep(enum kind kind, void *data);
void *find(enum kind kind, Handle handle);
void drop(Handle handle);
void put_back(Handle handle, void *data); /* under the handle that it had before it was dropped */
size_t kept(enum kind kind);
void *each(enum kind kind, size_t *position); /* NULL after the last */
void reset_objects(void);

/* devices.c */

CUresult current_device(int *device);
size_t contexts_held(void);
bool in_forked_child(void); /* of a process that had initialised the driver */
void reset_devices(void);

/* memory.c: what can be at an address, and where it is. */

bool can_touch(Address at, size_t bytes, int device); /* now, by work of a device */
size_t buffers_held(bool pinned), ranges_held(void), mappings_held(void);
size_t place_total(bool host, int number), place_used(bool host, int number);
void free_buffers_of(int device);
void reset_memory(void);

/* streams.c: work, in the order in which it was put on each stream. */

struct stream;
struct work;

enum work_kind { COPY, SET8, SET32, RECORD, WAIT, LAUNCH, HOST_CALL };

struct work {
    enum work_kind kind;
    struct work *next;
    Address target, source;
    size_t count; /* bytes, or values to set */
    uint32_t value;
    struct event *event;
    uint64_t serial;       /* of the event's record */
    struct stream *stream; /* on which that record is */
    struct launch *launch;
    void (*function)(void *);
    void *argument;
};

CUresult stream_of(Handle handle, int device, struct stream **found);
int stream_device(const struct stream *stream);
CUresult put(struct stream *stream, struct work work);
CUresult finish_device(int device);
CUresult finish_everything(void);
void note_hazards(Address at, size_t bytes); /* memory that goes while work still wants it */
void reset_streams(void);

/* modules.c: what a launch is. */

struct launch {
    const char *name;
    unsigned extent[6]; /* grid, block */
    unsigned shared_bytes, attributes;
    size_t arguments;
    const size_t *sizes;
    unsigned char *bytes; /* the arguments one after another, each at a multiple of eight */
};

void do_launch(const struct launch *launch);
void reset_modules(void);

#endif
