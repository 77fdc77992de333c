/* Stages: each is complete in itself, and what cannot be one is refused with its place and name. */
#include "harness/harness.h"

#include <stdio.h>

#include "config/config.h"
#include "config/config_impl.h" /* the table of keys, to try every one */

static const char run[] =
    "model: {family: llama, layers: 2, hidden: 64, heads: 4, vocab_size: 97}\n" /* 1 */
    "data: {train: tokens.h5, sequence_length: 32}\n"                           /* 2 */
    "train: {run_dir: run, batch_sequences: 8}\n"                               /* 3 */
    "optim: {lr: 1.0e-3}\n"                                                     /* 4 */
    "schedule: {kind: wsd, warmup_steps: 10, decay_steps: 30, min_ratio: 0.1, clock: "
    "one}\n";

static status_t parse(struct config *c, const char *stages, const char *override)
{
    char text[4096];
    snprintf(text, sizeof text, "%s%s", run, stages);
    memset(c, 0xA5, sizeof *c); /* an output starts dirty */
    return config_parse(c, "run.yaml", text, strlen(text), &override, override ? 1 : 0);
}

static void assert_refused(const char *stages, const char *override, const char *want)
{
    struct config c;
    const status_t st = parse(&c, stages, override);
    assert_null(c.places);
    if (st != STATUS_CONFIG || strcmp(status_message(), want) != 0)
        fail_msg("%s %s\nwant STATUS_CONFIG: %s\ngot %s: %s", stages,
                 override ? override : "", want, status_name(st), status_message());
}

static const char three[] = "stages:\n"                                      /* 6 */
                            "  - {name: one, steps: 100}\n"                  /* 7 */
                            "  - name: two\n"                                /* 8 */
                            "    steps: 40\n"                                /* 9 */
                            "    data: {train: b.h5, sequence_length: 64}\n" /* 10 */
                            "    train: {batch_tokens: 1024}\n"              /* 11 */
                            "    schedule: {kind: linear}\n"                 /* 12 */
                            "  - name: three\n"                              /* 13 */
                            "    steps: 10\n"                                /* 14 */
                            "    data: {train: b.h5, sequence_length: 64}\n" /* 15 */
                            "    model: {rope_theta: 5.0e5}\n"               /* 16 */
                            "    optim: {lr: 2.0e-4}\n";                     /* 17 */

TEST(a_stage_is_the_run_with_what_it_says_itself)
{
    struct config c;
    ASSERT_OK(parse(&c, three, NULL));
    assert_int_equal(config_n_segments(&c), 3);
    assert_int_equal(c.steps, 150);
    const struct config *one = config_segment(&c, 0), *two = config_segment(&c, 1),
                        *last = config_segment(&c, 2);
    assert_ptr_equal(config_whole(one), &c);
    assert_ptr_equal(config_whole(&c), &c);
    assert_string_equal(one->train.items[0].path, "tokens.h5");
    assert_string_equal(two->train.items[0].path, "b.h5");
    assert_true(one->optim.lr == 1e-3 && two->optim.lr == 1e-3 && last->optim.lr == 2e-4);
    assert_int_equal(config_global_batch(one), 8);
    assert_int_equal(config_global_batch(two), 16);
    assert_int_equal(config_global_batch(last), 8);
    assert_int_equal(one->arch.max_positions, 32);
    assert_int_equal(two->arch.max_positions, 64);
    assert_true(last->arch.rope_theta == 5e5 && two->arch.rope_theta != 5e5);
    for (int i = 0; i < 3; i++) assert_int_equal(config_segment(&c, i)->steps, 150);
    config_release(&c);
}

TEST(steps_schedule_and_data_are_counted_from_the_right_places)
{
    struct config c;
    ASSERT_OK(parse(&c, three, NULL));
    const struct config_span *one = &c.stages[0].span, *two = &c.stages[1].span,
                             *last = &c.stages[2].span;
    assert_int_equal(one->first_step, 0);
    assert_int_equal(one->end_step, 100);
    assert_int_equal(two->first_step, 100);
    assert_int_equal(two->end_step, 140);
    assert_int_equal(last->end_step, 150);
    assert_int_equal(one->schedule_step, 0);
    assert_int_equal(two->schedule_step, 100);
    assert_int_equal(last->schedule_step, 0);
    assert_int_equal(one->data_step, 0);
    assert_int_equal(two->data_step, 100);
    assert_int_equal(last->data_step, 100); /* the same data goes on */
    const struct schedule *base = &c.stages[2].schedule, *own = &c.stages[1].schedule;
    assert_int_equal(base->kind, SCHEDULE_WSD);
    assert_int_equal(base->total_steps, 150);
    assert_int_equal(base->decay_steps, 30);
    assert_int_equal(own->kind, SCHEDULE_LINEAR);
    assert_int_equal(own->total_steps, 40);
    assert_int_equal(own->warmup_steps, 0); /* nothing of the run's schedule is left */
    assert_true(own->min_ratio == 0);
    assert_int_equal(own->clock, SCHEDULE_CLOCK_ONE); /* but how it counts */
    config_release(&c);
}

