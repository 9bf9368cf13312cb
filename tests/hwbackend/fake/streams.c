/* Streams, events, copies and graphs.

   Work is queued when it is put on a stream and done, in order, only when something waits for it or
   asks about it: what forgets to wait reads old bytes, every time. A query does one piece of work
   and says "not ready". Time is a count of nanoseconds that only work moves on. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>
#include <string.h>

enum { NON_BLOCKING = 1, NO_TIMING = 2 };

struct graph {
    struct work *first, *last;
    size_t count;
};

struct capture {
    struct graph *graph;
    struct stream *origin;
    bool broken;
};

struct stream {
    int device;
    bool blocking; /* it and the default stream wait for each other */
    bool given_back;
    struct work *first, *last;
    struct capture *capture;
    bool joined; /* whether the captured stream has waited for what it captured last */
    struct stream *next;
};

struct event {
    int device; /* on whose streams alone it can be recorded */
    bool timed, recorded;
    uint64_t serial, done, at_ns;
    struct stream *stream;   /* of the latest record */
    struct capture *capture; /* in which it was recorded, if in one */
};

static struct stream *streams; /* those given back too, while they have work */
static struct stream *defaults[DEVICES];
static uint64_t now_ns, works_done, hazards;

static CUresult run_next(struct stream *stream);

static struct stream *new_stream(int device, bool blocking)
{
    struct stream *stream = calloc(1, sizeof *stream);
    *stream = (struct stream){.device = device, .blocking = blocking, .next = streams};
    streams = stream;
    return stream;
}

static struct stream *default_stream(int device)
{
    if (defaults[device] == NULL)
        defaults[device] = new_stream(device, true);
    return defaults[device];
}

CUresult stream_of(Handle handle, int device, struct stream **found)
{
    *found = handle <= 2 ? default_stream(device) : find(STREAM, handle);
    return *found == NULL ? INVALID_HANDLE : OK;
}

int stream_device(const struct stream *stream) { return stream->device; }

static void append(struct work **first, struct work **last, struct work work)
{
    struct work *made = malloc(sizeof *made);
    *made = work;
    made->next = NULL;
    if (*first == NULL)
        *first = made;
    else
        (*last)->next = made;
    *last = made;
}

static CUresult finish(struct stream *stream)
{
    CUresult code = lost();
    while (code == OK && stream->first != NULL)
        code = run_next(stream);
    return code;
}

/* What the default stream and blocking ones owe each other. */
static CUresult finish_those_before(struct stream *stream)
{
    CUresult code = OK;
    if (!stream->blocking)
        return code;
    bool is_default = stream == default_stream(stream->device);
    for (struct stream *other = streams; other != NULL && code == OK; other = other->next)
        if (other != stream && other->device == stream->device && other->blocking &&
            (is_default || other == default_stream(stream->device)))
            code = finish(other);
    return code;
}

CUresult put(struct stream *stream, struct work work)
{
    struct capture *capture = stream->capture;
    if (capture != NULL) {
        if (capture->broken)
            return STREAM_CAPTURE_INVALIDATED;
        append(&capture->graph->first, &capture->graph->last, work);
        capture->graph->count++;
        stream->joined = stream == capture->origin;
        return OK;
    }
    CUresult code = finish_those_before(stream);
    if (code == OK)
        append(&stream->first, &stream->last, work);
    return code;
}

static CUresult do_record(struct work *work)
{
    if (work->serial > work->event->done) {
        work->event->done = work->serial;
        work->event->at_ns = now_ns;
    }
    return OK;
}

static CUresult do_wait(struct work *work)
{
    CUresult code = OK;
    while (code == OK && work->event->done < work->serial && work->stream->first != NULL)
        code = run_next(work->stream);
    return code;
}

/* Moves bytes, if the memory is still there and the device may touch it. */
static CUresult do_bytes(const struct work *work, int device)
{
    size_t bytes = work->kind == SET32 ? 4 * work->count : work->count;
    bool allowed = can_touch(work->target, bytes, device) &&
                   (work->kind != COPY || can_touch(work->source, bytes, device));
    if (!allowed)
        return lose_device(ILLEGAL_ADDRESS);
    void *target = (void *)(uintptr_t)work->target;
    if (work->kind == COPY)
        memmove(target, (const void *)(uintptr_t)work->source, bytes);
    else if (work->kind == SET8)
        memset(target, (int)work->value, bytes);
    else
        for (size_t i = 0; i < work->count; i++)
            ((uint32_t *)target)[i] = work->value;
    now_ns += bytes / 64;
    return OK;
}

