#include <getopt.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "core/log.h"
#include "core/rng.h"
#include "train/pin.h"
#include "train/place.h"
#include "train/products.h"

static const char help[] =
    "usage: [mpirun -n N] yoke bench step CONFIG [OPTION]...\n"
    "       yoke bench ops CONFIG [OPTION]...\n"
    "       yoke bench gemm [CONFIG] [OPTION]...\n"
    "       mpirun -n N yoke bench comm [OPTION]...\n"
    "       mpirun -n N yoke bench layouts [OPTION]...\n"
    "       mpirun -n N yoke bench checkpoint [OPTION]...\n\n"
    "step: time whole training steps of the model that CONFIG describes, on random "
    "tokens "
    "out of a\n"
    "file, and what they consist of: every operation, and products also by themselves.  "
    "The "
    "median\n"
    "step behind a warm-up.  Several ranks are data-parallel, unless --set parallel... "
    "says "
    "more.\n"
    "ops: time every operation at that model's shapes, as a share of what the device "
    "copies "
    "or\n"
    "multiplies at best.\n"
    "gemm: time the CPU's matrix products in fp32 and bf16 (--precision: one of them) at "
    "that "
    "model's\n"
    "shapes, or at those of a grid, as a share of what its registers can do, beside "
    "oneDNN and\n"
    "OpenBLAS.\n"
    "comm: reduce-scatter, all-gather and all-reduce of 64 KiB to 256 MiB between N "
    "ranks, "
    "beside\n"
    "the MPI library's own, in turns; medians.  Weights, of which ranks of a host have "
    "one copy\n"
    "together, are not moved between them when they are gathered.\n"
    "layouts: steps of a model of 50 million parameters under each simple layout of N "
    "ranks of "
    "one\n"
    "host: what every axis sends, for how long, and how much of that is hidden.\n"
    "checkpoint: what saving and loading that model cost, beside plain files and copies; "
    "--steps\n"
    "counts rounds of 20 steps without and 20 steps with a save.\n"
    "CONFIG must give model.vocab_size; its batch and data do not count.\n\n"
    "  --batch B          sequences of a rank (default 4)\n"
    "  --tokens T         tokens of each (default 512)\n"
    "  --steps N          steps or calls that are timed (default 5)\n"
    "  --threads N        of a rank (default: as yoke train's; of ops and gemm "
    "OpenMP's)\n"
    "  --device NAME      auto, cpu or cuda (default: CONFIG's)\n"
    "  --precision NAME   auto, fp32, bf16 or fp16 (default: CONFIG's)\n"
    "  --folder DIR       where files are made (default /tmp)\n"
    "  --set KEY=VALUE    override a key of the configuration\n"
    "  --json             one JSON object instead of a table\n";

enum { NOT_GIVEN = -1 };

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

status_t bench_fill(struct device *d, const struct tensor *x)
{
    enum { PERIOD = 1 << 16 };
    const int64_t n = tensor_elements(x);
    float *values = malloc(PERIOD * sizeof *values);
    char *rounded = malloc(tensor_bytes(x));
    if (values && rounded) {
        rng_normal(rng_key(1, "bench", "ops"), 0, values, PERIOD);
        for (int i = 0; i < PERIOD; i++) values[i] *= 0.5f;
        for (int64_t i = 0; i < n; i += PERIOD)
            dtype_convert(rounded + (size_t)i * dtype_bytes(x->dtype), x->dtype, values,
                          DTYPE_F32, n - i < PERIOD ? n - i : PERIOD);
        device_copy_in(d, x->data, rounded, tensor_bytes(x));
    }
    const bool ok = values && rounded;
    free(rounded);
    free(values);
    return ok ? STATUS_OK : status_set(STATUS_NOMEM, "no memory to fill a benchmark");
}

status_t bench_load_config(struct config *c, const struct bench_options *o)
{
    TRY(config_load(c, o->config, o->overrides, o->n_overrides));
    if (c->arch.vocab_size == 0)
        return status_set(
            STATUS_CONFIG,
            "%s: a benchmark reads no token files and needs the vocabulary: "
            "give model.vocab_size, here or as --set model.vocab_size=N",
            o->config);
    if (c->arch.max_positions < o->tokens) c->arch.max_positions = o->tokens;
    return STATUS_OK;
}

status_t bench_open_device(struct device **d, enum dtype *t,
                           const struct bench_options *o, const struct config *c)
{
    const int device = o->device == NOT_GIVEN ? c->device : o->device;
    const int precision = o->precision == NOT_GIVEN ? c->precision : o->precision;
    TRY(place_open_alone(d, (enum config_device)device));
    const char *why;
    TRY(place_check_model(*d, &c->arch));
    TRY(place_precision(t, &why, *d, NULL, (enum config_precision)precision));
    return products_choose(&why, *d, DTYPE_F32, NULL,
                           (enum config_products)c->fp32_products);
}

