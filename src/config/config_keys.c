#include "config/config_impl.h"

#include <string.h>

static const char *const activation_names[] = {"gelu", "gelu_erf", "swiglu", NULL};
static const char *const scaling_names[] = {"none", "linear", "llama3", "yarn", NULL};
static const char *const init_names[] = {"scaled", "plain", "small", NULL};
static const char *const recompute_names[] = {"none", "selective", "full", NULL};
static const char *const verify_names[] = {"auto", "all", "seal", NULL};
static const char *const schedule_names[] = {"constant", "linear", "cosine", "wsd", NULL};
static const char *const decay_names[] = {"linear", "sqrt", NULL};
static const char *const clock_names[] = {"ahead", "zero", "one", "not_zero", NULL};

static const char *const device_names[] = {"auto", "cpu", "cuda", NULL};
static const char *const precision_names[] = {"auto", "fp32", "bf16", "fp16", NULL};
static const char *const products_names[] = {"auto", "fma", "bf16x6", NULL};
static const char *const pipeline_names[] = {"gpipe", "1f1b", "interleaved",
                                             "zero_bubble", NULL};
static const char *const pin_names[] = {"auto", "always", "never", NULL};
static const char *const wire_names[] = {"auto", "fp32", "bf16", NULL};
static const char *const comm_names[] = {"auto", "nccl", "mpi", NULL};
static const char *const rounding_names[] = {"nearest", "stochastic", NULL};

#define AT(field) .offset = offsetof(struct config, field)

