/* status - what a fallible function returns, and the sentence that explains it.
 *
 * The point of failure knows the fact, so it writes the sentence: `return status_set(...)`.
 * The sentence is kept per thread until the next one; callers pass the code up and add
 * nothing.  `comm_agree` (parallel/comm) turns a local status into one that all ranks share.
 *
 * Exit codes are part of the interface (docs/exit-codes.md): scripts test for them. */
#pragma once

#include <stddef.h>

/*    name                exit  meaning                                             */
#define STATUS_TABLE(X)                                                                  \
    X(STATUS_OK, 0, "ok")                                                                \
    X(STATUS_USAGE, 2, "wrong command line")                                             \
    X(STATUS_CONFIG, 3, "configuration refused")                                         \
    X(STATUS_DATA, 4, "token file, text or tokenizer refused")                           \
    X(STATUS_CHECKPOINT, 5, "checkpoint refused")                                        \
    X(STATUS_IO, 6, "input or output failed")                                            \
    X(STATUS_NOMEM, 7, "not enough memory")                                              \
    X(STATUS_LAUNCH, 8, "ranks were started wrongly or differ")                          \
    X(STATUS_DEVICE, 9, "device failed")                                                 \
    X(STATUS_COMM, 10, "communication failed")                                           \
    X(STATUS_DIVERGED, 11, "training diverged")                                          \
    X(STATUS_MISMATCH, 12, "this layout gives another result than one rank")             \
    X(STATUS_LOCKED, 13, "another job writes into the run folder")                       \
    X(STATUS_INTERNAL, 70, "a defect in yoke")                                           \
    X(STATUS_REQUEUE, 85, "saved and stopped before the end; start again to continue")

#define STATUS_ENUM(name, code, text) name,
typedef enum { STATUS_TABLE(STATUS_ENUM) STATUS_COUNT } status_t;
#undef STATUS_ENUM

#define MUST_USE          __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* Keep the sentence for this thread and return `code`.  One line, no full stop, names the
 * file, key or rank, the value found and what is valid.  Longer than 2047 bytes is cut;
 * control characters (names out of files may hold them) become '?'. */
status_t status_set(status_t code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Put "context: " in front of this thread's sentence; returns `code` unchanged. */
status_t status_prefix(status_t code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Replace the control characters of a text by '?', so that it prints as one line. */
void status_one_line(char *text);

const char *status_message(void);          /* this thread's last sentence, "" if none */
const char *status_name(status_t code);    /* "STATUS_IO" */
const char *status_meaning(status_t code); /* "input or output failed" */
int status_exit_code(status_t code);

/* For functions that hold nothing: leave with the status if it is not ok. */
#define TRY(expr)                                                                        \
    do {                                                                                 \
        const status_t try_status_ = (expr);                                             \
        if (try_status_ != STATUS_OK) return try_status_;                                \
    } while (0)