static status_t parse_precision(const char *text, int *precision)
{
    static const char *const names[] = {"auto", "fp32", "bf16", "fp16"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *precision = i;
            return STATUS_OK;
        }
    return status_set(STATUS_USAGE,
                      "--precision: %s is not known; valid: auto, fp32, bf16, fp16",
                      text);
}

static status_t parse_option(struct bench_options *o, int c, const char **overrides)
{
    switch (c) {
    case 'b':
        return option_int("--batch", optarg, 1, 1 << 20, &o->batch);
    case 't':
        return option_int("--tokens", optarg, 1, 1 << 24, &o->tokens);
    case 'n':
        return option_int("--steps", optarg, 1, 100000, &o->steps);
    case 'j':
        return option_int("--threads", optarg, 1, 4096, &o->threads);
    case 'd':
        return place_parse(optarg, &o->device);
    case 'p':
        return parse_precision(optarg, &o->precision);
    case 'f':
        o->folder = optarg;
        return STATUS_OK;
    case 's':
        if (o->n_overrides == BENCH_MAX_OVERRIDES)
            return status_set(STATUS_USAGE, "too many --set");
        overrides[o->n_overrides++] = optarg;
        return STATUS_OK;
    default:
        o->json = true;
        return STATUS_OK;
    }
}

static status_t bench_together(struct comm *world, struct bench_options *o,
                               status_t (*bench)(struct comm *world,
                                                 const struct bench_options *o))
{
    const bool loud = log_set_quiet(true);
    const status_t st = launch_check(world, "", (int)o->threads, &o->share);
    log_set_quiet(loud);
    if (st != STATUS_OK) return st;
    o->threads = o->share.threads;
    omp_set_num_threads(o->share.threads);
    return bench(world, o);
}

static int run_together(int argc, char **argv, struct bench_options *o,
                        status_t (*bench)(struct comm *world,
                                          const struct bench_options *o))
{
    struct comm *world = NULL;
    if (comm_start(&world, &argc, &argv) != STATUS_OK) return cli_exit(STATUS_COMM, NULL);
    const int code = cli_exit(bench_together(world, o, bench), world);
    comm_finish(&world);
    return code;
}

static int run_alone(const struct bench_options *o,
                     status_t (*bench)(const struct bench_options *o))
{
    struct pin pin;
    omp_set_num_threads((int)o->threads);
    pin_team_alone(&pin, (int)o->threads);
    const int code = cli_exit(bench(o), NULL);
    pin_release(&pin);
    return code;
}

int cmd_bench(int argc, char **argv)
{
    static const struct option options[] = {{"batch", required_argument, NULL, 'b'},
                                            {"tokens", required_argument, NULL, 't'},
                                            {"steps", required_argument, NULL, 'n'},
                                            {"threads", required_argument, NULL, 'j'},
                                            {"device", required_argument, NULL, 'd'},
                                            {"precision", required_argument, NULL, 'p'},
                                            {"folder", required_argument, NULL, 'f'},
                                            {"set", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'J'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    static const char what[] =
        "give: step CONFIG, ops CONFIG, gemm [CONFIG], comm, layouts "
        "or checkpoint";
    const char *overrides[BENCH_MAX_OVERRIDES];
    struct bench_options o = {.batch = 4,
                              .tokens = 512,
                              .steps = 5,
                              .device = NOT_GIVEN,
                              .precision = NOT_GIVEN,
                              .overrides = overrides,
                              .folder = "/tmp"};
    status_t st = STATUS_OK;
    opterr = 0;
    for (int c;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("bench", argv);
        st = parse_option(&o, c, overrides);
    }
    if (st != STATUS_OK) return cli_exit(st, NULL);
    if (argc - optind == 2 && strcmp(argv[optind], "step") == 0) {
        o.config = argv[optind + 1];
        return run_together(argc, argv, &o, bench_step);
    }
    if (argc - optind == 1 && strcmp(argv[optind], "comm") == 0)
        return run_together(argc, argv, &o, bench_comm);
    if (argc - optind == 1 && strcmp(argv[optind], "layouts") == 0)
        return run_together(argc, argv, &o, bench_layouts);
    if (argc - optind == 1 && strcmp(argv[optind], "checkpoint") == 0)
        return run_together(argc, argv, &o, bench_checkpoint);
    const bool gemm = argc > optind && strcmp(argv[optind], "gemm") == 0;
    if (argc - optind != 2 && !(gemm && argc - optind == 1))
        return cli_usage("bench", what);
    o.config = argv[optind + 1]; /* NULL at the end */
    if (o.threads == 0) o.threads = omp_get_max_threads();
    if (gemm) return run_alone(&o, bench_gemm);
    if (strcmp(argv[optind], "ops") == 0) return run_alone(&o, bench_ops);
    return cli_usage("bench", what);
}
