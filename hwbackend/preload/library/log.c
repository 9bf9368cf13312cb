#define _GNU_SOURCE
#include "log.h"

#include "settings.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A segment is mapped at once. The first record of a file is its head. */
enum { SEGMENT_BYTES = 1 << 20, MOST_SEGMENTS = 1 << 16, PER_SEGMENT = SEGMENT_BYTES / 64 };

struct head {
    char magic[8];
    uint32_t version, mode;
    uint64_t started_ns, started_unix_ns;
    uint32_t pid, parent;
    uint64_t next; /* records taken, this one counted */
    uint64_t lost; /* events for which there was no room */
};
_Static_assert(sizeof(struct head) == 56, "it fits the first record");

static struct event *segments[MOST_SEGMENTS];
static struct head *head;
static bool failed;
static char path[4096];
static pthread_mutex_t growing = PTHREAD_MUTEX_INITIALIZER;
static __thread uint32_t thread_id __attribute__((tls_model("initial-exec")));

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t log_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

bool log_wanted(void) { return settings()->log != NULL && !__atomic_load_n(&failed, __ATOMIC_RELAXED); }

/* The file is opened anew for each segment: programs close descriptors that they did not open. */
static struct event *map_segment(size_t index, bool fresh)
{
    int flags = O_RDWR | O_CLOEXEC | (fresh ? O_CREAT | O_EXCL : 0);
    int file = open(path, flags, 0600);
    if (file < 0)
        return NULL;
    off_t end = (off_t)(index + 1) * SEGMENT_BYTES;
    void *found = MAP_FAILED;
    /* Room on the disk is taken now: a full one would raise SIGBUS later. */
    if (posix_fallocate(file, end - SEGMENT_BYTES, SEGMENT_BYTES) == 0)
        found = mmap(NULL, SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file,
                     end - SEGMENT_BYTES);
    close(file);
    if (found == MAP_FAILED)
        return NULL;
    madvise(found, SEGMENT_BYTES, MADV_DONTFORK); /* a child shall not write into it */
    return found;
}

static void give_up(void)
{
    static int said;
    say_once(&said, "the folder of VSIM_PRELOAD_LOG takes no more; events are lost from here on");
    __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
}

static bool begin(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(path, sizeof path, "%s/%ld-%ld%09ld.events", settings()->log,
                          (long)getpid(), (long)now.tv_sec, now.tv_nsec);
    if (length < 0 || (size_t)length >= sizeof path)
        return false;
    segments[0] = map_segment(0, true);
    if (segments[0] == NULL)
        return false;
    struct head *made = (struct head *)(void *)segments[0];
    *made = (struct head){.version = 1, .mode = settings()->mode, .started_ns = log_now_ns(),
                          .started_unix_ns = clock_ns(CLOCK_REALTIME), .pid = (uint32_t)getpid(),
                          .parent = (uint32_t)getppid(), .next = 1};
    memcpy(made->magic, "vsimlog", 8);
    __atomic_store_n(&head, made, __ATOMIC_RELEASE);
    return true;
}

static struct event *segment(size_t index)
{
    struct event *found = __atomic_load_n(&segments[index], __ATOMIC_ACQUIRE);
    if (found != NULL)
        return found;
    pthread_mutex_lock(&growing);
    found = segments[index];
    if (found == NULL) {
        found = map_segment(index, false);
        __atomic_store_n(&segments[index], found, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&growing);
    return found;
}

void log_event(struct event event)
{
    if (!log_wanted())
        return;
    struct head *file = __atomic_load_n(&head, __ATOMIC_ACQUIRE);
    if (file == NULL) {
        pthread_mutex_lock(&growing);
        bool there = head != NULL || begin();
        file = head;
        pthread_mutex_unlock(&growing);
        if (!there) {
            give_up();
            return;
        }
    }
    if (thread_id == 0)
        thread_id = (uint32_t)syscall(SYS_gettid);
    uint64_t slot = __atomic_fetch_add(&file->next, 1, __ATOMIC_RELAXED);
    struct event *room =
        slot / PER_SEGMENT < MOST_SEGMENTS ? segment(slot / PER_SEGMENT) : NULL;
    if (room == NULL) {
        __atomic_fetch_add(&file->lost, 1, __ATOMIC_RELAXED);
        give_up();
        return;
    }
    room += slot % PER_SEGMENT;
    event.thread = thread_id;
    event.complete = 0;
    *room = event;
    __atomic_store_n(&room->complete, 1, __ATOMIC_RELEASE);
}

void log_end(void)
{
    if (__atomic_load_n(&head, __ATOMIC_ACQUIRE) != NULL)
        log_event((struct event){.time_ns = log_now_ns(), .op = OP_END});
}

void log_context_end(const void *context)
{
    if (__atomic_load_n(&head, __ATOMIC_ACQUIRE) != NULL)
        log_event((struct event){.time_ns = log_now_ns(), .op = OP_CONTEXT_END,
                                 .other = (uint64_t)(uintptr_t)context});
}

void log_forget(void)
{
    pthread_mutex_init(&growing, NULL);
    memset(segments, 0, sizeof segments);
    head = NULL;
    failed = false;
    thread_id = 0;
}
