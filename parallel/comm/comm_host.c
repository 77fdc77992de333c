#include "parallel/comm/comm_host.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"

static const double PATIENCE_SECONDS = 5;

struct comm_mapping {
    int32_t pid;
    uint64_t id; /* of the block, in that process */
    char *p;
    size_t bytes;
    struct comm_mapping *next; /* most lately used first */
};

/* Of another process; NULL if that is refused, or is something else: a container may hide who has a
 * number from whom. */
static void *map_of(int32_t pid, int32_t fd, size_t bytes)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, (int)fd);
    const int opened = open(path, O_RDWR | O_CLOEXEC);
    if (opened < 0) return NULL;
    struct stat file;
    void *p = MAP_FAILED;
    if (fstat(opened, &file) == 0 && file.st_size >= (off_t)bytes)
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
    close(opened);
    return p == MAP_FAILED ? NULL : p;
}

/* ---- boards ---------------------------------------------------------------------------------- */

/* What a rank tells the others so that they find its board. */
struct card {
    char boot[64], host[64]; /* one machine, and one name: containers may be apart */
    int32_t pid, fd;         /* fd < 0: it could not make one */
    uint64_t nonce[2];
};

void comm_boot_id(char *id, size_t bytes)
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (!f || !fgets(id, (int)bytes, f)) gethostname(id, bytes - 1);
    if (f) fclose(f);
}

static bool make_board(struct comm_host *h, struct card *card)
{
    const int fd = memfd_create("yoke", MFD_CLOEXEC);
    if (fd < 0) return false;
    card->fd = fd;
    if (ftruncate(fd, sizeof *h->mine) != 0) return false;
    void *p = mmap(NULL, sizeof *h->mine, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return false;
    h->mine = p;
    /* what stands under this number in a process of another container is not ours */
    if (getrandom(card->nonce, sizeof card->nonce, 0) != (ssize_t)sizeof card->nonce)
        return false;
    memcpy(h->mine->nonce, card->nonce, sizeof card->nonce);
    return true;
}

static bool same_host(const struct card *a, const struct card *b)
{
    return strcmp(a->boot, b->boot) == 0 && strcmp(a->host, b->host) == 0;
}

static bool all_on_one(const struct card *cards, int size)
{
    int rank = 1;
    while (rank < size && same_host(&cards[rank], &cards[0])) rank++;
    return rank == size;
}

static bool find_boards(struct comm *c, const struct card *cards)
{
    struct comm_host *h = c->host;
    for (int rank = 0; rank < c->size; rank++) {
        const struct card *card = &cards[rank];
        if (!same_host(card, &cards[c->rank])) continue;
        if (rank == c->rank) h->index = h->n_near;
        if (h->n_near++ == 0) h->first = rank;
        h->pids[rank] = card->pid;
        if (card->fd < 0) return false;
        h->boards[rank] =
            rank == c->rank ? h->mine : map_of(card->pid, card->fd, sizeof *h->mine);
        if (!h->boards[rank] ||
            memcmp(h->boards[rank]->nonce, card->nonce, sizeof card->nonce) != 0)
            return false;
    }
    return true;
}

void comm_host_open(struct comm *c, const char **why)
{
    struct card mine = {.pid = (int32_t)getpid(), .fd = -1};
    const size_t size = (size_t)c->size;
    struct comm_host *h = calloc(1, sizeof *h);
    struct card *cards = malloc(size * sizeof *cards);
    if (h) h->boards = calloc(size, sizeof *h->boards);
    if (h) h->pids = calloc(size, sizeof *h->pids);
    if (!cards || !h || !h->boards || !h->pids)
        die("no memory for the boards of %d ranks", c->size);
    c->host = h;
    comm_boot_id(mine.boot, sizeof mine.boot);
    gethostname(mine.host, sizeof mine.host - 1);
    int64_t failed = !make_board(h, &mine);
    const int fd = mine.fd;
    if (failed) mine.fd = -1;
    comm_mpi_gather_all(c, &mine, sizeof mine, cards);
    const bool together = all_on_one(cards, c->size);
    failed = !find_boards(c, cards);
    comm_max_i64(c, &failed, 1); /* also: all have opened mine */
    if (fd >= 0) close(fd);
    free(cards);
    *why = !together && failed
               ? "ranks are on several hosts, and may not look at each other's memory"
           : !together ? "ranks are on several hosts"
           : failed    ? "ranks may not look at each other's memory here"
                       : "ranks are on one host";
    if (failed || h->n_near == 1) comm_host_close(c);
}

void comm_host_close(struct comm *c)
{
    struct comm_host *h = c->host;
    if (!h) return;
    for (int rank = 0; rank < c->size; rank++)
        if (h->boards[rank] && h->boards[rank] != h->mine)
            munmap(h->boards[rank], sizeof *h->mine);
    if (h->mine) munmap(h->mine, sizeof *h->mine);
    free(h->boards);
    free(h->pids);
    free(h);
    c->host = NULL;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Let go of what was not used for longest, if there are too many: not of one of an operation. */
static void forget_some(struct comm *world)
{
    struct comm_mapping **at = &world->mappings, *last;
    if (world->n_mappings < COMM_MAPPINGS + world->size) return;
    while ((*at)->next) at = &(*at)->next;
    last = *at;
    *at = NULL;
    munmap(last->p, last->bytes);
    free(last);
    world->n_mappings--;
}

/* Taken out of the list; NULL if it is not there. */
static struct comm_mapping *take(struct comm *world, int32_t pid, uint64_t id)
{
    for (struct comm_mapping **at = &world->mappings, *m; (m = *at); at = &m->next) {
        if (m->pid != pid || m->id != id) continue;
        *at = m->next;
        return m;
    }
    return NULL;
}

void *comm_map_block(const struct comm *c, int rank, const struct device_block *block)
{
    return map_of(c->host->pids[rank], block->fd, block->bytes);
}

/* It may have died: then the launcher tells us soon, which says more than that its memory is gone. */
static void *map_patiently(const struct comm *c, int rank,
                           const struct device_block *block)
{
    struct comm_wait w = comm_wait_begin(c, "a look at another rank's memory", 0);
    void *p = comm_map_block(c, rank, block);
    while (!p && clock_seconds() - w.start < PATIENCE_SECONDS) {
        comm_wait_more(&w);
        comm_wait_pause(&w);
        p = comm_map_block(c, rank, block);
    }
    return p;
}

char *comm_map(struct comm *c, int rank, const struct device_block *block)
{
    struct comm *world = c->world;
    const int32_t pid = c->host->pids[rank];
    struct comm_mapping *m = take(world, pid, block->id);
    if (!m) {
        m = malloc(sizeof *m);
        void *p = m ? map_patiently(c, rank, block) : NULL;
        if (!p)
            die_with(STATUS_COMM,
                     "rank %d of %d cannot map %zu bytes of rank %d's memory; "
                     "parallel.comm: mpi works without that",
                     c->rank, c->size, block->bytes, rank);
        *m = (struct comm_mapping){
            .pid = pid, .id = block->id, .p = p, .bytes = block->bytes};
        forget_some(world);
        world->n_mappings++;
    }
    m->next = world->mappings;
    world->mappings = m;
    return m->p;
}

void comm_unmap_all(struct comm *world)
{
    for (struct comm_mapping *m = world->mappings, *next; m; m = next) {
        next = m->next;
        munmap(m->p, m->bytes);
        free(m);
    }
    world->mappings = NULL;
    world->n_mappings = 0;
}