static CUresult run_next(struct stream *stream)
{
    struct work work = *stream->first;
    free(stream->first);
    stream->first = work.next;
    now_ns += 1000;
    works_done++;
    switch (work.kind) {
    case RECORD:
        return do_record(&work);
    case WAIT:
        return do_wait(&work);
    case LAUNCH:
        do_launch(work.launch);
        return lost();
    case HOST_CALL:
        work.function(work.argument);
        return lost();
    default:
        return do_bytes(&work, stream->device);
    }
}

CUresult finish_device(int device)
{
    CUresult code = lost();
    for (struct stream *stream = streams; stream != NULL && code == OK; stream = stream->next)
        if (stream->device == device)
            code = finish(stream);
    return code;
}

CUresult finish_everything(void)
{
    CUresult code = OK;
    for (int device = 0; device < DEVICES && code == OK; device++)
        code = finish_device(device);
    return code;
}

static bool overlaps(Address at, size_t bytes, Address other, size_t other_bytes)
{
    return at < other + other_bytes && other < at + bytes;
}

void note_hazards(Address at, size_t bytes)
{
    for (struct stream *stream = streams; stream != NULL; stream = stream->next)
        for (struct work *work = stream->first; work != NULL; work = work->next) {
            if (work->kind != COPY && work->kind != SET8 && work->kind != SET32)
                continue;
            size_t wanted = work->kind == SET32 ? 4 * work->count : work->count;
            hazards += overlaps(at, bytes, work->target, wanted) ||
                       (work->kind == COPY && overlaps(at, bytes, work->source, wanted));
        }
}

/* Pieces of work that were still queued when memory they use was unmapped or given back. */
EXPORT size_t fake_hazards(void) { return hazards; }

/* Pieces of work that nothing has waited for yet. */
EXPORT size_t fake_pending(void)
{
    size_t pending = 0;
    for (struct stream *stream = streams; stream != NULL; stream = stream->next)
        for (struct work *work = stream->first; work != NULL; work = work->next)
            pending++;
    return pending;
}

EXPORT uint64_t fake_works_done(void) { return works_done; }

/* Waiting for a stream that is captured ends the capture in an error. */
static CUresult break_capture(struct capture *capture)
{
    capture->broken = true;
    return STREAM_CAPTURE_UNSUPPORTED;
}

EXPORT CUresult cuStreamCreate(Handle *made, unsigned flags)
{
    ENTER_ON(device);
    if (flags > NON_BLOCKING)
        return INVALID_VALUE;
    *made = keep(STREAM, new_stream(device, flags != NON_BLOCKING));
    return OK;
}

EXPORT CUresult cuStreamCreateWithPriority(Handle *made, unsigned flags, int priority)
{
    ENTER_ON(device);
    (void)priority;
    if (flags > NON_BLOCKING)
        return INVALID_VALUE;
    *made = keep(STREAM, new_stream(device, flags != NON_BLOCKING));
    return OK;
}

EXPORT CUresult cuStreamDestroy(Handle handle)
{
    ENTER();
    struct stream *stream = find(STREAM, handle);
    if (stream == NULL)
        return INVALID_HANDLE;
    if (stream->capture != NULL)
        stream->capture->broken = true;
    stream->given_back = true;
    drop(handle);
    return OK;
}

EXPORT CUresult cuStreamSynchronize(Handle handle)
{
    ENTER_ON(device);
    struct stream *stream;
    CUresult code = stream_of(handle, device, &stream);
    if (code != OK)
        return code;
    if (stream->capture != NULL)
        return break_capture(stream->capture);
    code = finish_those_before(stream);
    return code == OK ? finish(stream) : code;
}

