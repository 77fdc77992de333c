#include "cli/bench_parts.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static double communication_seconds(const struct trainer *t)
{
    const struct layout *l = &t->layout;
    return comm_stats(l->tp).seconds + comm_stats(l->cp).seconds +
           comm_stats(l->pp).seconds + comm_stats(l->data).seconds +
           comm_stats(t->world).seconds;
}

static int64_t page_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

void bench_parts_begin(struct bench_parts *p, struct trainer *t)
{
    *p = (struct bench_parts){.communication = -communication_seconds(t),
                              .page_faults = -page_faults()};
    loader_wait_seconds(t->loader);
}

void bench_parts_end(struct bench_parts *p, struct trainer *t)
{
    p->page_faults += page_faults();
    p->communication += communication_seconds(t);
    p->loader = loader_wait_seconds(t->loader);
    const struct nn_account_entry *entries;
    p->n_operations = nn_account_entries(t->nn, &entries);
    for (int i = 0; i < p->n_operations; i++) p->operations[i] = entries[i];
}

/* ---- printing --------------------------------------------------------------------------------- */

/* The layers whose weight is [outputs, inputs]; "" for a part of one. */
static const char *layer_of(const struct nn_account_entry *e, const struct arch *m)
{
    const int64_t heads = m->n_heads * m->head_size, C = m->hidden;
    const int64_t qkv = heads + 2 * m->n_kv_heads * m->head_size;
    const int64_t up = m->activation == ARCH_SWIGLU ? 2 * m->ffn : m->ffn;
    if (e->outputs == m->vocab_size && e->inputs == C) return "head ";
    if (e->outputs == qkv && e->inputs == C) return "qkv ";
    if (e->outputs == C && e->inputs == heads) return "attention out ";
    if (e->outputs == up && e->inputs == C) return "mlp up ";
    if (e->outputs == C && e->inputs == m->ffn) return "mlp down ";
    return "";
}

static void name_of(const struct nn_account_entry *e, const struct arch *m, char *out,
                    size_t bytes)
{
    if (e->rows)
        snprintf(out, bytes, "%s%s %jdx%jdx%jd", layer_of(e, m), e->name,
                 (intmax_t)e->rows, (intmax_t)e->outputs, (intmax_t)e->inputs);
    else
        snprintf(out, bytes, "%s", e->name);
}

static double flops_of(const struct nn_account_entry *e)
{
    return 2.0 * (double)e->rows * (double)e->outputs * (double)e->inputs *
           (double)e->calls;
}

static void print_line(const char *name, double seconds, double whole)
{
    printf("%-40s %9.4f s %5.1f%%", name, seconds, 100 * seconds / whole);
}

static void print_operation(const struct nn_account_entry *e, double alone,
                            const struct arch *m, double whole, bool json)
{
    char name[96];
    name_of(e, m, name, sizeof name);
    if (json) {
        printf("{\"name\": \"%s\", \"seconds\": %.6f, \"calls\": %jd, \"bytes\": %.6g",
               name, e->seconds, (intmax_t)e->calls, e->bytes);
        if (e->rows) printf(", \"flops\": %.6g, \"alone\": %.6f", flops_of(e), alone);
        printf("}");
        return;
    }
    print_line(name, e->seconds, whole);
    if (e->rows)
        printf(" %8.1f GFLOP/s, alone %8.1f\n", flops_of(e) / e->seconds * 1e-9,
               flops_of(e) / alone * 1e-9);
    else
        printf(" %8.1f GB/s\n", e->bytes / e->seconds * 1e-9);
}

static void print_rest(const struct bench_parts *p, double products, double alone,
                       double rest, bool json)
{
    if (json) {
        printf("\"loader\": %.6f, \"communication\": %.6f, \"rest\": %.6f, "
               "\"products\": %.6f, \"products_alone\": %.6f, \"gemm_share\": %.4f",
               p->loader, p->communication, rest, products, alone, alone / p->seconds);
        return;
    }
    print_line("waiting for the loader", p->loader, p->seconds);
    printf("\n");
    print_line("communication", p->communication, p->seconds);
    printf("\n");
    print_line("rest", rest, p->seconds);
    printf("\n");
    print_line("step", p->seconds, p->seconds);
    printf(
        "\nproducts take %.4f s of it and would take %.4f s alone: %.1f%% of the step\n",
        products, alone, 100 * alone / p->seconds);
}

void bench_parts_print(const struct bench_parts *p, const double alone[NN_ACCOUNT_MAX],
                       const struct arch *arch, bool json)
{
    double products = 0, products_alone = 0;
    double rest = p->seconds - p->loader - p->communication;
    if (json) printf("\"operations\": [");
    for (int i = 0; i < p->n_operations; i++) {
        const struct nn_account_entry *e = &p->operations[i];
        if (json && i > 0) printf(", ");
        print_operation(e, alone[i], arch, p->seconds, json);
        rest -= e->seconds;
        if (e->rows) products += e->seconds;
        products_alone += alone[i];
    }
    if (json) printf("], ");
    print_rest(p, products, products_alone, rest, json);
}
