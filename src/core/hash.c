#include "core/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/log.h"

uint64_t hash_xxh3(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}

struct hash_stream *hash_stream_create(void)
{
    XXH3_state_t *s = XXH3_createState();
    if (!s) die("out of memory for a hash state");
    XXH3_64bits_reset(s);
    return (struct hash_stream *)s;
}

void hash_stream_update(struct hash_stream *h, const void *data, size_t bytes)
{
    XXH3_64bits_update((XXH3_state_t *)h, data, bytes);
}

uint64_t hash_stream_finish(struct hash_stream **h)
{
    const uint64_t value = XXH3_64bits_digest((XXH3_state_t *)*h);
    XXH3_freeState((XXH3_state_t *)*h);
    *h = NULL;
    return value;
}

static void to_hex(const unsigned char *digest, char hex[HASH_SHA256_HEX])
{
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void hash_sha256(const void *data, size_t bytes, char hex[HASH_SHA256_HEX])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!EVP_Digest(data, bytes, digest, &n, EVP_sha256(), NULL)) die("SHA-256 failed");
    to_hex(digest, hex);
}

status_t hash_sha256_file(const char *path, char hex[HASH_SHA256_HEX])
{
    FILE *f = fopen(path, "rb");
    if (!f) return status_set(STATUS_IO, "%s: %s", path, strerror(errno));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL)) die("SHA-256 failed");
    static const size_t chunk = 1 << 16;
    unsigned char buffer[1 << 16], digest[EVP_MAX_MD_SIZE];
    size_t n;
    while ((n = fread(buffer, 1, chunk, f)) > 0)
        if (!EVP_DigestUpdate(ctx, buffer, n)) die("SHA-256 failed");
    const int failed = ferror(f);
    const int code = errno;
    fclose(f);
    if (!EVP_DigestFinal_ex(ctx, digest, NULL)) die("SHA-256 failed");
    EVP_MD_CTX_free(ctx);
    if (failed) return status_set(STATUS_IO, "%s: %s", path, strerror(code));
    to_hex(digest, hex);
    return STATUS_OK;
}

struct hash_sha256_stream *hash_sha256_stream_create(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL)) die("SHA-256 failed");
    return (struct hash_sha256_stream *)ctx;
}

void hash_sha256_stream_update(struct hash_sha256_stream *h, const void *data,
                               size_t bytes)
{
    if (!EVP_DigestUpdate((EVP_MD_CTX *)h, data, bytes)) die("SHA-256 failed");
}

void hash_sha256_stream_finish(struct hash_sha256_stream **h, char hex[HASH_SHA256_HEX])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (!EVP_DigestFinal_ex((EVP_MD_CTX *)*h, digest, NULL)) die("SHA-256 failed");
    if (hex) to_hex(digest, hex);
    EVP_MD_CTX_free((EVP_MD_CTX *)*h);
    *h = NULL;
}
