/* The loss curve: a well-formed picture of every series of records, also of odd ones. */
#include "harness/harness.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "core/file.h"
#include "train/metrics.h"
#include "train/plot.h"

static char *run_folder(const char *name)
{
    char *path = test_alloc(PATH_MAX);
    file_join(path, PATH_MAX, test_folder(), name);
    ASSERT_OK(file_make_dirs(path));
    return path;
}

/* Write `lines` as the run's metrics and return its picture. */
static char *picture(const char *run, const char *lines)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t bytes = 0;
    file_join(path, sizeof path, run, "metrics.jsonl");
    ASSERT_OK(file_replace(path, lines, strlen(lines)));
    ASSERT_OK(plot_loss(run));
    file_join(path, sizeof path, run, "loss.svg");
    ASSERT_OK(file_read(path, 8 << 20, &text, &bytes));
    char *copy = test_alloc(bytes + 1);
    memcpy(copy, text, bytes);
    free(text);
    return copy;
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *p = strstr(text, word); p; p = strstr(p + 1, word)) n++;
    return n;
}

/* Every element is closed in order, attributes are quoted, and no number is missing. */
static void check_well_formed(const char *svg)
{
    char open[16][32];
    int depth = 0;
    assert_int_equal(strncmp(svg, "<svg ", 5), 0);
    for (const char *p = strchr(svg, '<'); p; p = strchr(p, '<')) {
        const char *end = strchr(p, '>');
        assert_non_null(end);
        const bool closing = p[1] == '/';
        const char *name = p + 1 + closing;
        size_t n = 0;
        while (isalpha((unsigned char)name[n])) n++;
        assert_true(n > 0 && n < sizeof open[0]);
        int quotes = 0;
        for (const char *q = p; q < end; q++) quotes += *q == '"';
        assert_int_equal(quotes % 2, 0);
        if (closing) {
            assert_true(depth > 0);
            depth--;
            assert_int_equal(strncmp(open[depth], name, n), 0);
            assert_int_equal(open[depth][n], '\0');
        } else if (end[-1] != '/') {
            assert_true(depth < 16);
            memcpy(open[depth], name, n);
            open[depth++][n] = '\0';
        }
        p = end;
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(svg, "nan"));
    assert_null(strstr(svg, "inf"));
}

/* The training line's commands, between the quotes. */
static char *line_path(const char *svg)
{
    const char *start =
        strstr(strstr(svg, "</style>"), "loss (nats"); /* behind the legend */
    assert_non_null(start);
    start = strstr(start, "<path class=\"train\" d=\"");
    assert_non_null(start);
    start += strlen("<path class=\"train\" d=\"");
    const size_t n = strcspn(start, "\"");
    char *copy = test_alloc(n + 1);
    memcpy(copy, start, n);
    return copy;
}

static void line_of(char *out, size_t size, const char *kind, int step, double loss)
{
    const size_t n = strlen(out);
    snprintf(out + n, size - n, "{\"kind\":\"%s\",\"step\":%d,\"loss\":%.17g}\n", kind,
             step, loss);
}

TEST(records_become_a_line_and_points)
{
    char *run = run_folder("my run <1>&");
    char lines[4096] = "";
    for (int i = 1; i <= 10; i++)
        line_of(lines, sizeof lines, "train", 10 * i, 9 - 0.5 * i);
    line_of(lines, sizeof lines, "eval", 50, 6.6);
    line_of(lines, sizeof lines, "eval", 100, 4.1);
    char *svg = picture(run, lines);
    check_well_formed(svg);
    char *path = line_path(svg);
    assert_int_equal(count(path, "M"), 1);
    assert_int_equal(count(path, "L"), 9);
    assert_non_null(strstr(svg, "<title>step 50: 6.6000</title>"));
    assert_non_null(strstr(svg, "<title>step 100: 4.1000</title>"));
    assert_non_null(strstr(svg, ">my run &#60;1&#62;&#38;</text>"));
    assert_non_null(strstr(svg, "prefers-color-scheme: dark"));
}

/* Loss falls from 8 to 4 linearly: the line's ends are where the axes put them, 5 % inside. */
TEST(points_lie_where_the_axes_say)
{
    char *run = run_folder("place");
    char lines[1024] = "";
    line_of(lines, sizeof lines, "train", 1, 8);
    line_of(lines, sizeof lines, "train", 100, 4);
    char *path = line_path(picture(run, lines));
    double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
    assert_int_equal(sscanf(path, "M%lf %lfh0L%lf %lf", &x0, &y0, &x1, &y1), 4);
    assert_true(fabs(x0 - (70 + 710 * 0.01)) < 0.11);
    assert_true(fabs(x1 - 780) < 0.11);
    assert_true(fabs(y0 - (400 - 344 * (4.2 / 4.4))) < 0.11);
    assert_true(fabs(y1 - (400 - 344 * (0.2 / 4.4))) < 0.11);
}

