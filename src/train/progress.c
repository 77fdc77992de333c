#include "train/metrics_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_BYTES = 32, BAR_CELLS = 24 };

/* Three digits and a letter for thousands: 999, 10.2k, 0.98M.  `first`: the smallest letter
 * used (0 none, 1 k, 2 M, ...), so that a figure keeps its unit from line to line. */
static const char *scaled(char out[NUMBER_BYTES], double x, int first)
{
    static const char letters[] = {'\0', 'k', 'M', 'G', 'T', 'P', 'E'};
    int i = 0;
    for (; i < first; i++) x /= 1000;
    while (x >= 999.5 && i + 1 < (int)sizeof letters) {
        x /= 1000;
        i++;
    }
    const int digits = i == 0 || x >= 99.95 ? 0 : x >= 9.995 ? 1 : 2;
    snprintf(out, NUMBER_BYTES, "%.*f%.1s", digits, x, &letters[i]);
    return out;
}

static const char *duration(char out[NUMBER_BYTES], double seconds)
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e9) {
        snprintf(out, NUMBER_BYTES, "?");
        return out;
    }
    const long long s = llround(seconds);
    if (s < 60)
        snprintf(out, NUMBER_BYTES, "%llds", s);
    else if (s < 3600)
        snprintf(out, NUMBER_BYTES, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, NUMBER_BYTES, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, NUMBER_BYTES, "%lldd%02lldh", s / 86400, s / 3600 % 24);
    return out;
}

void progress_line(char *line, size_t size, const struct metrics_record *r,
                   int64_t n_steps, double eta_seconds)
{
    char tokens[NUMBER_BYTES], rate[NUMBER_BYTES], eta[NUMBER_BYTES];
    char skipped[NUMBER_BYTES] = "", z_loss[NUMBER_BYTES] = "";
    const bool tera = r->flops_per_second >= 1e12;
    const double data = r->seconds > 0 ? 100 * r->loader_wait / r->seconds : 0;
    if (r->z_loss != 0) snprintf(z_loss, sizeof z_loss, " z-loss %.4f", r->z_loss);
    if (r->skipped > 0)
        snprintf(skipped, sizeof skipped, " skipped %lld", (long long)r->skipped);
    snprintf(
        line, size,
        "step %lld/%lld%s%s loss %.4f%s tokens %s %s tok/s %.1f %cFLOP/s (%.0f%% of GEMM)"
        " norm %.2f lr %.1e mem %lld MiB data %.1f%%%s eta %s",
        (long long)r->step, (long long)n_steps, r->stage ? " " : "",
        r->stage ? r->stage : "", r->loss, z_loss, scaled(tokens, (double)r->tokens, 2),
        scaled(rate, r->tokens_per_second, 0), r->flops_per_second / (tera ? 1e12 : 1e9),
        tera ? 'T' : 'G', 100 * r->gemm_share, r->grad_norm, r->lr,
        (long long)(r->memory_bytes >> 20), data, skipped, duration(eta, eta_seconds));
}

void progress_bar(char *line, size_t size, int64_t step, const struct metrics_record *r,
                  int64_t n_steps, double eta_seconds)
{
    char bar[BAR_CELLS + 1], rate[NUMBER_BYTES], eta[NUMBER_BYTES];
    double done = n_steps > 0 ? (double)step / (double)n_steps : 1;
    done = done < 0 ? 0 : done > 1 ? 1 : done;
    const int full = (int)(done * BAR_CELLS);
    memset(bar, ' ', BAR_CELLS);
    memset(bar, '=', (size_t)full);
    if (full > 0) bar[full - 1] = '>';
    bar[BAR_CELLS] = '\0';
    if (r->step == 0) {
        snprintf(line, size, "[%s] %3.0f%% %lld/%lld", bar, 100 * done, (long long)step,
                 (long long)n_steps);
        return;
    }
    snprintf(line, size, "[%s] %3.0f%% %lld/%lld loss %.4f %s tok/s eta %s", bar,
             100 * done, (long long)step, (long long)n_steps, r->loss,
             scaled(rate, r->tokens_per_second, 0), duration(eta, eta_seconds));
}
