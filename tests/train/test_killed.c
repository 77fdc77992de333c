/* @timeout 240
 * @wrap model_forward model_backward dp_finish comm_start_messages optim_adamw checkpoint_saver_begin
 * A rank that is killed in the middle of a step, in whatever phase, ends the whole job at once: what
 * is printed names the rank and host that died, and where in which step another one waited; nothing
 * is left running.
 *
 * Four ranks of this very program, started again under mpirun, train with dp 2 x pp 2; one of them
 * kills itself when it gets to the phase. */
#include "run.h"

#include "core/clock.h"
#include "train/signals.h"
#include "train/trainer.h"

enum { RANKS = 4, VICTIM = 3, OK = 99, STEPS = 6 };
static const double LIMIT_SECONDS = 40; /* the machine may be busy */

/* ---- the parts of the ranks ------------------------------------------------------------------ */

static const char *phase; /* that the victim dies in; NULL: this process is not a rank */
static int calls;         /* of it so far */

static void maybe_die(const char *name)
{
    enum { CALL = 3 };
    if (!phase || strcmp(phase, name) != 0 || comm_rank(test_world()) != VICTIM) return;
    if (++calls == CALL) raise(SIGKILL);
}

void __real_model_forward(struct model *m, const struct model_pass *p);
void __wrap_model_forward(struct model *m, const struct model_pass *p);
void __wrap_model_forward(struct model *m, const struct model_pass *p)
{
    maybe_die("forward");
    __real_model_forward(m, p);
}

void __real_model_backward(struct model *m, const struct model_pass *p);
void __wrap_model_backward(struct model *m, const struct model_pass *p);
void __wrap_model_backward(struct model *m, const struct model_pass *p)
{
    maybe_die("backward");
    __real_model_backward(m, p);
}

void __real_dp_finish(struct dp *dp);
void __wrap_dp_finish(struct dp *dp);
void __wrap_dp_finish(struct dp *dp)
{
    maybe_die("reduce");
    __real_dp_finish(dp);
}

void __real_comm_start_messages(struct comm_request *r,
                                const struct comm_message *messages, int n_messages,
                                int tag);
void __wrap_comm_start_messages(struct comm_request *r,
                                const struct comm_message *messages, int n_messages,
                                int tag);
void __wrap_comm_start_messages(struct comm_request *r,
                                const struct comm_message *messages, int n_messages,
                                int tag)
{
    if (messages[0].send) maybe_die("send");
    __real_comm_start_messages(r, messages, n_messages, tag);
}

void __real_optim_adamw(struct nn *nn, const struct optim_options *o,
                        const struct param_table *p, const struct nn_adamw_range *r,
                        int64_t t, double lr, double grad_scale);
void __wrap_optim_adamw(struct nn *nn, const struct optim_options *o,
                        const struct param_table *p, const struct nn_adamw_range *r,
                        int64_t t, double lr, double grad_scale);
void __wrap_optim_adamw(struct nn *nn, const struct optim_options *o,
                        const struct param_table *p, const struct nn_adamw_range *r,
                        int64_t t, double lr, double grad_scale)
{
    maybe_die("update");
    __real_optim_adamw(nn, o, p, r, t, lr, grad_scale);
}

void __real_checkpoint_saver_begin(struct checkpoint_saver *s,
                                   const struct checkpoint_meta *meta);
void __wrap_checkpoint_saver_begin(struct checkpoint_saver *s,
                                   const struct checkpoint_meta *meta);
void __wrap_checkpoint_saver_begin(struct checkpoint_saver *s,
                                   const struct checkpoint_meta *meta)
{
    maybe_die("save");
    __real_checkpoint_saver_begin(s, meta);
}

static void train(const char *folder)
{
    static const char *const layout[] = {"parallel.pp=2", "train.micro_batch=2"};
    struct trainer t;
    struct config c;
    struct step_stats s;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    ASSERT_OK(config_load(&c, path, layout, 2));
    ASSERT_OK(trainer_init(&t, test_world(), &c));
    ASSERT_OK(trainer_restore(&t));
    ASSERT_OK(trainer_start_loader(&t));
    signals_arm();
    for (int i = 0; i < STEPS; i++) {
        train_step(&t, &s);
        train_settle(&t);
        ASSERT_OK(saving_now(&t));
    }
    trainer_release(&t);
    config_release(&c);
}

__attribute__((constructor)) static void play_my_part(void)
{
    const char *part = getenv("YOKE_TEST_PART");
    if (!part) return;
    phase = part;
    signals_start();
    train(getenv("YOKE_TEST_FOLDER"));
    comm_barrier(test_world());
    _exit(OK);
}

/* ---- the play -------------------------------------------------------------------------------- */

/* Processes of this program besides this one that still run. */
static int left_over(const char *self)
{
    char command[PATH_MAX + 64], answer[64] = "";
    snprintf(command, sizeof command, "pgrep -c -f -x '%s'", self);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    if (!fgets(answer, sizeof answer, p)) answer[0] = '\0';
    pclose(p);
    return atoi(answer);
}

/* Run it; exit code, and the log, which the caller frees. */
static int play(const char *part, char **log, double *seconds)
{
    const char *folder = test_folder();
    char self[PATH_MAX] = "", path[PATH_MAX], command[4 * PATH_MAX];
    size_t bytes;
    run_prepare(folder);
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    snprintf(path, sizeof path, "%s/log", folder);
    snprintf(command, sizeof command,
             "YOKE_TEST_PART='%s' YOKE_TEST_FOLDER='%s' mpirun -n %d '%s' > '%s' 2>&1",
             part, folder, RANKS, self, path);
    const double start = clock_seconds();
    const int status = system(command);
    *seconds = clock_seconds() - start;
    ASSERT_OK(file_read(path, 1 << 20, log, &bytes));
    const int others = left_over(self) - 1; /* this one */
    if (others > 0) fail_msg("%s: %d ranks still run:\n%s", part, others, *log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void dies_in(const char *part)
{
    char *log, host[256] = "", who[320];
    double seconds;
    const int code = play(part, &log, &seconds);
    gethostname(host, sizeof host - 1);
    snprintf(who, sizeof who, "process rank %d with PID", VICTIM);
    if (code == 0 || code == OK) fail_msg("%s went well:\n%s", part, log);
    if (seconds > LIMIT_SECONDS) fail_msg("%s took %.1f s:\n%s", part, seconds, log);
    const char *const words[] = {who, host, "told to end while waiting", ", step "};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strstr(log, words[i]))
            fail_msg("%s: no \"%s\" in:\n%s", part, words[i], log);
    free(log);
}

TEST(nobody_dies_and_all_goes_well)
{
    char *log;
    double seconds;
    const int code = play("nobody", &log, &seconds);
    if (code != OK) fail_msg("exit code %d:\n%s", code, log);
    free(log);
}

TEST(a_rank_that_dies_in_forward_ends_the_job)
{
    dies_in("forward");
}

TEST(a_rank_that_dies_in_backward_ends_the_job)
{
    dies_in("backward");
}

TEST(a_rank_that_dies_in_a_pipeline_send_ends_the_job)
{
    dies_in("send");
}

TEST(a_rank_that_dies_in_the_reduction_ends_the_job)
{
    dies_in("reduce");
}

TEST(a_rank_that_dies_in_the_update_ends_the_job)
{
    dies_in("update");
}

TEST(a_rank_that_dies_in_a_save_ends_the_job)
{
    dies_in("save");
}