EXPORT CUresult cuStreamQuery(Handle handle)
{
    ENTER_ON(device);
    struct stream *stream;
    CUresult code = stream_of(handle, device, &stream);
    if (code != OK)
        return code;
    if (stream->capture != NULL)
        return break_capture(stream->capture);
    if (stream->first == NULL)
        return OK;
    code = run_next(stream);
    return code == OK ? NOT_READY : code;
}

EXPORT CUresult cuStreamWaitEvent(Handle handle, Handle event_handle, unsigned flags)
{
    ENTER_ON(device);
    struct stream *stream;
    struct event *event = find(EVENT, event_handle);
    if (stream_of(handle, device, &stream) != OK || event == NULL)
        return INVALID_HANDLE;
    if (flags > 1)
        return INVALID_VALUE;
    if (event->capture != NULL) {
        if (stream->capture == NULL) { /* it goes on in the other's capture */
            stream->capture = event->capture;
            stream->joined = true;
        }
        if (stream->capture != event->capture)
            return STREAM_CAPTURE_INVALIDATED;
        event->stream->joined = true;
        return OK; /* a graph's work is done in the order in which it was put */
    }
    if (!event->recorded)
        return OK;
    struct work work = {
        .kind = WAIT, .event = event, .serial = event->serial, .stream = event->stream};
    return put(stream, work);
}

EXPORT CUresult cuEventCreate(Handle *made, unsigned flags)
{
    ENTER_ON(device);
    if (flags > 7)
        return INVALID_VALUE;
    struct event *event = calloc(1, sizeof *event);
    event->device = device;
    event->timed = (flags & NO_TIMING) == 0;
    *made = keep(EVENT, event);
    return OK;
}

EXPORT CUresult cuEventDestroy(Handle handle)
{
    ENTER();
    if (find(EVENT, handle) == NULL)
        return INVALID_HANDLE;
    drop(handle);
    return OK;
}

/* The default stream waits for blocking ones, which one that is captured can't be waited for. */
static CUresult break_captures_beside(const struct stream *stream)
{
    CUresult code = OK;
    if (stream != default_stream(stream->device))
        return code;
    for (struct stream *other = streams; other != NULL; other = other->next)
        if (other->capture != NULL && other->blocking && other->device == stream->device) {
            other->capture->broken = true;
            code = STREAM_CAPTURE_IMPLICIT;
        }
    return code;
}

EXPORT CUresult cuEventRecord(Handle handle, Handle stream_handle)
{
    ENTER_ON(device);
    struct stream *stream;
    struct event *event = find(EVENT, handle);
    if (stream_of(stream_handle, device, &stream) != OK || event == NULL ||
        event->device != stream->device)
        return INVALID_HANDLE;
    CUresult implicit = break_captures_beside(stream);
    if (implicit != OK)
        return implicit;
    event->stream = stream;
    event->capture = stream->capture;
    if (stream->capture != NULL)
        return stream->capture->broken ? STREAM_CAPTURE_INVALIDATED : OK;
    struct work work = {.kind = RECORD, .event = event, .serial = event->serial + 1};
    CUresult code = put(stream, work);
    if (code == OK) {
        event->recorded = true;
        event->serial++;
    }
    return code;
}

EXPORT CUresult cuEventRecordWithFlags(Handle handle, Handle stream_handle, unsigned flags)
{
    return flags > 1 ? INVALID_VALUE : cuEventRecord(handle, stream_handle);
}

EXPORT CUresult cuEventQuery(Handle handle)
{
    ENTER();
    struct event *event = find(EVENT, handle);
    if (event == NULL)
        return INVALID_HANDLE;
    if (event->capture != NULL)
        return break_capture(event->capture);
    if (event->done >= event->serial || event->stream->first == NULL)
        return OK;
    CUresult code = run_next(event->stream);
    return code == OK ? NOT_READY : code;
}

EXPORT CUresult cuEventSynchronize(Handle handle)
{
    ENTER();
    struct event *event = find(EVENT, handle);
    if (event == NULL)
        return INVALID_HANDLE;
    if (event->capture != NULL)
        return break_capture(event->capture);
    CUresult code = OK;
    while (code == OK && event->done < event->serial && event->stream->first != NULL)
        code = run_next(event->stream);
    return code;
}

