#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "train/doctor.h"
#include "train/place.h"

static const char help[] =
    "usage: yoke doctor [--device auto|cpu|cuda] [--comm auto|nccl|mpi] [--limit "
    "SECONDS]\n"
    "       mpirun -n N yoke doctor [OPTION]...\n\n"
    "Print what this machine has for training (processor, memory, shared memory, "
    "network,\n"
    "GPUs and the libraries behind them) with advice where something is amiss.  Under\n"
    "mpirun or srun, also move vectors among all ranks and between all pairs of them, "
    "check\n"
    "every number and print how fast it was.  Lines with ! want attention.\n\n"
    "  --device NAME     cuda: it is a fault if a rank has no usable GPU; cpu: look at "
    "none\n"
    "                    (default auto: use GPUs if every rank has one)\n"
    "  --comm NAME       what carries vectors in GPU memory (default auto)\n"
    "  --limit SECONDS   how long another rank may take to answer (default 20)\n";

static status_t parse_transport(const char *text, enum comm_transport *transport)
{
    static const struct {
        const char *name;
        enum comm_transport transport;
    } names[] = {{"auto", COMM_TRANSPORT_AUTO},
                 {"nccl", COMM_TRANSPORT_NCCL},
                 {"mpi", COMM_TRANSPORT_MPI}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i].name) == 0) {
            *transport = names[i].transport;
            return STATUS_OK;
        }
    return status_set(STATUS_USAGE, "--comm: %s is not known; valid: auto, nccl, mpi",
                      text);
}

static int run(const struct doctor_options *o, int *argc, char ***argv)
{
    struct comm *world = NULL;
    struct doctor *d = NULL;
    status_t st = doctor_start(&world, o, stdout, argc, argv);
    if (st != STATUS_OK) return cli_exit(st, NULL);
    st = doctor_create(&d, world, o, stdout);
    if (st == STATUS_OK) st = doctor_run(d);
    const int code = cli_exit(st, world);
    comm_finish(&world);
    doctor_destroy(&d);
    return code;
}

int cmd_doctor(int argc, char **argv)
{
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"comm", required_argument, NULL, 'c'},
                                            {"limit", required_argument, NULL, 'l'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct doctor_options o = {.device = CONFIG_DEVICE_AUTO,
                               .transport = COMM_TRANSPORT_AUTO};
    int device = CONFIG_DEVICE_AUTO;
    int64_t limit = 20;
    status_t st = STATUS_OK;
    opterr = 0;
    for (int c;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("doctor", argv);
        if (c == 'd') st = place_parse(optarg, &device);
        if (c == 'c') st = parse_transport(optarg, &o.transport);
        if (c == 'l') st = option_int("--limit", optarg, 1, 3600, &limit);
    }
    if (st != STATUS_OK) return cli_exit_early(st);
    if (optind != argc) return cli_usage_early("doctor", "takes options only");
    o.device = (enum config_device)device;
    o.limit_seconds = (double)limit;
    return run(&o, &argc, &argv);
}
