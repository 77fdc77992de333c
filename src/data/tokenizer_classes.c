#include "data/tokenizer_impl.h"

#include <pthread.h>
#include <string.h>

#include "data/tokenizer_class_ranges.h"

enum { N_CHARS = 0x110000, N_RANGES = sizeof class_ranges / sizeof *class_ranges };

static uint8_t table[N_CHARS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
    for (size_t i = 0; i < N_RANGES; i++) {
        const size_t first = class_ranges[i] >> 8;
        const size_t end = i + 1 < N_RANGES ? class_ranges[i + 1] >> 8 : N_CHARS;
        memset(table + first, (int)(class_ranges[i] & 0xFF), end - first);
    }
}

const uint8_t *char_classes(void)
{
    pthread_once(&once, fill);
    return table;
}
