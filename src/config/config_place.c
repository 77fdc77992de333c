#include "config/config_impl.h"

#include <stdarg.h>
#include <string.h>

struct config_quoted config_quote(const char *text)
{
    struct config_quoted q;
    const size_t room = sizeof q.text - sizeof "\"...\"";
    size_t n = strlen(text);
    const bool cut = n > room;
    if (cut) {
        n = room;
        while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
            n--; /* whole characters */
    }
    snprintf(q.text, sizeof q.text, "\"%.*s%s\"", (int)n, text, cut ? "..." : "");
    for (char *p = q.text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = '?';
    return q;
}

struct config_quoted config_word(const char *text)
{
    struct config_quoted q = config_quote(text);
    const size_t n = strlen(q.text) - 2;
    memmove(q.text, q.text + 1, n);
    q.text[n] = '\0';
    return q;
}

int config_place(const struct config *c, const char *key)
{
    const struct config_key *k = config_find(key);
    return k ? c->places->of[k - config_keys] : 0;
}

static status_t refuse(const struct config *c, int place, const char *text)
{
    const struct config_places *p = c->places;
    char stage[CONFIG_NAME_BYTES + 16] = "";
    if (p->stage > 0 && c->span.name)
        snprintf(stage, sizeof stage, "stage %s: ", c->span.name);
    else if (p->stage > 0)
        snprintf(stage, sizeof stage, "stage %d: ", p->stage);
    if (place > 0)
        return status_set(STATUS_CONFIG, "%s:%d: %s%s", p->name, place, stage, text);
    if (place == 0) return status_set(STATUS_CONFIG, "%s: %s%s", p->name, stage, text);
    return status_set(STATUS_CONFIG, "--set %s: %s%s",
                      config_word(p->overrides[-1 - place]).text, stage, text);
}

status_t config_refuse(const struct config *c, int place, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return refuse(c, place, text);
}

status_t config_refuse_key(const struct config *c, const char *key, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    const int n = snprintf(text, sizeof text, "%s: ", key);
    va_start(args, fmt);
    vsnprintf(text + n, sizeof text - (size_t)n, fmt, args);
    va_end(args);
    return refuse(c, config_place(c, key), text);
}