TEST(data_begins_anew_for_other_sources_lengths_and_seeds_alone)
{
    static const struct {
        const char *says;
        int anew;
    } cases[] = {{"data: {train: tokens.h5}", 0},
                 {"data: {train: [{path: tokens.h5, weight: 1}]}", 0},
                 {"data: {document_mask: false}", 0},
                 {"train: {batch_sequences: 4}", 0},
                 {"data: {train: [{path: tokens.h5, weight: 2}]}", 1},
                 {"data: {train: [tokens.h5, b.h5]}", 1},
                 {"data: {sequence_length: 16}", 1},
                 {"train: {seed: 2}", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        char text[512];
        snprintf(text, sizeof text,
                 "stages:\n  - {name: a, steps: 50}\n  - {name: b, steps: 50, %s}\n",
                 cases[i].says);
        ASSERT_OK(parse(&c, text, NULL));
        if ((c.stages[1].span.data_step == 50) != cases[i].anew)
            fail_msg("%s: data since step %lld", cases[i].says,
                     (long long)c.stages[1].span.data_step);
        config_release(&c);
    }
}

TEST(the_stage_of_a_step_is_found)
{
    struct config c;
    ASSERT_OK(parse(&c, three, NULL));
    static const struct {
        int64_t step;
        int segment;
    } cases[] = {{0, 0},   {99, 0},  {100, 1}, {139, 1},
                 {140, 2}, {149, 2}, {150, 3}, {999, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(config_segment_at(&c, cases[i].step), cases[i].segment);
    config_release(&c);
    ASSERT_OK(parse(&c, "", "train.steps=70"));
    assert_int_equal(config_n_segments(&c), 1);
    assert_ptr_equal(config_segment(&c, 0), &c);
    assert_int_equal(config_segment_at(&c, 69), 0);
    assert_int_equal(config_segment_at(&c, 70), 1);
    config_release(&c);
}

TEST(overrides_reach_the_run_or_one_stage)
{
    struct config c;
    ASSERT_OK(parse(&c, three, "optim.lr=0.5"));
    assert_true(c.stages[0].optim.lr == 0.5 && c.stages[2].optim.lr == 2e-4);
    config_release(&c);
    ASSERT_OK(parse(&c, three, "stages.three.optim.lr=0.25"));
    assert_true(c.stages[0].optim.lr == 1e-3 && c.stages[2].optim.lr == 0.25);
    config_release(&c);
    ASSERT_OK(parse(&c, three, "stages.two.steps=1"));
    assert_int_equal(c.steps, 111);
    config_release(&c);
    ASSERT_OK(parse(&c, three, "stages.one={optim: {beta1: 0.5}, steps: 90}"));
    assert_true(c.stages[0].optim.beta1 == 0.5 && c.stages[0].optim.lr == 1e-3);
    assert_int_equal(c.steps, 140);
    config_release(&c);
    ASSERT_OK(parse(&c, three, "train.steps=150"));
    config_release(&c);
}

TEST(what_cannot_be_a_stage_is_refused)
{
    assert_refused("stages: 3\n", NULL,
                   "run.yaml:6: stages: is a list (valid: a list of {name: NAME, steps: "
                   "STEPS, and sections of keys})");
    assert_refused("stages: [one]\n", NULL,
                   "run.yaml:6: stages: a stage is a mapping (valid: {name: NAME, steps: "
                   "STEPS, and sections of keys})");
    assert_refused("stages:\n  - {steps: 3}\n", NULL,
                   "run.yaml:7: stage 1: has no name (valid: name: and a word)");
    assert_refused("stages:\n  - {name: a}\n", NULL,
                   "run.yaml:7: stage a: has no steps (valid: a whole number from 1)");
    assert_refused("stages:\n  - {name: a.b, steps: 3}\n", NULL,
                   "run.yaml:7: stage a.b: its name is no word (valid: letters, digits, "
                   "_ and -)");
    assert_refused("stages:\n  - {name: a, steps: 3}\n  - {name: b, steps: 1}\n"
                   "  - {name: a, steps: 4}\n",
                   NULL, "run.yaml:9: stage a: stage 1 has the same name");
    assert_refused("stages:\n  - {name: a, steps: 0}\n", NULL,
                   "run.yaml:7: stage a: steps: \"0\" is out of bounds (valid: a whole "
                   "number from 1 to 1000000000)");
    assert_refused("stages:\n  - {name: a, steps: 600000000}\n"
                   "  - {name: b, steps: 600000000}\n",
                   NULL,
                   "run.yaml:8: stage b: it ends at step 1200000000 (valid: up to "
                   "1000000000)");
    assert_refused("stages:\n  - {name: a, name: b, steps: 3}\n", NULL,
                   "run.yaml:7: stage a: name: is given twice, first in line 7");
    assert_refused("stages: []\nstages: []\n", NULL,
                   "run.yaml:7: stages: is given twice, first in line 6");
}

TEST(what_a_stage_says_wrongly_is_refused_with_its_name)
{
    assert_refused(
        "stages:\n  - name: a\n    steps: 60\n    optim:\n      lrr: 1\n", NULL,
        "run.yaml:10: stage a: optim.lrr: unknown key; did you mean optim.lr?");
    assert_refused("stages:\n  - optim: {lrr: 1}\n    name: a\n", NULL,
                   "run.yaml:7: stage 1: optim.lrr: unknown key; did you mean optim.lr?");
    assert_refused("stages:\n  - {name: a, steps: 60, stages: []}\n", NULL,
                   "run.yaml:7: stage a: stages: unknown key; did you mean "
                   "parallel.stages?");
    assert_refused("stages:\n  - {name: a, steps: 60, model: {layers: 3}}\n", NULL,
                   "run.yaml:7: stage a: model.layers: is the same in all stages (valid: "
                   "outside of stages)");
    assert_refused("stages:\n  - {name: a, steps: 60, optim: {lr: fast}}\n", NULL,
                   "run.yaml:7: stage a: optim.lr: \"fast\" is not a number (valid: a "
                   "number from 0 to 10)");
    assert_refused("stages:\n  - {name: a, steps: 60, optim: {lr: 1, lr: 1}}\n", NULL,
                   "run.yaml:7: stage a: optim.lr: is given twice, first in line 7");
    assert_refused("stages:\n  - {name: a, steps: 60, train: {batch_tokens: 33}}\n", NULL,
                   "run.yaml:7: stage a: train.batch_tokens: 33 is not a multiple of "
                   "data.sequence_length 32 (nearest valid: 32 or 64)");
    assert_refused("stages:\n  - {name: a, steps: 60}\n  - {name: b, steps: 5, schedule: "
                   "{warmup_steps: 6}}\n",
                   NULL,
                   "run.yaml:8: stage b: schedule.warmup_steps: 6 steps of warm-up are "
                   "more than the stage's steps 5 (valid: 0 to 5 steps)");
    assert_refused("stages:\n  - {name: a, steps: 60}\n", "train.steps=61",
                   "--set train.steps=61: train.steps: 61, but the steps of the stages "
                   "are 60 (valid: that, or leave it out)");
    assert_refused("stages:\n  - {name: a, steps: 60}\n", "stages.b.steps=3",
                   "--set stages.b.steps=3: there is no stage \"b\" (valid: a)");
    assert_refused("", "stages.b.steps=3",
                   "--set stages.b.steps=3: there is no stage \"b\" (valid: none, as the "
                   "file has no stages)");
    assert_refused("stages:\n  - {name: a, steps: 60}\n", "stages=[]",
                   "--set stages=[]: stages: is a list that only a file can give (valid: "
                   "--set stages.NAME.KEY=VALUE)");
    assert_refused("stages:\n  - {name: a, steps: 60}\n", "stages.a.log.interval=2",
                   "--set stages.a.log.interval=2: stage a: log.interval: is the same in "
                   "all stages (valid: outside of stages)");
    assert_refused(
        "stages:\n  - {name: a, steps: 60}\n", "model.vocab_size=auto",
        "--set model.vocab_size=auto: stage a: model.vocab_size: is missing; a "
        "run with stages cannot take it from the data of one of them (valid: a "
        "number, outside of stages)");
}

TEST(learned_positions_are_the_same_in_all_stages)
{
    assert_refused("stages:\n  - {name: a, steps: 60}\n"
                   "  - {name: b, steps: 5, data: {sequence_length: 64}}\n",
                   "model.family=gpt2",
                   "run.yaml:8: stage b: data.sequence_length: 64 is more than "
                   "model.max_positions 32 (valid: 1 to 32)");
    assert_refused("stages:\n  - {name: a, steps: 60}\n"
                   "  - {name: b, steps: 5, model: {max_positions: 64}}\n",
                   "model.family=gpt2",
                   "run.yaml:8: stage b: model.max_positions: 64 learned positions, but "
                   "the run has 32 (valid: the same number in all stages)");
}

TEST(the_number_of_stages_has_an_end)
{
    char text[4096] = "stages:\n";
    for (int i = 0; i <= CONFIG_MAX_STAGES; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "  - {name: s%d, steps: 1}\n", i);
    assert_refused(text, NULL, "run.yaml:71: stages: more than 64 of them");
}

/* Every value of every stage is read back from the dump, and the dump is that of what was read. */
TEST(the_dump_reads_back_to_the_same_stages)
{
    static const char *const overrides[] = {
        NULL, "stages.one.train.micro_batch=3", "stages.two.data.validation=v.h5",
        "stages.three.schedule.warmup_tokens=1000", "stages.one.parallel.tp=2"};
    for (size_t o = 0; o < sizeof overrides / sizeof *overrides; o++) {
        struct config c, back;
        char *text = NULL, *again = NULL;
        ASSERT_OK(parse(&c, three, overrides[o]));
        ASSERT_OK(config_dump(&c, &text));
        ASSERT_OK(config_parse(&back, "dump", text, strlen(text), NULL, 0));
        assert_int_equal(back.n_stages, 3);
        for (int s = 0; s < 3; s++)
            for (int i = 0; i < config_n_keys; i++)
                if (!config_same_value(&c.stages[s], &back.stages[s], &config_keys[i]))
                    fail_msg("stage %d: %s changed on the way through\n%s", s,
                             config_keys[i].name, text);
        ASSERT_OK(config_dump(&back, &again));
        assert_string_equal(text, again);
        free(text);
        free(again);
        config_release(&c);
        config_release(&back);
    }
}

/* A stage by itself, for those who have a checkpoint of it. */
TEST(the_text_of_a_step_is_that_of_its_stage)
{
    struct config c, at;
    char *text = NULL, *of = NULL;
    ASSERT_OK(parse(&c, three, NULL));
    ASSERT_OK(config_dump(&c, &text));
    static const struct {
        int64_t step;
        int stage;
    } cases[] = {{0, 0}, {100, 0}, {101, 1}, {140, 1}, {141, 2}, {150, 2}, {151, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ASSERT_OK(config_text_at("checkpoint", text, cases[i].step, &of));
        ASSERT_OK(config_parse(&at, "text", of, strlen(of), NULL, 0));
        assert_int_equal(at.n_stages, 0);
        for (int k = 0; k < config_n_keys; k++)
            if (!config_same_value(&at, &c.stages[cases[i].stage], &config_keys[k]))
                fail_msg("step %lld: %s", (long long)cases[i].step, config_keys[k].name);
        free(of);
        config_release(&at);
    }
    free(text);
    config_release(&c);
}

static void note(void *context, const char *key, const char *before, const char *now)
{
    char *out = context;
    snprintf(out + strlen(out), 1024 - strlen(out), "%s: %s -> %s\n", key,
             before ? before : "-", now ? now : "-");
}

TEST(dumps_are_compared_stage_by_stage)
{
    struct config a, b;
    char *before = NULL, *now = NULL, said[1024] = "";
    ASSERT_OK(parse(&a, three, NULL));
    ASSERT_OK(parse(&b, three,
                    "stages.three={steps: 20, optim: {lr: 0.5}, data: {train: "
                    "[b.h5, c.h5]}}"));
    ASSERT_OK(config_dump(&a, &before));
    ASSERT_OK(config_dump(&b, &now));
    ASSERT_OK(config_compare(before, now, note, said));
    assert_string_equal(
        said, "train.steps: 150 -> 160\n"
              "schedule.total_steps: 150 -> 160\n"
              "stages.three.steps: 10 -> 20\n"
              "stages.three.data.train: - {path: \"b.h5\", weight: 1.0} -> - {path: "
              "\"b.h5\", weight: 1.0} - {path: \"c.h5\", weight: 1.0}\n"
              "stages.three.optim.lr: 0.0002 -> 0.5\n");
    free(before);
    free(now);
    config_release(&a);
    config_release(&b);
}

TEST(every_key_is_either_of_all_stages_or_of_each)
{
    for (int i = 0; i < config_n_keys; i++) {
        struct config c;
        const struct config_key *k = &config_keys[i];
        char override[128];
        snprintf(override, sizeof override, "stages.a.%s=", k->name);
        const status_t st = parse(&c, "stages: [{name: a, steps: 60}]\n", override);
        if (st == STATUS_OK) config_release(&c); /* an empty text */
        const bool same = st != STATUS_OK && strstr(status_message(), "in all stages");
        if (same == config_is_staged(k)) fail_msg("%s: %s", override, status_message());
    }
}
