#include "train/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "core/log.h"

static atomic_bool armed;
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
        if (!armed || (received && number == SIGINT)) obey_default(number);
        received = number;
    }
    return NULL;
}

void signals_start(void)
{
    const sigset_t set = watched();
    pthread_t thread;
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    const int error = pthread_create(&thread, NULL, wait_for_signals, NULL);
    if (error != 0)
        die("cannot start the thread that waits for signals: %s", strerror(error));
    pthread_detach(thread); /* it waits until the process ends */
}

void signals_arm(void)
{
    received = 0;
    armed = true;
}

int signals_received(void)
{
    return received;
}

bool signals_told(void)
{
    return signals_received() != 0;
}
