#include "train/signals.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t received; /* a handler can reach nothing else */

static void on_signal(int number)
{
    if (received && number == SIGINT) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
    }
    received = number;
}

void signals_install(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    received = 0;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

int signals_received(void)
{
    return received;
}
