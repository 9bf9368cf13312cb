/* What the environment asks of the library; read once, by the first call that wants to know. */
#ifndef VSIM_PRELOAD_SETTINGS_H
#define VSIM_PRELOAD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

enum mode { PASSIVE, RECORD, MANAGE };

struct settings {
    enum mode mode;       /* VSIM_PRELOAD_MODE: record, manage; without it calls only pass */
    bool peer, host;      /* VSIM_PRELOAD_SPILL: peer, host or both, with a comma */
    bool pool_limited;    /* VSIM_PRELOAD_POOL: free bytes kept at most, of a device */
    size_t pool_bytes;    /*   without it a quarter of the device's memory */
    const char *log;      /* VSIM_PRELOAD_LOG: the folder that events go to; NULL for none */
};

const struct settings *settings(void);

/* Say something on standard error, once for each `said` (static, 0 at first). */
void say_once(int *said, const char *text);

#endif
