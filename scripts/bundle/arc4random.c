/* arc4random of glibc 2.36, for libevent on an older one. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

void arc4random_buf(void *data, size_t bytes);
uint32_t arc4random(void);

void arc4random_buf(void *data, size_t bytes)
{
    char *at = data;
    while (bytes > 0) {
        const ssize_t n = getrandom(at, bytes < 256 ? bytes : 256, 0);
        if (n <= 0) abort();
        at += n;
        bytes -= (size_t)n;
    }
}

uint32_t arc4random(void)
{
    uint32_t x;
    arc4random_buf(&x, sizeof x);
    return x;
}