TEST(ticks_are_round)
{
    char *run = run_folder("ticks");
    char lines[1024] = "";
    line_of(lines, sizeof lines, "train", 10, 9.3);
    line_of(lines, sizeof lines, "train", 600, 3.7);
    char *svg = picture(run, lines);
    static const char *const want[] = {">4<", ">5<", ">9<", ">0<", ">100<", ">600<"};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_non_null(strstr(svg, want[i]));
    assert_null(strstr(svg, ">3.5<"));
}

TEST(a_wide_range_of_losses_is_drawn_logarithmically)
{
    char *run = run_folder("log");
    char lines[1024] = "";
    line_of(lines, sizeof lines, "train", 1, 9);
    line_of(lines, sizeof lines, "train", 2, 0.3);
    line_of(lines, sizeof lines, "train", 3, 0.01);
    char *svg = picture(run, lines);
    check_well_formed(svg);
    double y[3] = {0}, x[3];
    assert_int_equal(sscanf(line_path(svg), "M%lf %lfh0L%lf %lfL%lf %lf", &x[0], &y[0],
                            &x[1], &y[1], &x[2], &y[2]),
                     6);
    assert_true(fabs((y[1] - y[0]) - (y[2] - y[1])) < 0.3); /* equal factors of 30 */
    static const char *const want[] = {">0.01<", ">0.1<", ">1<", ">5<"};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_non_null(strstr(svg, want[i]));
}

TEST(values_that_are_not_finite_interrupt_the_line)
{
    char *run = run_folder("gap");
    char lines[1024] = "";
    line_of(lines, sizeof lines, "train", 1, 5);
    line_of(lines, sizeof lines, "train", 2, 4);
    strcat(lines, "{\"kind\":\"train\",\"step\":3,\"loss\":null}\n");
    strcat(lines, "{\"kind\":\"eval\",\"step\":3,\"loss\":null}\n");
    line_of(lines, sizeof lines, "train", 4, 3);
    char *svg = picture(run, lines);
    check_well_formed(svg);
    char *path = line_path(svg);
    assert_int_equal(count(path, "M"), 2);
    assert_int_equal(count(path, "L"), 1);
    assert_null(strstr(svg, "<title>"));
}

TEST(odd_series_make_well_formed_pictures)
{
    static const char *const series[] = {
        "",
        "{\"kind\":\"train\",\"step\":1,\"loss\":5}\n",
        "{\"kind\":\"eval\",\"step\":0,\"loss\":5}\n",
        "{\"kind\":\"train\",\"step\":1,\"loss\":0}\n",
        "{\"kind\":\"train\",\"step\":1,\"loss\":null}\n",
        "{\"kind\":\"train\",\"step\":1,\"loss\":1e300}\n"
        "{\"kind\":\"train\",\"step\":2,\"loss\":0}\n",
        "{\"kind\":\"train\",\"step\":1,\"loss\":-1e308}\n"
        "{\"kind\":\"train\",\"step\":2,\"loss\":1e308}\n",
        "{\"kind\":\"train\",\"step\":-5,\"loss\":4}\n"
        "{\"kind\":\"train\",\"step\":9223372036854775807,\"loss\":4.0000001}\n",
        "not json\n{\"kind\":\"train\",\"step\":1}\n",
    };
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++)
        check_well_formed(picture(run_folder("odd"), series[i]));
}

TEST(a_long_run_makes_a_small_picture)
{
    enum { N = 50000, BYTES = N * 64 };
    char *lines = test_alloc(BYTES);
    size_t n = 0;
    for (int i = 1; i <= N; i++)
        n += (size_t)snprintf(lines + n, BYTES - n,
                              "{\"kind\":\"train\",\"step\":%d,\"loss\":%g}\n", i,
                              2 + 1.0 / i);
    char *svg = picture(run_folder("long"), lines);
    check_well_formed(svg);
    assert_true(strlen(svg) < 60000);
}

TEST(a_run_without_records_file_is_refused_by_name)
{
    ASSERT_REFUSED(plot_loss(run_folder("no-file")), STATUS_IO, "no-file/metrics.jsonl");
}
