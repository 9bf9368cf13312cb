/* Symbols looked up by hand in the tables of loaded objects.

   What replaces dlsym can't ask dlsym for the one it replaced, nor dlvsym where it replaces that as
   well. */
#ifndef VSIM_PRELOAD_ELF_H
#define VSIM_PRELOAD_ELF_H

#include <link.h>
#include <stdbool.h>

/* Of functions that run before main, when a sanitizer's own beginning looks symbols up: they are not
   instrumented, and call nothing that a sanitizer stands before. */
#define EARLY __attribute__((no_sanitize("address", "thread", "undefined")))

/* strcmp() == 0, by hand for that reason. */
bool same_name(const char *one, const char *other);

/* The loaded object that holds an address; NULL for none. */
struct link_map *object_of(const void *address);

/* Whether `later` was loaded after `earlier`, in the order in which symbols are searched. */
bool is_after(const struct link_map *later, const struct link_map *earlier);

/* The address of a function that an object itself defines, in its default version; else NULL. */
void *defined_in(const struct link_map *object, const char *name);

/* The first definition of a function in the objects loaded after this one; else NULL. */
void *defined_after(const struct link_map *object, const char *name);

#endif