const struct config_key config_keys[] = {
    {"model.family", CONFIG_FAMILY, AT(family),
     .doc = "what the model is built like: norms, positions, activation, biases, names"},
    {"model.layers", CONFIG_INTEGER, AT(arch.n_layers), 1, 10000,
     .doc = "transformer blocks"},
    {"model.hidden", CONFIG_INTEGER, AT(arch.hidden), 1, 1048576,
     .doc = "width of the residual stream"},
    {"model.heads", CONFIG_INTEGER, AT(arch.n_heads), 1, 65536,
     .doc = "query heads of the attention"},
    {"model.kv_heads", CONFIG_INTEGER, AT(arch.n_kv_heads), 0, 65536, .zero = "auto",
     .initial = "auto",
     .doc = "key and value heads; they divide heads.  auto: as many as heads"},
    {"model.head_size", CONFIG_INTEGER, AT(arch.head_size), 0, 65536, .zero = "auto",
     .initial = "auto", .doc = "width of one head.  auto: hidden / heads"},
    {"model.ffn", CONFIG_INTEGER, AT(arch.ffn), 0, 16777216, .zero = "auto",
     .initial = "auto",
     .doc = "inner width of the feed-forward half.  auto: 4 hidden with GELU (gpt2); "
            "8/3 hidden rounded up to a multiple of 64 with SwiGLU (llama)"},
    {"model.vocab_size", CONFIG_INTEGER, AT(arch.vocab_size), 0, 16777216, .zero = "auto",
     .initial = "auto",
     .doc = "rows of the embedding.  auto: the vocabulary of the token files; a run with "
            "stages needs the number"},
    {"model.max_positions", CONFIG_INTEGER, AT(arch.max_positions), 0, 16777216,
     .zero = "auto", .initial = "auto",
     .doc = "longest sequence the model can take.  auto: data.sequence_length"},
    {"model.norm_eps", CONFIG_NUMBER, AT(arch.norm_eps), 1e-12, 1, .from_family = true,
     .doc = "added to the variance in every norm"},
    {"model.rope_theta", CONFIG_NUMBER, AT(arch.rope_theta), 1, 1e12, .from_family = true,
     .doc = "base of the rotary positions; not used with learned positions"},
    {"model.rope_fraction", CONFIG_NUMBER, AT(arch.rope_fraction), 1e-6, 1,
     .from_family = true, .doc = "of the dims of a head that are turned"},
    {"model.rope_skip", CONFIG_INTEGER, AT(arch.rope_skip), 0, 10000, .from_family = true,
     .doc = "every so many layers one has no rotary positions; 0: none"},
    {"model.rope_scaling", CONFIG_ENUM, AT(arch.rope_scaling), .names = scaling_names,
     .from_family = true,
     .doc = "how rotary frequencies are stretched: docs/huggingface.md"},
    {"model.rope_factor", CONFIG_NUMBER, AT(arch.rope_factor), 1, 1e6,
     .from_family = true, .doc = "by which they are stretched"},
    {"model.rope_original", CONFIG_INTEGER, AT(arch.rope_original), 0, 16777216,
     .from_family = true,
     .doc = "positions the model was trained with before; llama3 and yarn need it"},
    {"model.rope_low", CONFIG_NUMBER, AT(arch.rope_low), 0, 1e6, .from_family = true,
     .doc = "llama3: low_freq_factor; yarn: beta_slow"},
    {"model.rope_high", CONFIG_NUMBER, AT(arch.rope_high), 0, 1e6, .from_family = true,
     .doc = "llama3: high_freq_factor; yarn: beta_fast.  0: 4 and 32"},
    {"model.rope_attention", CONFIG_NUMBER, AT(arch.rope_attention), 0, 1e6,
     .from_family = true, .doc = "yarn: attention_factor.  0: 0.1 ln(rope_factor) + 1"},
    {"model.activation", CONFIG_ENUM, AT(arch.activation), .names = activation_names,
     .from_family = true,
     .doc = "of the feed-forward half; gelu is the tanh form, gelu_erf the exact one"},
    {"model.qkv_bias", CONFIG_BOOL, AT(arch.qkv_bias), .from_family = true,
     .doc = "queries, keys and values have a bias"},
    {"model.out_bias", CONFIG_BOOL, AT(arch.out_bias), .from_family = true,
     .doc = "the attention's output projection has a bias"},
    {"model.mlp_bias", CONFIG_BOOL, AT(arch.mlp_bias), .from_family = true,
     .doc = "the matrices of the feed-forward half have a bias"},
    {"model.tied_embeddings", CONFIG_BOOL, AT(arch.tied_embeddings), .from_family = true,
     .doc = "the output head is the embedding"},
    {"model.init_std", CONFIG_NUMBER, AT(arch.init_std), 0, 10, .from_family = true,
     .doc = "standard deviation of the initial weights"},
    {"model.init", CONFIG_ENUM, AT(arch.init), .names = init_names, .from_family = true,
     .doc = "scaled: the projections back into the residual stream get init_std / "
            "sqrt(2 layers); plain: all get init_std; small: they get 2 / (layers "
            "sqrt(hidden)), all others sqrt(2 / (5 hidden)) (GPT-NeoX)"},
    {"model.init_cutoff", CONFIG_NUMBER, AT(arch.init_cutoff), 0, 100,
     .from_family = true,
     .doc = "initial weights stay within so many standard deviations; 0: all do"},
    {"model.recompute", CONFIG_ENUM, AT(recompute), .names = recompute_names,
     .initial = "selective",
     .doc =
         "activations that backward computes again instead of keeping them: less "
         "memory, more time.  selective: those of norms, which cost a pass over memory "
         "(on CPUs less than can be measured), and always where parallel.sequence shards "
         "rows; full: all but the input of each block"},

    {"data.tokenizer", CONFIG_TEXT, AT(tokenizer), 0, 4095, .initial = "",
     .doc =
         "tokenizer.json of the token files, for bits per byte and samples; \"\": none"},
    {"data.train", CONFIG_SOURCES, AT(train), 1,
     .doc = "token files to train on; weights need not sum to 1"},
    {"data.validation", CONFIG_SOURCES, AT(validation), 0, .initial = "[]",
     .doc = "token files to evaluate on; []: none"},
    {"data.sequence_length", CONFIG_INTEGER, AT(sequence_length), 1, 16777216,
     .doc = "tokens of a training sequence"},
    {"data.document_mask", CONFIG_BOOL, AT(document_mask), .initial = "true",
     .doc = "tokens see their own document only, and positions restart in each"},
    {"data.repetition_count", CONFIG_INTEGER, AT(repetition.count), 0, 1e9,
     .initial = "0",
     .doc =
         "a sequence in which a few tokens come so many times in a row, or more, is not "
         "trained on (OLMo's instance filter); 0: all are"},
    {"data.repetition_period", CONFIG_INTEGER, AT(repetition.period), 1, 65536,
     .initial = "13", .doc = "how many tokens these few are at most"},
    {"data.verify", CONFIG_ENUM, AT(verify), .names = verify_names, .initial = "auto",
     .doc =
         "what is checked when a token file is opened.  all: every byte; seal: all but "
         "the tokens; auto: all for small files, seal for large ones"},
    {"data.loader_ahead", CONFIG_INTEGER, AT(loader_ahead), 1, 1024, .initial = "4",
     .doc = "micro-batches the loader thread prepares ahead"},

    {"train.run_dir", CONFIG_TEXT, AT(run_dir), 1, 4095,
     .doc = "folder of the run: checkpoints, metrics, resolved configuration"},
    {"train.steps", CONFIG_INTEGER, AT(steps), 1, 1e9,
     .doc = "steps of the whole run, resumed parts included"},
    {"train.batch_sequences", CONFIG_INTEGER, AT(batch_sequences), 0, 1e9, .initial = "0",
     .doc = "global batch of a step in sequences; exactly one of this and batch_tokens"},
    {"train.batch_tokens", CONFIG_INTEGER, AT(batch_tokens), 0, 1e12, .initial = "0",
     .doc = "global batch of a step in tokens, a multiple of data.sequence_length"},
    {"train.micro_batch", CONFIG_INTEGER, AT(micro_batch_wanted), 0, 65536,
     .zero = "auto", .initial = "auto",
     .doc = "sequences a rank computes at a time, at most its share of the batch.  auto: "
            "about 4096 tokens, "
            "or fewer where stages of a pipeline would have to wait"},
    {"train.seed", CONFIG_INTEGER, AT(seed), 0, 1e15, .initial = "1",
     .doc = "of initial weights and data order"},
    {"train.threads", CONFIG_INTEGER, AT(threads), 0, 4096, .zero = "auto",
     .initial = "auto",
     .doc = "threads of a rank.  auto: the physical cores it may use, shared evenly with "
            "ranks that were given the same ones"},
    {"train.pin", CONFIG_ENUM, AT(pin), .names = pin_names, .initial = "auto",
     .doc = "keep each thread on a core of its own, on the CPU.  auto: where the threads "
            "fill the cores that the rank may use.  OMP_PROC_BIND, OMP_PLACES and "
            "GOMP_CPU_AFFINITY count more"},
    {"train.device", CONFIG_ENUM, AT(device), .names = device_names, .initial = "auto",
     .doc = "where to compute.  auto: cuda if every rank has a GPU that works, else cpu"},
    {"train.precision", CONFIG_ENUM, AT(precision), .names = precision_names,
     .initial = "auto",
     .doc =
         "of weights and activations in forward and backward; master weights, "
         "gradients and optimizer state are fp32.  auto: on a GPU bf16 where it has it, "
         "else fp16 with a dynamic loss scale; on a CPU bf16 where it has AMX or "
         "AVX512-BF16, else fp32"},
    {"train.fp32_products", CONFIG_ENUM, AT(fp32_products), .names = products_names,
     .initial = "auto",
     .doc =
         "how matrices are multiplied in fp32 on a CPU with AMX (docs/architecture.md).  "
         "bf16x6: each number is split into three of bf16, of which six products are "
         "added, as exact as multiply-adds; fma: by multiply-adds.  auto: bf16x6 if it "
         "is a "
         "fifth faster on all ranks, which is measured once for a model of CPU and kept "
         "in "
         "~/.cache/yoke.  Name one where bits must not depend on what was measured"},
    {"train.graphs", CONFIG_BOOL, AT(graphs), .initial = "true",
     .doc = "record the work of a micro-batch once and replay it (CUDA graphs)"},
    {"train.eval_interval", CONFIG_INTEGER, AT(eval_interval), 0, 1e9, .initial = "250",
     .doc = "steps between evaluations; 0: never.  Without data.validation it is 0"},
    {"train.eval_sequences", CONFIG_INTEGER, AT(eval_sequences), 1, 1e9, .initial = "64",
     .doc = "sequences of an evaluation"},
    {"train.z_loss", CONFIG_NUMBER, AT(z_loss), 0, 1, .initial = "0.0",
     .doc =
         "so many times the square of the logarithm of the softmax's denominator is "
         "added to the loss of a token, in training alone and reported apart: it keeps "
         "logits small (PaLM, OLMo); 0: nothing"},
    {"train.max_bad_steps", CONFIG_INTEGER, AT(max_bad_steps), 1, 1e9, .initial = "10",
     .doc = "bad steps in a row, with a loss or gradient that is not finite or a spike, "
            "before the run goes back to the checkpoint before them and on behind their "
            "data; the update of each is skipped"},
    {"train.spike_sigma", CONFIG_NUMBER, AT(spike_sigma), 0, 1e6, .initial = "0.0",
     .doc =
         "a step is bad, too, if its loss is so many standard deviations above the mean "
         "of about the last 128; 0: never"},
    {"train.max_rollbacks", CONFIG_INTEGER, AT(max_rollbacks), 0, 1e6, .initial = "3",
     .doc = "returns to an earlier checkpoint before the run stops"},
    {"train.time_limit", CONFIG_NUMBER, AT(time_limit), 0, 1e9, .initial = "0.0",
     .doc =
         "seconds after which the run saves and leaves with exit code 85; 0: none.  The "
         "end of the job that Slurm tells (SLURM_JOB_END_TIME) counts as well"},
    {"train.time_margin", CONFIG_NUMBER, AT(time_margin), 0, 1e9, .initial = "60.0",
     .doc = "seconds before the time limit at which it does so: enough for a step and a "
            "save"},

    {"optim.lr", CONFIG_NUMBER, AT(optim.lr), 0, 10, .initial = "3.0e-4",
     .doc = "peak learning rate of AdamW"},
    {"optim.beta1", CONFIG_NUMBER, AT(optim.beta1), 0, 0.999999, .initial = "0.9",
     .doc = "decay of the first moment"},
    {"optim.beta2", CONFIG_NUMBER, AT(optim.beta2), 0, 0.999999, .initial = "0.95",
     .doc = "decay of the second moment"},
    {"optim.eps", CONFIG_NUMBER, AT(optim.eps), 1e-30, 1, .initial = "1.0e-8",
     .doc = "added to the root of the second moment"},
    {"optim.weight_decay", CONFIG_NUMBER, AT(optim.weight_decay), 0, 10, .initial = "0.1",
     .doc = "decoupled weight decay of the matrices"},
    {"optim.decay_embeddings", CONFIG_BOOL, AT(optim.decay_embeddings), .initial = "true",
     .doc = "decay token and position embeddings too"},
    {"optim.decay_norms", CONFIG_BOOL, AT(optim.decay_norms), .initial = "false",
     .doc = "decay the weights of norms too"},
    {"optim.decay_biases", CONFIG_BOOL, AT(optim.decay_biases), .initial = "false",
     .doc = "decay biases too"},
    {"optim.clip", CONFIG_NUMBER, AT(optim.clip), 0, 1e6, .initial = "1.0",
     .doc = "largest global norm of the gradient; 0: no clipping"},
    {"optim.clip_eps", CONFIG_NUMBER, AT(optim.clip_eps), 0, 1, .initial = "0.0",
     .doc = "added to the norm that clip is divided by; 1.0e-6 in PyTorch"},
    {"optim.rounding", CONFIG_ENUM, AT(optim.rounding), .names = rounding_names,
     .initial = "nearest",
     .doc = "of master weights to those of 16 bits; stochastic: bf16 only"},

    {"schedule.kind", CONFIG_ENUM, AT(schedule.kind), .names = schedule_names,
     .initial = "cosine", .doc = "how the learning rate goes after warm-up"},
    {"schedule.warmup_steps", CONFIG_INTEGER, AT(schedule.warmup_steps), 0, 1e9,
     .initial = "0", .doc = "steps of linear warm-up"},
    {"schedule.clock", CONFIG_ENUM, AT(schedule.clock), .names = clock_names,
     .initial = "ahead",
     .doc = "as what step s, from 0, counts.  ahead: s + 1 in warm-up, s behind it "
            "(llm.c); zero: s, so the first step has a rate of 0 (nanotron, "
            "transformers); one: s + 1 (OLMo); not_zero: s, but 1 in the first step of a "
            "warm-up (GPT-NeoX)"},
    {"schedule.warmup_tokens", CONFIG_INTEGER, AT(warmup_tokens), 0, 1e15, .initial = "0",
     .doc = "warm-up in tokens, rounded up to whole steps; instead of warmup_steps"},
    {"schedule.total_steps", CONFIG_INTEGER, AT(schedule.total_steps), 0, 1e9,
     .zero = "auto", .initial = "auto",
     .doc = "step at which the floor is reached; beyond train.steps the run ends on the "
            "way.  auto: train.steps"},
    {"schedule.total_tokens", CONFIG_INTEGER, AT(total_tokens), 0, 1e15, .initial = "0",
     .doc = "total_steps in tokens, rounded up to whole steps; instead of it"},
    {"schedule.decay_steps", CONFIG_INTEGER, AT(schedule.decay_steps), 0, 1e9,
     .zero = "auto", .initial = "auto",
     .doc = "wsd: steps of the decay that ends at total_steps.  auto: a fifth of "
            "total_steps, rounded up; 0 for other kinds"},
    {"schedule.decay", CONFIG_ENUM, AT(schedule.decay), .names = decay_names,
     .initial = "linear", .doc = "wsd: shape of the decay, linear or 1 - sqrt"},
    {"schedule.min_ratio", CONFIG_NUMBER, AT(schedule.min_ratio), 0, 1, .initial = "0.0",
     .doc = "floor of the learning rate as a share of the peak"},

    {"parallel.dp", CONFIG_INTEGER, AT(dp), 0, 65536, .zero = "auto", .initial = "auto",
     .doc = "data-parallel ranks.  auto: all that the other axes leave"},
    {"parallel.tp", CONFIG_INTEGER, AT(tp), 0, 65536, .zero = "auto", .initial = "1",
     .doc =
         "tensor-parallel ranks, which share every layer.  auto, here and for cp and pp: "
         "1; or, next to a number for dp, what the other axes leave"},
    {"parallel.cp", CONFIG_INTEGER, AT(cp), 0, 65536, .zero = "auto", .initial = "1",
     .doc = "context-parallel ranks, which share every sequence"},
    {"parallel.pp", CONFIG_INTEGER, AT(pp), 0, 65536, .zero = "auto", .initial = "1",
     .doc = "pipeline stages, which share the layers"},
    {"parallel.sequence", CONFIG_BOOL, AT(sequence_parallel), .initial = "true",
     .doc = "tensor-parallel ranks share the rows between the layers too (sequence "
            "parallelism)"},
    {"parallel.schedule", CONFIG_ENUM, AT(pipeline), .names = pipeline_names,
     .initial = "1f1b",
     .doc = "order of the micro-batches in the pipeline: docs/parallelism.md"},
    {"parallel.chunks", CONFIG_INTEGER, AT(chunks), 1, SHARD_MAX_CHUNKS, .initial = "1",
     .doc = "parts of the model that each stage holds; more than 1 for interleaved"},
    {"parallel.stages", CONFIG_TEXT, AT(split), 1, 4095, .initial = "auto",
     .doc = "layers of each part of the pipeline, in the order of the model, like "
            "\"4,4,3\".  auto: parts that cost about the same"},
    {"parallel.zero", CONFIG_INTEGER, AT(zero), 0, 2, .initial = "1",
     .doc =
         "of what data- and context-parallel ranks have in common, each keeps only its "
         "share of: 0: nothing; 1: the optimizer state, and on CPUs ranks of one host "
         "have one copy of "
         "the weights together; 2: gradients too"},
    {"parallel.bucket_mb", CONFIG_INTEGER, AT(bucket_mb), 1, 4096, .initial = "25",
     .doc = "MiB of gradients reduced at a time while backward goes on"},
    {"parallel.comm", CONFIG_ENUM, AT(comm), .names = comm_names, .initial = "auto",
     .doc =
         "how large vectors travel.  auto: between GPUs nccl where it is there and "
         "every rank has a GPU of its own, else mpi through host memory; between ranks "
         "that compute on the CPU of one host through memory that they share, else mpi"},
    {"parallel.wire", CONFIG_ENUM, AT(wire), .names = wire_names, .initial = "auto",
     .doc = "type in which gradients travel between data- and context-parallel ranks.  "
            "bf16: half of the bytes; what is sent is rounded once, sums are fp32 (not "
            "over NCCL).  auto: fp32, so that no result depends on where ranks are.  "
            "Weights always travel in train.precision"},
    {"parallel.share_gpu", CONFIG_BOOL, AT(share_gpu), .initial = "false",
     .doc = "several ranks may compute on one GPU"},
    {"parallel.timeout_seconds", CONFIG_NUMBER, AT(timeout_seconds), 0, 1e6,
     .initial = "600.0",
     .doc = "a wait for other ranks or for the GPU that takes longer ends the job; 0: "
            "never"},

    {"checkpoint.interval", CONFIG_INTEGER, AT(checkpoint_interval), 0, 1e9,
     .initial = "1000",
     .doc = "steps between checkpoints; 0: only at the end and on signals"},
    {"checkpoint.async", CONFIG_BOOL, AT(checkpoint_async), .initial = "true",
     .doc =
         "write in the background, from a copy in host memory: 12 bytes a parameter over "
         "all ranks; false: the step waits and no copy is made (on the CPU)"},
    {"checkpoint.keep_last", CONFIG_INTEGER, AT(keep.last), 0, 1e9, .initial = "0",
     .doc = "newest checkpoints that stay; with all three keep_ keys 0, all stay"},
    {"checkpoint.keep_every", CONFIG_INTEGER, AT(keep.every), 0, 1e9, .initial = "0",
     .doc = "checkpoints of steps that this divides stay, too; 0: none"},
    {"checkpoint.keep_best", CONFIG_INTEGER, AT(keep.best), 0, 1e9, .initial = "0",
     .doc = "checkpoints with the lowest validation loss that stay, too"},
    {"checkpoint.max_failures", CONFIG_INTEGER, AT(checkpoint_failures), 1, 1e9,
     .initial = "3",
     .doc =
         "saves in a row that may fail (a full disk) before the run stops; after each it "
         "goes on and tries again at the next interval"},
    {"checkpoint.resume", CONFIG_TEXT, AT(resume), 1, 4095, .initial = "auto",
     .doc = "auto: from the last good checkpoint in run_dir if there is one; never; or "
            "the path of a checkpoint or run, with which a run begins that has no "
            "checkpoint "
            "in run_dir yet; one in run_dir is gone back to at every start"},

    {"log.interval", CONFIG_INTEGER, AT(log_interval), 1, 1e9, .initial = "10",
     .doc = "steps between lines of the log"},
    {"log.tensorboard", CONFIG_BOOL, AT(tensorboard), .initial = "true",
     .doc = "write TensorBoard event files into run_dir"},
};

