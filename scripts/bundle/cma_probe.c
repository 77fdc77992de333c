/* cma_probe - exit code 0 if a process may read the memory of another one of the same user, which
 * is how Open MPI moves large messages between ranks of a machine when it can. */
#define _GNU_SOURCE
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    static volatile int theirs = 1;
    const pid_t parent = getpid();
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0,
          0); /* fails where Yama is not: no harm */
    theirs = 2;
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        int mine = 0;
        theirs = 3; /* its own copy: 2 can only come from the parent */
        struct iovec to = {&mine, sizeof mine}, from = {(void *)&theirs, sizeof theirs};
        const ssize_t n = process_vm_readv(parent, &to, 1, &from, 1, 0);
        _exit(n == (ssize_t)sizeof mine && mine == 2 ? 0 : 1);
    }
    int status = 1;
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
