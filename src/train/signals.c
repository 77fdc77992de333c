#include "train/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static atomic_bool installed;
static atomic_int received;

static sigset_t watched(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    return set;
}

/* What the signal does to a process that knows nothing of it. */
static void obey_default(int number)
{
    const sigset_t set = watched();
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
}

static void *wait_for_signals(void *unused)
{
    const sigset_t set = watched();
    (void)unused;
    for (;;) {
        int number = 0;
        if (sigwait(&set, &number) != 0) continue;
        if (!installed || (received && number == SIGINT)) obey_default(number);
        received = number;
    }
    return NULL;
}

status_t signals_start(void)
{
    const sigset_t set = watched();
    pthread_t thread;
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    const int error = pthread_create(&thread, NULL, wait_for_signals, NULL);
    if (error != 0) {
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        return status_set(STATUS_IO, "cannot start the thread that waits for signals: %s",
                          strerror(error));
    }
    pthread_detach(thread); /* it waits until the process ends */
    return STATUS_OK;
}

void signals_install(void)
{
    received = 0;
    installed = true;
}

int signals_received(void)
{
    return received;
}
