#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[2048];

void status_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f) *text = '?';
}

status_t status_set(status_t code, const char *fmt, ...)
{
    char text[sizeof message]; /* arguments may point into the old message */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    status_one_line(text);
    memcpy(message, text, sizeof message);
    return code;
}

status_t status_prefix(status_t code, const char *fmt, ...)
{
    char text[sizeof message];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n + 2 < sizeof text) {
        /* what is cut is cut on purpose: the precision says so to the compiler */
        const int room = (int)(sizeof text - 1 - (size_t)n - 2);
        snprintf(text + n, sizeof text - (size_t)n, ": %.*s", room, message);
    }
    status_one_line(text);
    memcpy(message, text, sizeof message);
    return code;
}

const char *status_message(void)
{
    return message;
}

static const struct {
    const char *name, *meaning;
    int exit_code;
} table[STATUS_COUNT] = {
#define STATUS_ROW(name, code, text) [name] = {#name, text, code},
    STATUS_TABLE(STATUS_ROW)
#undef STATUS_ROW
};

const char *status_name(status_t code)
{
    return table[code].name;
}

const char *status_meaning(status_t code)
{
    return table[code].meaning;
}

int status_exit_code(status_t code)
{
    return table[code].exit_code;
}
