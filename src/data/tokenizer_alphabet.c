#include "data/tokenizer_impl.h"

#include <string.h>

static bool is_printable(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
           byte >= 0xAE;
}

/* The 68 bytes that are not printable: 0-32, 127-160, 173. */
uint32_t alphabet_char(unsigned byte)
{
    if (is_printable(byte)) return byte;
    if (byte <= 0x20) return 0x100 + byte;
    if (byte <= 0xA0) return 0x100 + 33 + (byte - 0x7F);
    return 0x143;
}

static int byte_of_char(uint32_t c)
{
    if (c < 0x100) return is_printable(c) ? (int)c : -1;
    const uint32_t i = c - 0x100;
    if (i <= 0x20) return (int)i;
    if (i < 67) return (int)(0x7F + (i - 33));
    return i == 67 ? 0xAD : -1;
}

size_t alphabet_write(char *name, const char *bytes, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t c = alphabet_char((unsigned char)bytes[i]);
        if (c >= 0x80) {
            name[at++] = (char)(0xC0 | c >> 6);
            name[at++] = (char)(0x80 | (c & 0x3F));
        } else {
            name[at++] = (char)c;
        }
    }
    return at;
}

int64_t alphabet_read(char *bytes, const char *name, size_t n)
{
    int64_t n_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = (unsigned char)name[i];
        if (c >= 0x80) { /* only two-byte characters are in the alphabet */
            if (c < 0xC2 || c > 0xC5 || i + 1 == n) return -1;
            c = (c & 0x1F) << 6 | ((unsigned char)name[++i] & 0x3F);
        }
        const int byte = byte_of_char(c);
        if (byte < 0) return -1;
        bytes[n_bytes++] = (char)byte;
    }
    return n_bytes;
}

size_t utf8_sequence(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned lowest = 0x80, highest = 0xBF; /* of the second byte */
    size_t length;
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        length = 2;
    } else if (s[0] >= 0xE0 && s[0] <= 0xEF) {
        length = 3;
        if (s[0] == 0xE0) lowest = 0xA0;  /* shorter forms exist */
        if (s[0] == 0xED) highest = 0x9F; /* surrogates */
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        length = 4;
        if (s[0] == 0xF0) lowest = 0x90;
        if (s[0] == 0xF4) highest = 0x8F; /* beyond U+10FFFF */
    } else {
        return 0;
    }
    if (n < length || s[1] < lowest || s[1] > highest) return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return length;
}

size_t utf8_prefix(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < bytes) {
        uint64_t eight;
        if (bytes - i >= sizeof eight) {
            memcpy(&eight, s + i, sizeof eight);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                i += sizeof eight;
                continue;
            }
        }
        if (s[i] < 0x80) {
            i++;
            continue;
        }
        const size_t n = utf8_sequence(text + i, bytes - i);
        if (n == 0) break;
        i += n;
    }
    return i;
}
