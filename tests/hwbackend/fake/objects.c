/* Objects behind handles, and how many of each kind are alive. */
#include "fake.h"

#include <stdlib.h>
#include <string.h>

struct object {
    enum kind kind;
    void *data; /* NULL once it was given back; what it pointed to stays, for work still queued */
};

static struct object *objects;
static size_t object_count, object_room, first_of_run;
static size_t alive[KINDS];

/* Small numbers are streams of their own in CUDA (0, 1, 2), and no handle looks like an address. */
static const Handle FIRST = 0x10000, STEP = 16;

Handle keep(enum kind kind, void *data)
{
    if (object_count == object_room) {
        object_room = object_room ? 2 * object_room : 1024;
        objects = realloc(objects, object_room * sizeof *objects);
    }
    objects[object_count] = (struct object){kind, data};
    alive[kind]++;
    return FIRST + STEP * object_count++;
}

static struct object *object_of(Handle handle)
{
    size_t index = (handle - FIRST) / STEP;
    bool there = handle >= FIRST && (handle - FIRST) % STEP == 0 && index < object_count;
    return there ? &objects[index] : NULL;
}

void *find(enum kind kind, Handle handle)
{
    struct object *object = object_of(handle);
    return object != NULL && object->kind == kind ? object->data : NULL;
}

void drop(Handle handle)
{
    struct object *object = object_of(handle);
    if (object != NULL && object->data != NULL) {
        object->data = NULL;
        alive[object->kind]--;
    }
}

void put_back(Handle handle, void *data)
{
    object_of(handle)->data = data;
    alive[object_of(handle)->kind]++;
}

size_t kept(enum kind kind) { return alive[kind]; }

void *each(enum kind kind, size_t *position)
{
    if (*position < first_of_run)
        *position = first_of_run;
    while (*position < object_count) {
        struct object *object = &objects[(*position)++];
        if (object->kind == kind && object->data != NULL)
            return object->data;
    }
    return NULL;
}

void reset_objects(void)
{
    for (size_t i = first_of_run; i < object_count; i++)
        objects[i].data = NULL;
    first_of_run = object_count; /* handles of before stay unknown */
    memset(alive, 0, sizeof alive);
}

/* How many of a kind are alive; -1 for a word that names none. */
EXPORT long fake_live(const char *kind)
{
    static const char *const words[KINDS] = {"stream", "event",      "module", "kernel",
                                             "graph",  "graph_exec", "chunk"};
    for (int i = 0; i < KINDS; i++)
        if (strcmp(kind, words[i]) == 0)
            return (long)alive[i];
    if (strcmp(kind, "context") == 0)
        return (long)contexts_held();
    if (strcmp(kind, "buffer") == 0)
        return (long)buffers_held(false);
    if (strcmp(kind, "pinned") == 0)
        return (long)buffers_held(true);
    if (strcmp(kind, "range") == 0)
        return (long)ranges_held();
    if (strcmp(kind, "mapping") == 0)
        return (long)mappings_held();
    return -1;
}
