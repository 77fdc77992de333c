/* comm_host - what ranks of one host know of each other's memory.
 *
 * Every rank of a comm has a board, a page or two that it alone writes and the others read: what it
 * has begun, where its vector lies, how far it is.  A vector lies in a block of the device's shared
 * memory, which others map when they first meet it.  Boards and blocks have no names: a process
 * opens those of another through /proc/PID/fd, so that nothing is left behind by a process that was
 * killed, and no mount of /dev/shm limits them. */
#pragma once

#include <stdatomic.h>

#include "parallel/comm/comm_impl.h"

enum {
    COMM_NOTICES = 64, /* operations of a comm that others hear of at a time */
    COMM_MAPPINGS = 32 /* blocks that stay mapped, beside one for each rank */
};

/* What a rank says of its k-th operation on this comm, in notices[k mod COMM_NOTICES].  Numbers
 * count from 1 and only grow, so that a look at what is long over does no harm. */
struct comm_notice {
    _Alignas(64) _Atomic uint64_t begun; /* k + 1: what follows is valid */
    int64_t n, unit;
    int32_t kind, type, root, tag;
    int32_t window; /* the vector lies in it, at `offset`; 0: in none */
    bool in_place;  /* it does, or lies in `block`, at `offset` */
    struct device_block block;
    uint64_t offset;
    _Alignas(64) _Atomic uint64_t left; /* k + 1: it looks at nobody's vector any more */
};

struct comm_board {
    uint64_t nonce[2];
    struct comm_notice notices[COMM_NOTICES];
};

struct comm_host {
    struct comm_board *mine;
    struct comm_board **boards; /* [size]; mine among them; NULL: that rank is not near */
    int32_t *pids;              /* [size] */
    int n_near, first;          /* near ranks, and the first of them */
    int index;                  /* this one's among them */
    uint64_t n_begun;           /* operations of this rank */
    bool busy[COMM_NOTICES];    /* mine */
};

/* Make c->host if other ranks of c are processes of this host, and all that are near each other may look
 * at each other's memory, else leave it NULL.  *why (static text) says whether all are near each other,
 * and if not, what is in the way; it is the same on all ranks.  Collective on c. */
void comm_host_open(struct comm *c, const char **why);
void comm_host_close(struct comm *c);

/* A block of rank `rank` of c, mapped here until munmap; NULL: that is refused. */
void *comm_map_block(const struct comm *c, int rank, const struct device_block *block);
/* The same, until comm_unmap_all, or until many others were mapped since.  Dies if that is refused. */
char *comm_map(struct comm *c, int rank, const struct device_block *block);
void comm_unmap_all(struct comm *world);
