#include "config/config_impl.h"

#include <string.h>

/* Fewest insertions, deletions, replacements and swaps of neighbours that turn a into b
 * (optimal string alignment). */
static int edit_distance(const char *a, const char *b)
{
    int rows[3][CONFIG_NAME_BYTES + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    const int n = (int)strlen(a), m = (int)strlen(b);
    for (int j = 0; j <= m; j++) last[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            const bool swapped =
                i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < best) best = before[j - 2] + 1;
            now[j] = best;
        }
        int *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[m];
}

/* A key in the wrong section, or with none, is one edit away from the right one. */
static int distance(const char *unknown, const char *key)
{
    const int whole = edit_distance(unknown, key);
    const char *dot = strrchr(unknown, '.');
    const int end = 1 + edit_distance(dot ? dot + 1 : unknown, strrchr(key, '.') + 1);
    return end < whole ? end : whole;
}

void config_suggest(const char *unknown, char *out, size_t size)
{
    out[0] = '\0';
    if (strlen(unknown) >= CONFIG_NAME_BYTES) return;
    const char *best = NULL;
    int best_length = 0, least = (int)strlen(unknown) / 4 + 2; /* farther is no typo */
    for (int i = 0; i < config_n_keys; i++) {
        const char *key = config_keys[i].name;
        const int d = distance(unknown, key);
        if (d < least) {
            least = d;
            best = key;
            best_length = (int)strlen(key);
        }
        char section[CONFIG_NAME_BYTES];
        const int length = (int)strcspn(key, ".");
        snprintf(section, sizeof section, "%.*s", length, key);
        const int to_section = edit_distance(unknown, section);
        if (to_section < least) {
            least = to_section;
            best = key;
            best_length = length;
        }
    }
    if (best) snprintf(out, size, "; did you mean %.*s?", best_length, best);
}
