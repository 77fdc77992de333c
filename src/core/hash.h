/* hash - xxh3-64 for integrity, SHA-256 for identity. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

uint64_t hash_xxh3(const void *data, size_t bytes);

struct hash_stream;                           /* xxh3-64 of pieces in order */
struct hash_stream *hash_stream_create(void); /* dies when out of memory */
void hash_stream_update(struct hash_stream *h, const void *data, size_t bytes);
uint64_t hash_stream_finish(struct hash_stream **h); /* the hash; destroys and nulls */

enum { HASH_SHA256_HEX = 65 }; /* 64 hex digits and the final zero */

/* Lower-case hex SHA-256 of a block of memory, or of a whole file.  STATUS_IO. */
void hash_sha256(const void *data, size_t bytes, char hex[HASH_SHA256_HEX]);
MUST_USE status_t hash_sha256_file(const char *path, char hex[HASH_SHA256_HEX]);

struct hash_sha256_stream; /* SHA-256 of pieces in order */
struct hash_sha256_stream *hash_sha256_stream_create(void); /* dies when out of memory */
void hash_sha256_stream_update(struct hash_sha256_stream *h, const void *data,
                               size_t bytes);
/* The digest of what went in; destroys and nulls.  `hex` may be NULL. */
void hash_sha256_stream_finish(struct hash_sha256_stream **h, char hex[HASH_SHA256_HEX]);
