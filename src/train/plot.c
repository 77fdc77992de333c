#include "train/plot.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "train/metrics.h"

/* user units of the picture; one is a pixel at the size a browser first shows */
enum {
    WIDTH = 800,
    HEIGHT = 460,
    LEFT = 70,
    RIGHT = 780,
    TOP = 56,
    BOTTOM = 400,
    MAX_LINE_POINTS = 2000, /* more than the eye and the screen can tell apart */
    MAX_TICKS = 16
};

/* Where values lie on one axis: linear, or linear in the logarithm. */
struct axis {
    double low, high;   /* values at the ends */
    double first, last; /* their coordinates */
    bool logarithmic;
};

static double place(const struct axis *a, double x)
{
    const double low = a->logarithmic ? log(a->low) : a->low;
    const double high = a->logarithmic ? log(a->high) : a->high;
    const double at = a->logarithmic ? log(x) : x;
    return a->first + (a->last - a->first) * (at - low) / (high - low);
}

/* The smallest of 1, 2, 5 times a power of ten that is not below x. */
static double round_step(double x)
{
    const double power = pow(10, floor(log10(x)));
    const double digit = x / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

/* five to eleven */
static int linear_ticks(const struct axis *a, double ticks[MAX_TICKS])
{
    const double step = round_step((a->high - a->low) / 10);
    int n = 0;
    for (double k = ceil(a->low / step - 1e-9); n < MAX_TICKS; k++) {
        if (k * step > a->high + 1e-9 * step) break;
        ticks[n++] = k * step + 0.0; /* makes 0 of -0 */
    }
    return n;
}

/* 1, 2, 5 of every power of ten; powers alone when those would be too many. */
static int logarithmic_ticks(const struct axis *a, double ticks[MAX_TICKS])
{
    static const double digits[] = {1, 2, 5};
    const bool powers_only = a->high / a->low > 1e4;
    int n = 0;
    for (double power = floor(log10(a->low)); power <= log10(a->high); power++)
        for (int d = 0; d < (powers_only ? 1 : 3) && n < MAX_TICKS; d++) {
            const double x = digits[d] * pow(10, power);
            if (x >= a->low && x <= a->high) ticks[n++] = x;
        }
    return n;
}

/* A loss of exactly 0 has no logarithm. */
static const double SMALLEST_LOSS = 1e-6;

/* NaN, infinity and what has left for there are no places on paper. */
static bool drawable(double loss)
{
    return fabs(loss) < 1e30;
}

static struct axis loss_axis(const struct metrics_series *s)
{
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (int64_t i = 0; i < s->n; i++) {
        if (!drawable(s->points[i].loss)) continue;
        low = fmin(low, s->points[i].loss);
        high = fmax(high, s->points[i].loss);
    }
    if (low > high) low = 0, high = 1; /* no record to show: an empty frame */
    struct axis a = {.first = BOTTOM, .last = TOP};
    a.logarithmic =
        low >= 0 && high > SMALLEST_LOSS && high / fmax(low, SMALLEST_LOSS) > 10;
    if (a.logarithmic) {
        a.low = fmax(low, SMALLEST_LOSS) / 1.1;
        a.high = high * 1.1;
        return a;
    }
    const double margin = high > low ? 0.05 * (high - low) : fmax(0.5, 0.05 * fabs(high));
    a.low = low - margin;
    a.high = high + margin;
    return a;
}

static struct axis step_axis(const struct metrics_series *s)
{
    int64_t last = 1;
    for (int64_t i = 0; i < s->n; i++)
        if (s->points[i].step > last) last = s->points[i].step;
    return (struct axis){.low = 0, .high = (double)last, .first = LEFT, .last = RIGHT};
}

static double place_loss(const struct axis *y, double loss)
{
    return place(y, y->logarithmic ? fmax(loss, y->low) : loss);
}

static void text_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '<' || c == '>' || c == '&' || c == '"')
            fprintf(out, "&#%d;", c);
        else if (c < 32 || c >= 127)
            fputc('?', out); /* control bytes and broken UTF-8 would break the file */
        else
            fputc(c, out);
    }
}

static void write_frame(FILE *out, const struct axis *x, const struct axis *y)
{
    double ticks[MAX_TICKS];
    int n = y->logarithmic ? logarithmic_ticks(y, ticks) : linear_ticks(y, ticks);
    for (int i = 0; i < n; i++)
        fprintf(out,
                "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n",
                LEFT, place(y, ticks[i]), RIGHT, place(y, ticks[i]), LEFT - 8,
                place(y, ticks[i]) + 4, ticks[i]);
    n = linear_ticks(x, ticks);
    for (int i = 0; i < n; i++)
        if (ticks[i] == floor(ticks[i])) /* there is no half step */
            fprintf(out,
                    "<line class=\"axis\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>"
                    "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n",
                    place(x, ticks[i]), BOTTOM, place(x, ticks[i]), BOTTOM + 5,
                    place(x, ticks[i]), BOTTOM + 20, ticks[i]);
    fprintf(out,
            "<path class=\"axis\" d=\"M%d %d V%d H%d\"/>\n"
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n"
            "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">"
            "loss (nats per token)</text>\n",
            LEFT, TOP, BOTTOM, RIGHT, (LEFT + RIGHT) / 2, BOTTOM + 44,
            (TOP + BOTTOM) / 2);
}

