/* Any bytes as a configuration: refused with one line, or accepted with a dump that reads back
 * to itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "fuzz.h"

/* A first line that begins with '=' is an override, to reach that reader too. */
static const char *split_override(char *text, const char **config)
{
    *config = text;
    if (text[0] != '=') return NULL;
    char *end = strchr(text, '\n');
    if (!end) return NULL;
    *end = '\0';
    *config = end + 1;
    return text + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin();
    struct config c, back;
    char *copy = calloc(size + 1, 1), *first = NULL, *second = NULL;
    if (!copy) return 0;
    memcpy(copy, data, size);
    const char *text;
    const char *override = split_override(copy, &text);
    const size_t bytes = size - (size_t)(text - copy);
    const status_t st =
        config_parse(&c, "fuzz.yaml", text, bytes, &override, override ? 1 : 0);
    if (st != STATUS_OK) {
        fuzz_check_refusal();
        free(copy);
        return 0;
    }
    CHECK(config_dump(&c, &first) == STATUS_OK);
    if (config_parse(&back, "dump", first, strlen(first), NULL, 0) != STATUS_OK)
        die("the dump is refused: %s", status_message());
    CHECK(config_dump(&back, &second) == STATUS_OK);
    CHECK(strcmp(first, second) == 0);
    config_release(&c);
    config_release(&back);
    free(first);
    free(second);
    free(copy);
    return 0;
}
