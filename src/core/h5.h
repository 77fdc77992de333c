/* h5 - HDF5 files that tell when they have been damaged.
 *
 * libhdf5 trusts the bytes it reads: a flipped bit in its metadata can crash it or yield wrong
 * numbers.  So every file we write is sealed: its 512-byte user block (a region HDF5 leaves to
 * the application) holds one line of text,
 *
 *   yoke-seal 1 KIND size=BYTES regions=OFFSET+BYTES,... xxh3=HEX\n
 *
 * padded with zero bytes.  The hash covers KIND, size, regions and every byte behind the user
 * block that lies in no region.  Regions are the large raw datasets, which are hashed piece by
 * piece by whoever reads them.  h5_open checks the seal before libhdf5 sees the file; h5py,
 * h5dump and friends open a sealed file like any other.
 *
 * All calls must come from one thread at a time.  Handles are libhdf5's own (hid_t). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hdf5.h>

#include "core/status.h"

enum { H5_MAX_REGIONS = 8, H5_BLOCK_BYTES = 512 };

struct h5_region {
    uint64_t offset, bytes; /* from the start of the file */
};

struct h5_seal_info {
    uint64_t bytes; /* size of the file */
    int n_regions;  /* ascending; empty ones are not kept */
    struct h5_region regions[H5_MAX_REGIONS];
    uint64_t xxh3;
};

/* Set up libhdf5 for this process: its own error printing is silenced, file locking is off
 * unless the user set HDF5_USE_FILE_LOCKING.  Called by the functions below. */
void h5_init(void);

/* Make PATH.tmp for writing, with room for the seal.  STATUS_IO.  The caller closes *file with
 * H5Fclose and then calls h5_seal and file_commit. */
MUST_USE status_t h5_create(const char *path, hid_t *file);

/* Write the seal into PATH.tmp, which must be closed.  Reads all bytes outside the regions,
 * which ascend and do not overlap.  KIND is one word of lower-case letters.  STATUS_IO. */
MUST_USE status_t h5_seal(const char *path, const char *kind,
                          const struct h5_region *regions, int n_regions);

/* Check the seal of `path` and open it read-only.  On damage, another kind, or a file that is
 * not ours: `bad` (the caller's status for such files) with a sentence; STATUS_IO if it cannot
 * be read.  Nothing is open then. */
MUST_USE status_t h5_open(const char *path, const char *kind, status_t bad, hid_t *file);

/* Check the seal without opening the file with libhdf5.  *info may be NULL. */
MUST_USE status_t h5_check_seal(const char *path, const char *kind, status_t bad,
                                struct h5_seal_info *info);

/* `id` itself; dies if it is negative: property lists and dataspaces fail only without memory. */
hid_t h5_must(hid_t id);

/* Close a dataset that was written, or whose creation failed (negative): libhdf5 may write as late as
 * here, and says so nowhere else.  `st` if it is a failure, else STATUS_IO if this fails. */
MUST_USE status_t h5_close_written(hid_t dataset, const char *path, status_t st);

/* A failed HDF5 call: "PATH: HDF5 cannot WHAT: reason", the reason from libhdf5's own stack,
 * which the next call into libhdf5 empties. */
status_t h5_fail(status_t code, const char *path, const char *what);

/* Where a contiguous dataset lies in its file (0, 0 if it has no elements).  STATUS_IO if it
 * is not contiguous or has no place yet. */
MUST_USE status_t h5_dataset_region(hid_t dataset, struct h5_region *region);

/* Attributes of `object`.  Writers return STATUS_IO; readers return `bad` with a sentence that
 * names `path` and the attribute when it is missing or of another type.  Strings are UTF-8. */
MUST_USE status_t h5_write_str(hid_t object, const char *name, const char *value);
MUST_USE status_t h5_write_u64(hid_t object, const char *name, uint64_t value);
MUST_USE status_t h5_write_f64(hid_t object, const char *name, double value);
MUST_USE status_t h5_read_str(hid_t object, const char *path, const char *name,
                              status_t bad, char **value); /* caller frees */
MUST_USE status_t h5_read_u64(hid_t object, const char *path, const char *name,
                              status_t bad, uint64_t *value);
MUST_USE status_t h5_read_f64(hid_t object, const char *path, const char *name,
                              status_t bad, double *value);
bool h5_has(hid_t object, const char *name); /* has the attribute */
