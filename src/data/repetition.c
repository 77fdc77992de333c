#include "data/repetition.h"

/* Longest run of tokens that equal the one `period` before them reaches `most`? */
static bool repeats(const int32_t *tokens, int64_t n, int64_t period, int64_t most)
{
    int64_t run = 0;
    for (int64_t i = period; i < n; i++) {
        run = tokens[i] == tokens[i - period] ? run + 1 : 0;
        if (run >= most) return true;
    }
    return false;
}

bool repetition_found(const int32_t *tokens, int64_t n, struct repetition_limit limit)
{
    if (limit.count == 0) return false;
    const int64_t longest = limit.period < n / 3 ? limit.period : n / 3;
    for (int64_t period = 1; period <= longest;
         period++) /* the first time equals nothing */
        if (repeats(tokens, n, period, (limit.count - 1) * period)) return true;
    return false;
}
