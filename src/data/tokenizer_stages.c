#include "data/tokenizer_impl.h"

#include <string.h>
#include <jansson.h>

static status_t add_stage(struct tokenizer *t, const char *file, const char *pattern,
                          bool is_literal, bool drops_gaps)
{
    if (t->n_stages == MAX_STAGES)
        return parse_refuse(file, "pre_tokenizer has more than %d stages", MAX_STAGES);
    TRY(stage_compile(&t->stages[t->n_stages], file, pattern, is_literal));
    t->stages[t->n_stages++].drops_gaps = drops_gaps;
    return STATUS_OK;
}

static status_t read_byte_level(struct tokenizer *t, const char *file, const json_t *x)
{
    if (json_is_true(json_object_get(x, "add_prefix_space")))
        return parse_refuse(file, "pre_tokenizer ByteLevel.add_prefix_space is not "
                                  "implemented, valid: false");
    if (json_is_false(json_object_get(x, "use_regex"))) return STATUS_OK;
    return add_stage(t, file, pattern_gpt2, false, false);
}

static status_t read_split(struct tokenizer *t, const char *file, const json_t *x)
{
    const json_t *pattern = json_object_get(x, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    if (!regex == !literal)
        return parse_refuse(file,
                            "pre_tokenizer Split.pattern is neither {\"Regex\": …} nor "
                            "{\"String\": …}");
    const char *behavior = json_string_value(json_object_get(x, "behavior"));
    const bool invert = json_is_true(json_object_get(x, "invert"));
    const bool isolated = behavior && strcmp(behavior, "Isolated") == 0;
    const bool removed = behavior && strcmp(behavior, "Removed") == 0;
    if (!isolated && !(removed && invert))
        return parse_refuse(
            file,
            "pre_tokenizer Split.behavior \"%.60s\"%s is not implemented, "
            "valid: \"Isolated\", or \"Removed\" with invert",
            behavior ? behavior : "?", invert ? " with invert" : "");
    return add_stage(t, file, regex ? regex : literal, !regex, removed);
}

static status_t read_digits(struct tokenizer *t, const char *file, const json_t *x)
{
    const bool each = json_is_true(json_object_get(x, "individual_digits"));
    return add_stage(t, file, each ? "\\p{N}" : "\\p{N}+", false, false);
}

/* One pre-tokenizer that is not a Sequence; *is_last if text becomes bytes in it. */
static status_t read_one(struct tokenizer *t, const char *file, const json_t *x,
                         bool *is_last)
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

status_t parse_stages(struct tokenizer *t, const char *file, const json_t *x)
{
    const char *type = json_string_value(json_object_get(x, "type"));
    bool is_last = false;
    if (type && strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(x, "pretokenizers");
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
