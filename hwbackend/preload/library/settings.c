#define _GNU_SOURCE
#include "settings.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct settings read_once;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void say_once(int *said, const char *text)
{
    if (__atomic_exchange_n(said, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    char line[512];
    const char *const parts[] = {"vsim preload: ", text, "\n"};
    size_t length = 0;
    for (int i = 0; i < 3; i++)
        for (const char *at = parts[i]; *at != '\0' && length < sizeof line; at++)
            line[length++] = *at;
    ssize_t ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
}

static void refuse(const char *text)
{
    static int said;
    say_once(&said, text);
    read_once = (struct settings){0};
}

static void read_settings(void)
{
    const char *mode = getenv("VSIM_PRELOAD_MODE"), *spill = getenv("VSIM_PRELOAD_SPILL");
    const char *pool = getenv("VSIM_PRELOAD_POOL"), *log = getenv("VSIM_PRELOAD_LOG");
    if (mode == NULL || *mode == '\0')
        return;
    if (strcmp(mode, "record") == 0)
        read_once.mode = RECORD;
    else if (strcmp(mode, "manage") == 0)
        read_once.mode = MANAGE;
    else {
        refuse("VSIM_PRELOAD_MODE is neither record nor manage; calls only pass");
        return;
    }
    read_once.log = log == NULL || *log == '\0' ? NULL : strdup(log);
    for (const char *word = spill == NULL ? "" : spill; *word != '\0';) {
        size_t length = strcspn(word, ",");
        if (length == 4 && strncmp(word, "peer", 4) == 0)
            read_once.peer = true;
        else if (length == 4 && strncmp(word, "host", 4) == 0)
            read_once.host = true;
        else {
            refuse("VSIM_PRELOAD_SPILL takes peer and host, with a comma; calls only pass");
            return;
        }
        word += length + (word[length] == ',');
    }
    if (pool != NULL && *pool != '\0') {
        char *end;
        read_once.pool_limited = true;
        read_once.pool_bytes = strtoull(pool, &end, 10);
        if (*end != '\0' || *pool == '-')
            refuse("VSIM_PRELOAD_POOL is no number of bytes; calls only pass");
    }
}

const struct settings *settings(void)
{
    pthread_once(&once, read_settings);
    return &read_once;
}
