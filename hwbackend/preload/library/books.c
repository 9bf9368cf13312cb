#include "books.h"

#include <pthread.h>
#include <string.h>

struct pool pools[MOST_PLACES];
struct device devices[MOST_DEVICES];
struct tree spans, blocks;

static pthread_mutex_t books = PTHREAD_MUTEX_INITIALIZER;

void lock_books(void) { pthread_mutex_lock(&books); }
void unlock_books(void) { pthread_mutex_unlock(&books); }

void forget_books(void)
{
    pthread_mutex_init(&books, NULL);
    memset(pools, 0, sizeof pools);
    memset(devices, 0, sizeof devices);
    spans.root = blocks.root = NULL;
}