/* The training loss; `stride` records at a time are shown as their mean. */
static void write_line(FILE *out, const struct metrics_series *s, int64_t stride,
                       const struct axis *x, const struct axis *y)
{
    double sum = 0, step = 0;
    int64_t n = 0;
    bool pen_down = false;
    fputs("<path class=\"train\" d=\"", out);
    for (int64_t i = 0; i <= s->n; i++) {
        const bool end = i == s->n;
        if (!end && s->points[i].validation) continue;
        const bool gap = end || !drawable(s->points[i].loss);
        if (!gap) {
            sum += s->points[i].loss;
            step = (double)s->points[i].step;
            n++;
        }
        if (n > 0 && (n == stride || gap)) {
            /* the second coordinate makes a point of a lone record: round line caps */
            fprintf(out, "%c%.1f %.1f", pen_down ? 'L' : 'M', place(x, step),
                    place_loss(y, sum / (double)n));
            if (!pen_down) fputs("h0", out);
            pen_down = true;
            sum = 0;
            n = 0;
        }
        if (gap) pen_down = false;
    }
    fputs("\"/>\n", out);
}

static void write_points(FILE *out, const struct metrics_series *s, int64_t stride,
                         const struct axis *x, const struct axis *y)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const struct metrics_point *p = &s->points[i];
        if (!p->validation || !drawable(p->loss) || n++ % stride != 0) continue;
        fprintf(out,
                "<circle class=\"validation\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\">"
                "<title>step %lld: %.4f</title></circle>\n",
                place(x, (double)p->step), place_loss(y, p->loss), (long long)p->step,
                p->loss);
    }
}

/* The last part of the path, as the run calls itself. */
static void write_title(FILE *out, const char *run_dir)
{
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s", run_dir);
    for (size_t n = strlen(name); n > 1 && name[n - 1] == '/'; n--) name[n - 1] = '\0';
    const char *slash = strrchr(name, '/');
    fprintf(out, "<text class=\"title\" x=\"%d\" y=\"28\">", LEFT);
    text_escaped(out, slash && slash[1] ? slash + 1 : name);
    fputs("</text>\n", out);
}

static void write_legend(FILE *out)
{
    fprintf(out,
            "<path class=\"train\" d=\"M%d 24 h24\"/><text x=\"%d\" "
            "y=\"28\">training</text>\n"
            "<circle class=\"validation\" cx=\"%d\" cy=\"24\" r=\"4\"/>"
            "<text x=\"%d\" y=\"28\">validation</text>\n",
            RIGHT - 210, RIGHT - 178, RIGHT - 88, RIGHT - 76);
}

static void write_picture(FILE *out, const char *run_dir, const struct metrics_series *s)
{
    const struct axis x = step_axis(s), y = loss_axis(s);
    const int64_t stride = 1 + (s->n - 1) / MAX_LINE_POINTS;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\""
            " height=\"%d\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n"
            "<style>\n"
            "rect { fill: #ffffff } text { fill: #333333 }\n"
            ".title { font-size: 17px; font-weight: 600 }\n"
            ".axis { stroke: #555555; fill: none } .grid { stroke: #dddddd }\n"
            ".train { stroke: #1f6fb4; stroke-width: 1.8; fill: none;"
            " stroke-linecap: round; stroke-linejoin: round }\n"
            ".validation { fill: #d9541e }\n"
            "@media (prefers-color-scheme: dark) {\n"
            "rect { fill: #16181d } text { fill: #d6d6d6 }\n"
            ".axis { stroke: #aaaaaa } .grid { stroke: #33373f }\n"
            ".train { stroke: #64b0f2 } .validation { fill: #ff9a66 }\n"
            "}\n</style>\n"
            "<rect width=\"%d\" height=\"%d\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    write_title(out, run_dir);
    write_legend(out);
    write_frame(out, &x, &y);
    write_line(out, s, stride, &x, &y);
    write_points(out, s, stride, &x, &y);
    fputs("</svg>\n", out);
}

status_t plot_loss(const char *run_dir)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t bytes = 0;
    struct metrics_series series;
    TRY(metrics_read(&series, run_dir));
    file_join(path, sizeof path, run_dir, "loss.svg");

    status_t st = STATUS_OK;
    FILE *out = open_memstream(&text, &bytes);
    if (out) write_picture(out, run_dir, &series);
    if (!out || fclose(out) != 0)
        st = status_set(STATUS_NOMEM, "%s: no memory for the picture", path);
    if (st == STATUS_OK) st = file_replace(path, text, bytes);
    free(text);
    metrics_series_release(&series);
    return st;
}
