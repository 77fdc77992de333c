/* The sentence of a failure is one line, whatever a file put into it. */
#include "harness/harness.h"

TEST(a_sentence_is_one_line)
{
    assert_int_equal(
        status_set(STATUS_IO, "tensor %s: %s", "a\n\033[2Jb", "\x7f\xc3\xa9"), STATUS_IO);
    assert_string_equal(status_message(), "tensor a??[2Jb: ?\xc3\xa9");
    assert_int_equal(status_prefix(STATUS_IO, "file%s", "\r"), STATUS_IO);
    assert_string_equal(status_message(), "file?: tensor a??[2Jb: ?\xc3\xa9");
}
