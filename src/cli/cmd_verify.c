#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "core/file.h"
#include "core/log.h"
#include "data/token_file.h"

static const char help[] =
    "usage: yoke verify PATH...\n\n"
    "Check every byte of checkpoints against the hashes they were written with.  A PATH "
    "is a\n"
    "checkpoint folder, a run folder (all its checkpoints), a packed checkpoint or a "
    "token "
    "file.\n"
    "Under mpirun the ranks share the shards: mpirun -n 8 yoke verify runs/mine\n"
    "Exit code 0: every byte is as written; 5 (4 for a token file): each damaged file "
    "has been "
    "named.\n";

/* This rank's part; what is damaged in it is printed.  Local. */
static status_t check_part(const char *path, const struct comm *world)
{
    struct checkpoint *c;
    status_t st = checkpoint_open(&c, path);
    if (st == STATUS_OK) st = checkpoint_verify(c, comm_rank(world), comm_size(world));
    if (st != STATUS_OK) log_error("%s", status_message());
    checkpoint_close(&c);
    return st;
}

static status_t verify_checkpoint(const char *path, struct comm *world)
{
    const status_t st = comm_agree(world, check_part(path, world));
    if (st == STATUS_OK && comm_rank(world) == 0)
        printf("%s: every byte is as written\n", path);
    return st;
}

/* All checkpoints of a run folder; the status is that of the newest bad one. */
static status_t verify_run(const char *path, struct comm *world)
{
    char folder[PATH_MAX];
    int64_t step = INT64_MAX;
    status_t first = STATUS_OK;
    int n = 0;
    for (;; n++) {
        TRY(comm_agree(world, checkpoint_next(path, &step, folder)));
        if (!folder[0]) break;
        const status_t st = verify_checkpoint(folder, world);
        if (first == STATUS_OK) first = st;
    }
    if (n > 0) return first;
    status_set(STATUS_CHECKPOINT,
               "%s: is neither a checkpoint (model.h5) nor a run folder with one "
               "(step-*/model.h5)",
               path);
    if (comm_rank(world) == 0) log_error("%s", status_message());
    return STATUS_CHECKPOINT;
}

static status_t check_file(const char *path)
{
    struct token_file *f = NULL;
    const status_t st = checkpoint_is_packed(path)
                            ? checkpoint_verify_packed(path)
                            : token_file_open(&f, path, TOKEN_FILE_CHECK_ALL);
    const bool sealed = !f || token_file_info(f)->format == TOKEN_FILE_H5;
    token_file_close(&f);
    if (st == STATUS_OK)
        printf("%s: every %s\n", path,
               sealed ? "byte is as written" : "id is below the vocabulary");
    else
        log_error("%s", status_message());
    return st;
}

static status_t verify(const char *path, struct comm *world)
{
    char inside[PATH_MAX];
    const bool root = comm_rank(world) == 0;
    if (!file_is_dir(path)) return comm_agree(world, root ? check_file(path) : STATUS_OK);
    file_join(inside, sizeof inside, path, "model.h5");
    return file_exists(inside) ? verify_checkpoint(path, world) : verify_run(path, world);
}

int cmd_verify(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct comm *world = NULL;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        return cli_usage_option("verify", argv);
    }
    if (optind == argc) return cli_usage_early("verify", "give a PATH");
    if (comm_start(&world, &argc, &argv) != STATUS_OK) return cli_exit(STATUS_COMM, NULL);
    status_t first = STATUS_OK;
    for (int i = optind; i < argc; i++) {
        const status_t st = verify(argv[i], world);
        if (first == STATUS_OK) first = st;
    }
    comm_finish(&world);
    return status_exit_code(first); /* all has been said */
}
