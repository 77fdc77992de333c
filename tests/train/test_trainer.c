/* @ranks 1 2  @timeout 60  @devices cpu cuda  @wrap model_backward
 * What is planned is what is taken, to the byte; what is masked or not finite is left out. */
#include <math.h>
#include <time.h>

#include "run.h"
#include "train/trainer.h"

static void open_with(struct trainer *t, struct config *c, const char *const *overrides,
                      int n)
{
    struct comm *world = test_world();
    const char *folder = test_folder();
    char path[PATH_MAX];
    if (comm_rank(world) == 0) run_prepare(folder);
    comm_barrier(world);
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    ASSERT_OK(config_load(c, path, overrides, n));
    ASSERT_OK(trainer_init(t, world, c));
    ASSERT_OK(trainer_restore(t));
    ASSERT_OK(trainer_start_loader(t));
}

static void open_trainer(struct trainer *t, struct config *c, const char *override)
{
    open_with(t, c, &override, 1);
}

static void close_trainer(struct trainer *t, struct config *c)
{
    comm_barrier(test_world());
    trainer_release(t);
    config_release(c);
}

static bool shares(const struct trainer *t)
{
    return t->config->zero > 0 && device_is_host(t->device);
}

static void check_plan(const char *layout)
{
    struct trainer t;
    struct config c;
    struct step_stats s;
    open_trainer(&t, &c, layout);
    const struct parts_options parts = trainer_parts(&t);
    int index;
    struct memory_plan imagined; /* by yoke plan, which knows of no shared GPU */
    struct config like = c;
    if (strcmp(comm_transport_name(t.world), "nccl") != 0) like.comm = COMM_TRANSPORT_MPI;
    ASSERT_OK(memory_plan_imagine(&imagined, &like, comm_rank(t.world),
                                  comm_size(t.world), t.device, t.dtype, t.n_threads));
    imagined.n_near = parts_near(&parts, &index);
    assert_int_equal(imagined.n_near, shares(&t) ? comm_size(t.layout.data) : 1);
    if (index > 0) imagined.weights = 0; /* nor of hosts */
    assert_memory_equal(&imagined, &t.plan, sizeof imagined);
    assert_int_equal(device_allocated_bytes(t.device), memory_plan_device_bytes(&t.plan));
    assert_int_equal(device_host_bytes(t.device), memory_plan_pinned_bytes(&t.plan));
    for (int step = 0; step < 3; step++) train_step(&t, &s);
    assert_int_equal(device_allocated_bytes(t.device), memory_plan_device_bytes(&t.plan));
    if (t.memory.peak_bytes != t.memory.capacity_bytes ||
        nn_scratch_peak_bytes(t.nn) != t.plan.scratch)
        fail_msg("%s: %zu of %zu bytes used, %zu of %zu of scratch", layout,
                 t.memory.peak_bytes, t.memory.capacity_bytes,
                 nn_scratch_peak_bytes(t.nn), t.plan.scratch);
    close_trainer(&t, &c);
}

TEST(planned_bytes_are_allocated_bytes_and_all_of_them_are_used)
{
    static const char *const layouts[] = {"parallel.zero=0",     "parallel.zero=1",
                                          "parallel.zero=2",     "model.recompute=full",
                                          "train.micro_batch=5", "model.recompute=none"};
    static const char *const of_two[] = {
        "parallel={tp: 2, share_gpu: true}",
        "parallel={tp: 2, sequence: false, share_gpu: true}",
        "parallel={cp: 2, zero: 2, share_gpu: true}", "parallel={pp: 2, share_gpu: true}",
        "parallel={pp: 2, schedule: zero_bubble, share_gpu: true}"};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) check_plan(layouts[i]);
    for (size_t i = 0; comm_size(test_world()) == 2 && i < sizeof of_two / sizeof *of_two;
         i++)
        check_plan(of_two[i]);
}

/* A model of several buckets. */
static const char *const large = "model.vocab_size=20000";

static float *gradients(struct trainer *t)
{
    const size_t bytes = (size_t)t->plan.padded_elements * sizeof(float);
    float *grads = test_alloc(bytes);
    device_copy_out(t->device, grads, t->grads, bytes);
    return grads;
}

/* What backward of the next step adds to: all of it is zero, whoever updates it. */
static void check_no_gradient(const char *layout)
{
    struct trainer t;
    struct config c;
    struct step_stats s;
    open_with(&t, &c, (const char *[]){large, layout}, 2);
    for (int step = 0; step < 2; step++) {
        train_step(&t, &s);
        assert_false(s.skipped);
        const float *grads = gradients(&t);
        for (int64_t i = 0; i < t.plan.padded_elements; i++)
            if (grads[i] != 0)
                fail_msg("%s: gradient %jd of %jd is %g", layout, (intmax_t)i,
                         (intmax_t)t.plan.padded_elements, (double)grads[i]);
    }
    close_trainer(&t, &c);
}

