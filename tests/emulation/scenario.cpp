#include "scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the plug-in's device_cuda.c is for kernels. */
void device_cuda_check(cudaError_t e, const char *what)
{
    scenario_check(e, what);
}

void device_cuda_launched(const char *kernel)
{
    scenario_check(cudaGetLastError(), kernel);
}

void scenario_check(cudaError_t e, const char *call)
{
    if (e == cudaSuccess) return;
    fprintf(stderr, "%s: %s\n", call, cudaGetErrorName(e));
    exit(1);
}

float *scenario_floats(int n)
{
    void *p;
    SCENARIO_OK(cudaMalloc(&p, (size_t)n * sizeof(float)));
    return static_cast<float *>(p);
}

struct scenario_end scenario_run(unsigned seed, const char *fault, int (*body)())
{
    struct scenario_end end = {};
    int ends[2];
    if (pipe(ends) != 0) fail_msg("pipe failed");
    fflush(NULL);
    const pid_t child = fork();
    if (child < 0) fail_msg("fork failed");
    if (child == 0) {
        char text[16];
        snprintf(text, sizeof text, "%u", seed);
        setenv("YOKE_EMULATION_SEED", text, 1);
        setenv("YOKE_EMULATION_FAULT", fault ? fault : "", 1);
        signal(SIGABRT, SIG_DFL);
        alarm(30);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(body());
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n + 1 < sizeof end.output; n += (size_t)got) {
        got = read(ends[0], end.output + n, sizeof end.output - 1 - n);
        if (got < 0) fail_msg("read failed");
    }
    close(ends[0]);
    int status;
    if (waitpid(child, &status, 0) != child) fail_msg("waitpid failed");
    end.aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    if (WIFSIGNALED(status) && !end.aborted)
        fail_msg("seed %u: signal %d: %s", seed, WTERMSIG(status), end.output);
    end.status = end.aborted ? -1 : WEXITSTATUS(status);
    return end;
}

void scenario_is_stopped(const char *fault, int (*body)(), const char *words)
{
    const struct scenario_end end = scenario_run(1, fault, body);
    if (!end.aborted || !strstr(end.output, words))
        fail_msg("not stopped with \"%s\" (status %d): %s", words, end.status,
                 end.output);
}

void scenario_succeeds(const char *fault, int (*body)())
{
    for (unsigned seed = 1; seed <= SCENARIO_SEEDS; seed++) {
        const struct scenario_end end = scenario_run(seed, fault, body);
        if (end.status != 0)
            fail_msg("seed %u, status %d: %s", seed, end.status, end.output);
    }
}

int scenario_failures(int (*body)())
{
    int n = 0;
    for (unsigned seed = 1; seed <= SCENARIO_SEEDS; seed++)
        n += scenario_run(seed, NULL, body).status != 0;
    return n;
}
