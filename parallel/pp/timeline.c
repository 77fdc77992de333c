#include "parallel/pp/timeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

static const char letters[PP_OPS] = {
    [PP_FORWARD] = 'F', [PP_BACKWARD] = 'B', [PP_WEIGHTS] = 'W'};

/* ---- text ------------------------------------------------------------------------------------ */

/* "F3" or, with several chunks, "F3b": chunk b is the second. */
static int label(char *text, size_t bytes, const struct pp_schedule *s,
                 const struct pp_instruction *x)
{
    if (s->n_chunks == 1) return snprintf(text, bytes, "%c%d", letters[x->op], x->micro);
    return snprintf(text, bytes, "%c%d%c", letters[x->op], x->micro, 'a' + x->chunk);
}

static void draw(char *row, size_t width, const struct pp_schedule *s,
                 const struct pp_instruction *x, const struct pp_times *t, double cell)
{
    char text[32];
    const size_t from = (size_t)llround(t->begin / cell);
    size_t to = (size_t)llround(t->end / cell);
    if (to > width) to = width;
    const size_t n = (size_t)label(text, sizeof text, s, x);
    for (size_t i = from; i < to; i++) row[i] = i - from < n ? text[i - from] : '-';
}

void pp_timeline_text(FILE *out, const struct pp_schedule *s,
                      const struct pp_simulation *sim, double cell)
{
    const size_t width = (size_t)llround(sim->makespan / cell);
    char *row = malloc(width + 1);
    if (!row) die("no memory for a row of a timeline");
    for (int stage = 0; stage < s->n_stages; stage++) {
        memset(row, '.', width);
        row[width] = '\0';
        for (int i = 0; i < s->stages[stage].n; i++)
            draw(row, width, s, &s->stages[stage].items[i], &sim->times[stage][i], cell);
        fprintf(out, "stage %-2d %s\n", stage, row);
    }
    free(row);
    fprintf(out,
            "\n%s, %d stages, %d micro-batches%s: F forward, B backward, %s. idle\n"
            "idle: %.1f %% of the stages' time; most micro-batches held:",
            pp_kind_name(s->kind), s->n_stages, s->n_micro,
            s->n_chunks > 1 ? ", chunks a, b, ..." : "",
            s->kind == PP_ZERO_BUBBLE ? "W gradients of weights, " : "",
            100 * sim->bubble);
    for (int stage = 0; stage < s->n_stages; stage++)
        fprintf(out, " %d", sim->most_alive[stage]);
    fprintf(out, "\n");
}

/* ---- SVG ------------------------------------------------------------------------------------- */

enum { LEFT = 70, TOP = 40, ROW = 34, BAR = 26, WIDTH = 1100, RIGHT = 20, BOTTOM = 56 };

/* Darker for later chunks. */
static void colour(char *text, size_t bytes, const struct pp_schedule *s, enum pp_op op,
                   int chunk)
{
    static const int hue[PP_OPS] = {
        [PP_FORWARD] = 210, [PP_BACKWARD] = 28, [PP_WEIGHTS] = 130};
    const int light = s->n_chunks > 1 ? 76 - 30 * chunk / (s->n_chunks - 1) : 70;
    snprintf(text, bytes, "hsl(%d,70%%,%d%%)", hue[op], light);
}

static void bar(FILE *out, const struct pp_schedule *s, const struct pp_simulation *sim,
                int stage, int i)
{
    const struct pp_instruction *x = &s->stages[stage].items[i];
    const struct pp_times *t = &sim->times[stage][i];
    const double scale = (double)(WIDTH - LEFT - RIGHT) / sim->makespan;
    const double left = LEFT + t->begin * scale, width = (t->end - t->begin) * scale;
    char fill[48];
    colour(fill, sizeof fill, s, x->op, x->chunk);
    fprintf(
        out,
        "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\" "
        "stroke=\"#fff\" stroke-width=\"0.5\"><title>%c micro-batch %d, chunk %d: %.3g "
        "to %.3g</title></rect>\n",
        left, TOP + stage * ROW, width, BAR, fill, letters[x->op], x->micro, x->chunk,
        t->begin, t->end);
    if (width >= 9)
        fprintf(out, "<text x=\"%.2f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n",
                left + width / 2, TOP + stage * ROW + BAR - 9, x->micro);
}

static void legend(FILE *out, const struct pp_schedule *s, int y)
{
    static const char *const what[PP_OPS] = {
        [PP_FORWARD] = "forward", [PP_BACKWARD] = "backward", [PP_WEIGHTS] = "weights"};
    const int ops = s->kind == PP_ZERO_BUBBLE ? PP_OPS : PP_OPS - 1;
    int x = LEFT;
    for (int op = 0; op < ops; op++)
        for (int chunk = 0; chunk < s->n_chunks; chunk++) {
            char fill[48], of[24] = "";
            colour(fill, sizeof fill, s, (enum pp_op)op, chunk);
            if (s->n_chunks > 1) snprintf(of, sizeof of, " of chunk %d", chunk);
            fprintf(out,
                    "<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"14\" fill=\"%s\"/>"
                    "<text x=\"%d\" y=\"%d\">%s%s</text>\n",
                    x, y, fill, x + 20, y + 11, what[op], of);
            x += s->n_chunks > 1 ? 150 : 110;
        }
}

void pp_timeline_svg(FILE *out, const struct pp_schedule *s,
                     const struct pp_simulation *sim)
{
    const int height = TOP + s->n_stages * ROW + BOTTOM;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "font-family=\"sans-serif\" font-size=\"11\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
            "<text x=\"%d\" y=\"22\" font-size=\"14\">%s: %d stages, %d chunk%s, %d "
            "micro-batches; idle %.1f %%</text>\n",
            WIDTH, height, LEFT, pp_kind_name(s->kind), s->n_stages, s->n_chunks,
            s->n_chunks == 1 ? "" : "s", s->n_micro, 100 * sim->bubble);
    for (int stage = 0; stage < s->n_stages; stage++) {
        fprintf(out,
                "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#eee\"/>"
                "<text x=\"8\" y=\"%d\">stage %d</text>\n",
                LEFT, TOP + stage * ROW, WIDTH - LEFT - RIGHT, BAR,
                TOP + stage * ROW + BAR - 9, stage);
        for (int i = 0; i < s->stages[stage].n; i++) bar(out, s, sim, stage, i);
    }
    legend(out, s, TOP + s->n_stages * ROW + 14);
    fprintf(out, "</svg>\n");
}
