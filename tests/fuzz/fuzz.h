/* fuzz - what the targets share: a check that fails ends in abort, so that libFuzzer keeps the
 * input (die alone would leave with _exit), and every refusal is one line. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

static inline void fuzz_crash(int exit_code)
{
    (void)exit_code;
    abort();
}

static inline void fuzz_begin(void)
{
    log_set_abort(fuzz_crash);
}

static inline void fuzz_check_refusal(void)
{
    const char *message = status_message();
    CHECK(message[0] != '\0' && !strpbrk(message, "\n\r"));
}