EXPORT CUresult cuEventElapsedTime(float *milliseconds, Handle earlier, Handle later)
{
    ENTER();
    struct event *first = find(EVENT, earlier), *last = find(EVENT, later);
    if (first == NULL || last == NULL || !first->timed || !last->timed || !first->recorded ||
        !last->recorded || first->device != last->device)
        return INVALID_HANDLE;
    if (first->done < first->serial || last->done < last->serial)
        return NOT_READY;
    *milliseconds = (float)((double)last->at_ns - (double)first->at_ns) / 1e6f;
    return OK;
}

/* Copies and fills. An address where nothing is now is refused at once; one where nothing is any
   more when the work is done loses the device, as on a real one. */

static CUresult put_bytes(Handle handle, int device, struct work work)
{
    struct stream *stream;
    if (stream_of(handle, device, &stream) != OK)
        return INVALID_HANDLE;
    size_t bytes = work.kind == SET32 ? 4 * work.count : work.count;
    if (bytes == 0)
        return OK;
    if (!can_touch(work.target, bytes, stream->device) ||
        (work.kind == COPY && !can_touch(work.source, bytes, stream->device)))
        return INVALID_VALUE;
    return put(stream, work);
}

static CUresult put_and_finish(int device, struct work work)
{
    CUresult code = put_bytes(0, device, work);
    return code == OK ? finish(default_stream(device)) : code;
}

static struct work copy_work(Address target, Address source, size_t bytes)
{
    return (struct work){.kind = COPY, .target = target, .source = source, .count = bytes};
}

static struct work set_work(enum work_kind kind, Address target, uint32_t value, size_t count)
{
    return (struct work){.kind = kind, .target = target, .value = value, .count = count};
}

#define COPY_FUNCTIONS(name)                                                                       \
    EXPORT CUresult name(Address target, Address source, size_t bytes)                             \
    {                                                                                              \
        ENTER_ON(device);                                                                          \
        return put_and_finish(device, copy_work(target, source, bytes));                           \
    }                                                                                              \
    EXPORT CUresult name##Async(Address target, Address source, size_t bytes, Handle stream)       \
    {                                                                                              \
        ENTER_ON(device);                                                                          \
        return put_bytes(stream, device, copy_work(target, source, bytes));                        \
    }

COPY_FUNCTIONS(cuMemcpy)
COPY_FUNCTIONS(cuMemcpyHtoD)
COPY_FUNCTIONS(cuMemcpyDtoH)
COPY_FUNCTIONS(cuMemcpyDtoD)

EXPORT CUresult cuMemcpyPeerAsync(Address target, Handle target_context, Address source,
                                  Handle source_context, size_t bytes, Handle stream)
{
    ENTER_ON(device);
    (void)target_context, (void)source_context;
    return put_bytes(stream, device, copy_work(target, source, bytes));
}

#define SET_FUNCTIONS(name, kind, type)                                                            \
    EXPORT CUresult name(Address target, type value, size_t count)                                 \
    {                                                                                              \
        ENTER_ON(device);                                                                          \
        return put_and_finish(device, set_work(kind, target, value, count));                       \
    }                                                                                              \
    EXPORT CUresult name##Async(Address target, type value, size_t count, Handle stream)           \
    {                                                                                              \
        ENTER_ON(device);                                                                          \
        return put_bytes(stream, device, set_work(kind, target, value, count));                    \
    }

SET_FUNCTIONS(cuMemsetD8, SET8, unsigned char)
SET_FUNCTIONS(cuMemsetD32, SET32, unsigned)

EXPORT CUresult cuLaunchHostFunc(Handle handle, void (*function)(void *), void *argument)
{
    ENTER_ON(device);
    struct stream *stream;
    if (stream_of(handle, device, &stream) != OK)
        return INVALID_HANDLE;
    struct work work = {.kind = HOST_CALL, .function = function, .argument = argument};
    return put(stream, work);
}

/* Graphs */

EXPORT CUresult cuStreamBeginCapture(Handle handle, int mode)
{
    ENTER();
    struct stream *stream = find(STREAM, handle); /* the default one can't be captured */
    if (stream == NULL)
        return handle <= 2 ? STREAM_CAPTURE_UNSUPPORTED : INVALID_HANDLE;
    if (stream->capture != NULL || mode < 0 || mode > 2)
        return INVALID_VALUE;
    stream->capture = calloc(1, sizeof *stream->capture);
    stream->capture->graph = calloc(1, sizeof *stream->capture->graph);
    stream->capture->origin = stream;
    return OK;
}