TEST(an_update_leaves_no_gradient_behind)
{
    static const char *const layouts[] = {"parallel.zero=0", "parallel.zero=1",
                                          "train.micro_batch=2"};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        check_no_gradient(layouts[i]);
}

TEST(the_norm_is_that_of_all_gradients_in_all_buckets)
{
    struct trainer t;
    struct config c;
    struct step_stats s;
    open_with(&t, &c, (const char *[]){large, "parallel.zero=0"}, 2);
    assert_true(dp_n_owned(t.dp) > 3);
    train_gradients(&t, &s);
    const float *grads = gradients(&t);
    double squares = 0;
    for (int64_t i = 0; i < t.plan.padded_elements; i++)
        squares += (double)grads[i] * (double)grads[i];
    const double want = sqrt(squares) * s.gradient_scale;
    assert_true(want > 0 && fabs(s.grad_norm - want) <= 1e-12 * want);
    close_trainer(&t, &c);
}

/* Weights and moments that this rank owns, hashed. */
static uint64_t state_hash(struct trainer *t)
{
    struct hash_stream *h = hash_stream_create();
    mirror_begin_copy_out(&t->mirror);
    mirror_wait(&t->mirror);
    for (int64_t i = 0; i < zero_n_owned(t->zero); i++) {
        const struct checkpoint_range r = mirror_owned(&t->mirror, i);
        const size_t bytes = (size_t)r.count * sizeof(float);
        hash_stream_update(h, r.master, bytes);
        hash_stream_update(h, r.exp_avg, bytes);
        hash_stream_update(h, r.exp_avg_sq, bytes);
    }
    return hash_stream_finish(&h);
}

void __real_model_backward(struct model *m, const struct model_pass *p);
void __wrap_model_backward(struct model *m, const struct model_pass *p);

static bool last_is_slow;

void __wrap_model_backward(struct model *m, const struct model_pass *p)
{
    const struct comm *world = test_world();
    if (last_is_slow && comm_rank(world) == comm_size(world) - 1)
        nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    __real_model_backward(m, p);
}

static uint64_t hash_after_steps(const char *comm, const char *zero)
{
    struct trainer t;
    struct config c;
    struct step_stats s;
    open_with(&t, &c, (const char *[]){large, comm, zero}, 3);
    const bool together = strcmp(comm, "parallel.comm=auto") == 0;
    assert_int_equal(t.plan.n_near, together ? comm_size(t.world) : 1);
    for (int step = 0; step < 4; step++) train_step(&t, &s);
    const uint64_t hash = state_hash(&t);
    close_trainer(&t, &c);
    return hash;
}

/* Also where one rank still reads them when the other is done with its gradients. */
TEST(one_copy_of_weights_gives_the_bits_of_two)
{
    static const char *const zeros[] = {"parallel.zero=1", "parallel.zero=2"};
    if (strcmp(test_device_name(), "cpu") != 0) return;
    last_is_slow = true;
    for (int i = 0; i < 2; i++)
        assert_true(hash_after_steps("parallel.comm=auto", zeros[i]) ==
                    hash_after_steps("parallel.comm=mpi", zeros[i]));
    last_is_slow = false;
}

TEST(a_step_that_is_not_finite_changes_nothing_on_any_rank)
{
    struct trainer t;
    struct config c;
    struct step_stats s;
    open_trainer(&t, &c, "log.interval=1");
    train_step(&t, &s);
    assert_false(s.skipped);
    const uint64_t before = state_hash(&t);
    const int last = comm_size(t.world) - 1;
    float *norm = (float *)t.weights +
                  t.params.params[param_find(&t.params, "model.norm.weight")].offset;
    const float nonsense = INFINITY;
    float keep;
    train_settle(&t);
    device_copy_out(t.device, &keep, norm, sizeof keep);
    comm_barrier(t.world);          /* ranks may have it together */
    if (comm_rank(t.world) == last) /* one rank computes nonsense */
        device_copy_in(t.device, norm, &nonsense, sizeof nonsense);
    train_step(&t, &s);
    assert_true(s.skipped);
    assert_int_equal(t.progress.skipped, 1);
    device_copy_in(t.device, norm, &keep, sizeof keep);
    assert_true(state_hash(&t) == before);
    train_step(&t, &s);
    assert_false(s.skipped);
    assert_false(state_hash(&t) == before);
    assert_int_equal(t.progress.step, 3);
    close_trainer(&t, &c);
}
