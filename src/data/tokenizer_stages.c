#include "data/tokenizer_impl.h"

#include <string.h>
#include <jansson.h>

/* Room for one more stage; NULL and a refusal when there are too many. */
static struct stage *next_stage(struct tokenizer *t, const char *file)
{
    if (t->n_stages < MAX_STAGES) return &t->stages[t->n_stages++];
    (void)parse_refuse(file, "pre_tokenizer has more than %d stages", MAX_STAGES);
    return NULL;
}

static status_t read_byte_level(struct tokenizer *t, const char *file, json_t *x)
{
    static const char *const known[] = {"type", "add_prefix_space", "trim_offsets",
                                        "use_regex", NULL};
    static const char section[] = "pre_tokenizer ByteLevel.";
    bool adds_space, trims, use_regex = true;
    TRY(parse_known_keys(file, section, x, known));
    TRY(parse_flag(file, section, x, "add_prefix_space", &adds_space));
    TRY(parse_flag(file, section, x, "trim_offsets",
                   &trims)); /* of offsets, not of ids */
    if (json_object_get(x, "use_regex"))
        TRY(parse_flag(file, section, x, "use_regex", &use_regex));
    if (adds_space) {
        struct stage *s = next_stage(t, file);
        if (!s) return STATUS_DATA;
        *s = (struct stage){.kind = STAGE_SPACE, .cut = STAGE_CUT_KEEPS};
    }
    if (!use_regex) return STATUS_OK;
    struct stage *s = next_stage(t, file);
    return s ? stage_compile(s, file, pattern_gpt2, false) : STATUS_DATA;
}

static status_t read_behavior(const char *file, const json_t *x, struct stage *s)
{
    static const struct name {
        const char *name;
        enum stage_behavior behavior;
    } names[] = {{"Isolated", STAGE_ISOLATED},
                 {"Removed", STAGE_REMOVED},
                 {"Contiguous", STAGE_CONTIGUOUS},
                 {"MergedWithPrevious", STAGE_MERGED_WITH_PREVIOUS},
                 {"MergedWithNext", STAGE_MERGED_WITH_NEXT}};
    const char *behavior = json_string_value(json_object_get(x, "behavior"));
    for (size_t i = 0; behavior && i < sizeof names / sizeof *names; i++) {
        if (strcmp(behavior, names[i].name) != 0) continue;
        s->behavior = names[i].behavior;
        return STATUS_OK;
    }
    return parse_refuse(file,
                        "pre_tokenizer Split.behavior \"%.60s\" is not implemented, "
                        "valid: Isolated, Removed, Contiguous, MergedWithPrevious, "
                        "MergedWithNext",
                        behavior ? behavior : "?");
}

static status_t read_split(struct tokenizer *t, const char *file, json_t *x)
{
    static const char *const known[] = {"type", "pattern", "behavior", "invert", NULL};
    static const char section[] = "pre_tokenizer Split.";
    TRY(parse_known_keys(file, section, x, known));
    const json_t *pattern = json_object_get(x, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    if (!regex == !literal)
        return parse_refuse(file,
                            "pre_tokenizer Split.pattern is neither {\"Regex\": …} nor "
                            "{\"String\": …}");
    struct stage *s = next_stage(t, file);
    if (!s) return STATUS_DATA;
    TRY(stage_compile(s, file, regex ? regex : literal, !regex));
    TRY(read_behavior(file, x, s));
    TRY(parse_flag(file, section, x, "invert", &s->invert));
    /* a cut is proved for pieces that are the matches, and for nothing that joins them */
    const bool keeps_matches =
        s->behavior == STAGE_ISOLATED || (s->behavior == STAGE_REMOVED && s->invert);
    if (!keeps_matches) s->cut = STAGE_CUT_UNKNOWN;
    return STATUS_OK;
}

static status_t read_digits(struct tokenizer *t, const char *file, json_t *x)
{
    static const char *const known[] = {"type", "individual_digits", NULL};
    static const char section[] = "pre_tokenizer Digits.";
    bool each;
    TRY(parse_known_keys(file, section, x, known));
    TRY(parse_flag(file, section, x, "individual_digits", &each));
    struct stage *s = next_stage(t, file);
    if (!s) return STATUS_DATA;
    *s = (struct stage){
        .kind = STAGE_DIGITS, .max_digits = each ? 1 : INT64_MAX, .cut = STAGE_CUT_KEEPS};
    return STATUS_OK;
}

/* One pre-tokenizer that is not a Sequence; *is_last if text becomes bytes in it. */
static status_t read_one(struct tokenizer *t, const char *file, json_t *x, bool *is_last)
{
    const char *type = json_string_value(json_object_get(x, "type"));
    if (!type) return parse_refuse(file, "pre_tokenizer has no type");
    *is_last = strcmp(type, "ByteLevel") == 0;
    if (*is_last) return read_byte_level(t, file, x);
    if (strcmp(type, "Split") == 0) return read_split(t, file, x);
    if (strcmp(type, "Digits") == 0) return read_digits(t, file, x);
    return parse_refuse(file,
                        "pre_tokenizer \"%.60s\" is not implemented, valid: ByteLevel, "
                        "Split, Digits, or one Sequence of them",
                        type);
}

status_t parse_stages(struct tokenizer *t, const char *file, json_t *x)
{
    static const char *const known[] = {"type", "pretokenizers", NULL};
    const char *type = json_string_value(json_object_get(x, "type"));
    bool is_last = false;
    if (type && strcmp(type, "Sequence") == 0) {
        TRY(parse_known_keys(file, "pre_tokenizer Sequence.", x, known));
        json_t *list = json_object_get(x, "pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++) {
            if (is_last)
                return parse_refuse(file,
                                    "pre_tokenizer: ByteLevel is not the last of the "
                                    "Sequence");
            TRY(read_one(t, file, json_array_get(list, i), &is_last));
        }
    } else {
        TRY(read_one(t, file, x, &is_last));
    }
    if (!is_last)
        return parse_refuse(file,
                            "pre_tokenizer lacks a ByteLevel: only byte-level BPE is "
                            "implemented");
    return STATUS_OK;
}