const int config_n_keys = sizeof config_keys / sizeof *config_keys;
_Static_assert(sizeof config_keys / sizeof *config_keys <= CONFIG_MAX_KEYS,
               "CONFIG_MAX_KEYS is too small");

const struct config_key *config_find(const char *name)
{
    for (int i = 0; i < config_n_keys; i++)
        if (strcmp(config_keys[i].name, name) == 0) return &config_keys[i];
    return NULL;
}

bool config_is_section(const char *name)
{
    const size_t n = strlen(name);
    for (int i = 0; i < config_n_keys; i++)
        if (strncmp(config_keys[i].name, name, n) == 0 && config_keys[i].name[n] == '.')
            return true;
    return false;
}

bool config_is_among(const struct config_key *k, const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        const size_t bytes = strlen(names[i]);
        const char last = names[i][bytes - 1];
        const bool prefix = last == '.' || last == '_';
        if (strncmp(k->name, names[i], prefix ? bytes : bytes + 1) == 0) return true;
    }
    return false;
}

int config_begins_section(int i)
{
    const char *name = config_keys[i].name;
    const size_t n = strcspn(name, ".");
    const bool same = i > 0 && strncmp(config_keys[i - 1].name, name, n + 1) == 0;
    return same ? 0 : (int)n;
}