EXPORT CUresult cuStreamBeginCaptureToGraph(Handle stream, Handle graph, const void *nodes,
                                            const void *edges, size_t count, int mode)
{
    ENTER();
    (void)stream, (void)graph, (void)nodes, (void)edges, (void)count, (void)mode;
    return NOT_SUPPORTED;
}

EXPORT CUresult cuThreadExchangeStreamCaptureMode(int *mode)
{
    static __thread int now; /* global */
    ENTER();
    if (*mode < 0 || *mode > 2)
        return INVALID_VALUE;
    int before = now;
    now = *mode;
    *mode = before;
    return OK;
}

EXPORT CUresult cuStreamEndCapture(Handle handle, Handle *made)
{
    ENTER();
    struct stream *stream = find(STREAM, handle);
    *made = 0;
    if (stream == NULL)
        return INVALID_HANDLE;
    struct capture *capture = stream->capture;
    if (capture == NULL)
        return INVALID_VALUE;
    if (capture->origin != stream)
        return STREAM_CAPTURE_UNMATCHED;
    bool unjoined = false;
    for (struct stream *other = streams; other != NULL; other = other->next)
        if (other->capture == capture) {
            unjoined |= other != stream && !other->joined;
            other->capture = NULL;
        }
    if (capture->broken || unjoined)
        return unjoined ? STREAM_CAPTURE_UNJOINED : STREAM_CAPTURE_INVALIDATED;
    *made = keep(GRAPH, capture->graph);
    return OK;
}

EXPORT CUresult cuStreamIsCapturing(Handle handle, int *status)
{
    ENTER_ON(device);
    struct stream *stream;
    if (stream_of(handle, device, &stream) != OK)
        return INVALID_HANDLE;
    *status = stream->capture == NULL ? 0 : stream->capture->broken ? 2 : 1;
    return OK;
}

EXPORT CUresult cuGraphInstantiateWithFlags(Handle *made, Handle handle, unsigned long long flags)
{
    ENTER_ON(device);
    (void)flags;
    struct graph *graph = find(GRAPH, handle);
    if (graph == NULL)
        return INVALID_VALUE;
    *made = keep(GRAPH_EXEC, graph); /* a graph does not change once its capture has ended */
    return OK;
}

EXPORT CUresult cuGraphUpload(Handle handle, Handle stream)
{
    ENTER_ON(device);
    (void)stream;
    return find(GRAPH_EXEC, handle) == NULL ? INVALID_VALUE : OK;
}

EXPORT CUresult cuGraphGetNodes(Handle handle, Handle *nodes, size_t *count)
{
    ENTER();
    struct graph *graph = find(GRAPH, handle);
    if (graph == NULL || nodes != NULL)
        return INVALID_VALUE;
    *count = graph->count;
    return OK;
}

EXPORT CUresult cuGraphLaunch(Handle handle, Handle stream_handle)
{
    ENTER_ON(device);
    struct stream *stream;
    struct graph *graph = find(GRAPH_EXEC, handle);
    if (graph == NULL || stream_of(stream_handle, device, &stream) != OK)
        return graph == NULL ? INVALID_VALUE : INVALID_HANDLE;
    CUresult code = OK;
    for (struct work *work = graph->first; work != NULL && code == OK; work = work->next)
        code = put(stream, *work);
    return code;
}

EXPORT CUresult cuGraphExecDestroy(Handle handle)
{
    ENTER();
    if (find(GRAPH_EXEC, handle) == NULL)
        return INVALID_VALUE;
    drop(handle);
    return OK;
}

EXPORT CUresult cuGraphDestroy(Handle handle)
{
    ENTER();
    if (find(GRAPH, handle) == NULL)
        return INVALID_VALUE;
    drop(handle);
    return OK;
}

void reset_streams(void)
{
    streams = NULL;
    memset(defaults, 0, sizeof defaults);
    now_ns = works_done = hazards = 0;
}
