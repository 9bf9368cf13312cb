#define _GNU_SOURCE
#include "elf.h"

#include <dlfcn.h>
#include <elf.h>
#include <stddef.h>
#include <stdint.h>

struct tables {
    const ElfW(Sym) *symbols;
    const char *strings;
    const uint32_t *gnu_hash, *hash;
    const uint16_t *versions;
};

EARLY bool same_name(const char *one, const char *other)
{
    while (*one != '\0' && *one == *other) {
        one++;
        other++;
    }
    return *one == *other;
}

EARLY struct link_map *object_of(const void *address)
{
    Dl_info info;
    struct link_map *map = NULL;
    return dladdr1(address, &info, (void **)&map, RTLD_DL_LINKMAP) != 0 ? map : NULL;
}

EARLY bool is_after(const struct link_map *later, const struct link_map *earlier)
{
    for (const struct link_map *map = earlier->l_next; map != NULL; map = map->l_next)
        if (map == later)
            return true;
    return false;
}

/* glibc relocates the addresses in a dynamic section, except in the kernel's own object. */
EARLY static const void *placed(const struct link_map *object, ElfW(Addr) value)
{
    return (const void *)(value < object->l_addr ? object->l_addr + value : value);
}

EARLY static struct tables tables_of(const struct link_map *object)
{
    struct tables found = {NULL, NULL, NULL, NULL, NULL};
    for (const ElfW(Dyn) *entry = object->l_ld; entry->d_tag != DT_NULL; entry++) {
        const void *at = placed(object, entry->d_un.d_ptr);
        switch (entry->d_tag) {
        case DT_SYMTAB: found.symbols = at; break;
        case DT_STRTAB: found.strings = at; break;
        case DT_GNU_HASH: found.gnu_hash = at; break;
        case DT_HASH: found.hash = at; break;
        case DT_VERSYM: found.versions = at; break;
        default: break;
        }
    }
    return found;
}

/* How many symbols there are: the table itself does not say. */
EARLY static size_t symbol_count(const struct tables *tables)
{
    if (tables->hash != NULL)
        return tables->hash[1]; /* the number of chains */
    if (tables->gnu_hash == NULL)
        return 0;
    uint32_t buckets = tables->gnu_hash[0], first = tables->gnu_hash[1];
    uint32_t words = tables->gnu_hash[2];
    const uint32_t *bucket = tables->gnu_hash + 4 + words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *chain = bucket + buckets;
    uint32_t last = 0;
    for (uint32_t i = 0; i < buckets; i++)
        if (bucket[i] > last)
            last = bucket[i];
    if (last < first)
        return first;
    while ((chain[last - first] & 1) == 0)
        last++;
    return last + 1;
}

EARLY void *defined_in(const struct link_map *object, const char *name)
{
    struct tables tables = tables_of(object);
    if (tables.symbols == NULL || tables.strings == NULL)
        return NULL;
    size_t count = symbol_count(&tables);
    for (size_t i = 0; i < count; i++) {
        const ElfW(Sym) *symbol = &tables.symbols[i];
        unsigned type = ELF64_ST_TYPE(symbol->st_info);
        bool hidden = tables.versions != NULL && (tables.versions[i] & 0x8000) != 0;
        if (symbol->st_shndx == SHN_UNDEF || hidden || type != STT_FUNC ||
            !same_name(tables.strings + symbol->st_name, name))
            continue;
        return (void *)(object->l_addr + symbol->st_value);
    }
    return NULL;
}

EARLY void *defined_after(const struct link_map *object, const char *name)
{
    for (const struct link_map *map = object->l_next; map != NULL; map = map->l_next) {
        void *found = defined_in(map, name);
        if (found != NULL)
            return found;
    }
    return NULL;
}
