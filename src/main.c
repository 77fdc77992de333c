/* yoke - the program: a table of subcommands. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "core/commit.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    {"train", cmd_train, "train a model as a configuration says (under mpirun or srun)"},
    {"plan", cmd_plan, "what a layout would do: stages, micro-batches, idle time"},
    {"selfcheck", cmd_selfcheck, "check that a layout gives what one rank gives"},
    {"eval", cmd_eval, "loss, perplexity and bits per byte of a checkpoint"},
    {"generate", cmd_generate, "continue a text"},
    {"tokenizer", cmd_tokenizer, "train a tokenizer, or try one"},
    {"tokenize", cmd_tokenize, "turn text files into token files"},
    {"config", cmd_config, "print a configuration with every default, or the reference"},
    {"inspect", cmd_inspect,
     "describe a run, checkpoint, token file, tokenizer or config"},
    {"verify", cmd_verify, "check every byte of checkpoints or token files"},
    {"diff", cmd_diff, "compare two checkpoints, tensor by tensor and key by key"},
    {"checkpoint", cmd_checkpoint, "pack, unpack or average checkpoints"},
    {"import", cmd_import, "turn a Hugging Face model into a checkpoint"},
    {"export", cmd_export, "turn a checkpoint into a Hugging Face model"},
    {"bench", cmd_bench, "measure training steps, or each operation, on this machine"},
    {"doctor", cmd_doctor, "look at the machines, GPUs and the network between ranks"},
};

static void print_help(FILE *out)
{
    fprintf(out, "usage: yoke COMMAND [OPTION]...\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(
        out,
        "\nyoke COMMAND --help tells about one command, yoke --version the version.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return status_exit_code(STATUS_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("yoke %s%s%s%s\n", YOKE_VERSION, core_commit[0] ? " (" : "", core_commit,
               core_commit[0] ? ")" : "");
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    status_set(STATUS_USAGE, "%s is not a command; yoke --help lists them", argv[1]);
    return cli_exit_early(STATUS_USAGE);
}
