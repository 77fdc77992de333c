#include "block.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulation.h"
#include "fiber.h"
#include "shared.h"

enum { MAX_THREADS = 1024, WARP = 32, MAX_WARPS = MAX_THREADS / WARP };

typedef void emulation_meeting(void *const lanes[WARP]);

struct meeting {
    emulation_meeting *run;
    const char *name;
    void *argument;
    unsigned mask;
};

struct warp {
    /* lanes, a bit each: those there are; that can go on; of these, that have not begun; that wait
     * at a meeting; that have ended */
    unsigned present, runnable, unstarted, arrived, ended;
    struct meeting at[WARP]; /* of lanes that arrived */
};

/* The block that runs.  One at a time, on the thread that holds the lock of work.c. */
static struct {
    const struct block_grid *grid;
    unsigned n_threads, n_waiting, n_ended; /* waiting: at the barrier */
    unsigned current;                       /* thread that runs */
    unsigned runnable;                      /* warps with runnable lanes, a bit each */
    struct warp warps[MAX_WARPS];
    struct fiber *fiber[MAX_THREADS];
    struct fiber outside, *idle;
    bool running;
} now;

/* What kernels see, and the position of each thread of a block. */
struct block_dims emulation_thread_index, emulation_block_index;
struct block_dims emulation_block_size, emulation_grid_size;
static struct block_dims positions[MAX_THREADS];

/* ---- the choice of the next thread ----------------------------------------------------------- */

__attribute__((noreturn)) static void fail_stuck(void)
{
    unsigned n_meeting = 0;
    const char *name = "";
    for (unsigned w = 0; w < MAX_WARPS; w++) {
        for (unsigned l = 0; l < WARP; l++) {
            if (!(now.warps[w].arrived >> l & 1)) continue;
            n_meeting++;
            name = now.warps[w].at[l].name;
        }
    }
    emulation_fail("the threads wait for each other forever: of %u, %u wait at "
                   "__syncthreads, %u at warp operations (%s), %u have ended",
                   now.n_threads, now.n_waiting, n_meeting, name, now.n_ended);
}

static void make_runnable(unsigned warp, unsigned lanes)
{
    now.warps[warp].runnable |= lanes;
    now.runnable |= 1u << warp;
}

/* One of the bits set in `mask`, the first one at or above bit `from`, cyclically. */
static unsigned pick(unsigned mask, unsigned from)
{
    const unsigned turned = mask >> from | mask << (WARP - from) % WARP;
    return ((unsigned)__builtin_ctz(turned) + from) % WARP;
}

/* Make a random runnable thread the current one; false: it has not begun.  Mostly of the same warp:
 * its stacks are in the cache, and one warp that runs far ahead finds what even progress hides. */
static bool choose(void)
{
    const unsigned random = emulation_random(1u << 13);
    unsigned w = now.current / WARP;
    if (!now.runnable) fail_stuck();
    if (!now.warps[w].runnable || random >> 10 == 0)
        w = pick(now.runnable, random >> 5 & 31);
    struct warp *const warp = &now.warps[w];
    const unsigned lane = pick(warp->runnable, random & 31);
    const bool begun = !(warp->unstarted >> lane & 1);
    warp->runnable &= ~(1u << lane);
    warp->unstarted &= ~(1u << lane);
    if (!warp->runnable) now.runnable &= ~(1u << w);
    now.current = w * WARP + lane;
    emulation_thread_index = positions[now.current];
    return begun;
}

/* Run threads from their beginning on this fiber, one after the other, until one of them stops and
 * another fiber goes on; a kernel without meeting points never leaves the first fiber. */
static void run_threads(void)
{
    struct fiber *const self = now.idle;
    now.idle = self->next;
    for (;;) {
        now.fiber[now.current] = self;
        now.grid->call(now.grid->arguments);
        now.warps[now.current / WARP].ended |= 1u << now.current % WARP;
        now.n_ended++;

        struct fiber *to = &now.outside;
        if (now.n_ended < now.n_threads) to = choose() ? now.fiber[now.current] : NULL;
        if (to) {
            self->next = now.idle;
            now.idle = self;
            fiber_switch(self, to); /* back when the current thread has not begun */
            now.idle = self->next;
        }
    }
}

/* The first idle fiber: it takes itself off the list and runs the current thread. */
static struct fiber *idle_fiber(void)
{
    if (!now.idle) now.idle = fiber_create(run_threads);
    return now.idle;
}

/* The current thread goes on when somebody chooses it again. */
static void stop(void)
{
    struct fiber *const me = now.fiber[now.current];
    struct fiber *const to = choose() ? now.fiber[now.current] : idle_fiber();
    if (to != me) fiber_switch(me, to);
}

/* ---- meeting points -------------------------------------------------------------------------- */

void emulation_barrier(void);
void emulation_barrier(void)
{
    if (++now.n_waiting == now.n_threads) {
        now.n_waiting = 0;
        for (unsigned w = 0; w * WARP < now.n_threads; w++)
            make_runnable(w, now.warps[w].present);
    }
    stop();
}

/* Can the lane arrive at all? */
static void check_arrival(const struct warp *w, unsigned lane, unsigned mask,
                          const char *name)
{
    if (!now.running) emulation_fail("%s outside of a kernel", name);
    if (!(mask >> lane & 1))
        emulation_fail("%s with the mask 0x%08x, in which its own lane %u is missing",
                       name, mask, lane);
    if (mask & ~w->present)
        emulation_fail("%s with the mask 0x%08x in a warp that has only the lanes 0x%08x",
                       name, mask, w->present);
    if (mask & w->ended)
        emulation_fail("%s with the mask 0x%08x after the lanes 0x%08x have ended", name,
                       mask, w->ended);
}

/* All lanes of the mask of m are there: they must mean the same meeting. */
static void run_meeting(const struct warp *w, const struct meeting *m)
{
    void *lanes[WARP] = {0};
    for (unsigned l = 0; l < WARP; l++) {
        if (!(m->mask >> l & 1)) continue;
        if (w->at[l].run != m->run || w->at[l].mask != m->mask)
            emulation_fail("%s with the mask 0x%08x, but lane %u is at %s with 0x%08x",
                           m->name, m->mask, l, w->at[l].name, w->at[l].mask);
        lanes[l] = w->at[l].argument;
    }
    m->run(lanes);
}

void emulation_meet(unsigned mask, const char *name, emulation_meeting *run,
                    void *argument);
void emulation_meet(unsigned mask, const char *name, emulation_meeting *run,
                    void *argument)
{
    struct warp *const w = &now.warps[now.current / WARP];
    const unsigned lane = now.current % WARP;
    const struct meeting m = {run, name, argument, mask};
    check_arrival(w, lane, mask, name);
    w->arrived |= 1u << lane;
    w->at[lane] = m;
    if ((w->arrived & mask) == mask) {
        run_meeting(w, &m);
        w->arrived &= ~mask;
        make_runnable(now.current / WARP, mask);
    }
    stop();
}

int emulation_lane(void);
int emulation_lane(void)
{
    return (int)(now.current % WARP);
}

unsigned block_thread(void)
{
    return now.current;
}

void emulation_trap(void);
void emulation_trap(void)
{
    emulation_fail("__trap()");
}

/* ---- grids ----------------------------------------------------------------------------------- */

static unsigned common_divisor(unsigned a, unsigned b)
{
    while (b) {
        const unsigned r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* A random number without a common divisor with n: steps of it visit all of 0 .. n-1. */
static unsigned random_step(unsigned n)
{
    unsigned step;
    do {
        step = 1 + emulation_random(n);
    } while (common_divisor(step, n) != 1);
    return step;
}

static void run_block(void)
{
    now.n_ended = now.n_waiting = now.runnable = 0;
    for (unsigned w = 0; w * WARP < now.n_threads; w++) {
        const unsigned n = now.n_threads - w * WARP;
        struct warp *const warp = &now.warps[w];
        warp->present = n >= WARP ? ~0u : (1u << n) - 1;
        warp->runnable = warp->arrived = warp->ended = 0;
        warp->unstarted = warp->present;
        make_runnable(w, warp->present);
    }
    shared_start_block(now.grid->shared_bytes);
    choose();
    fiber_switch(&now.outside, idle_fiber());
    shared_end_block();
}

static void set_positions(struct block_dims size)
{
    unsigned t = 0;
    for (unsigned z = 0; z < size.z; z++) {
        for (unsigned y = 0; y < size.y; y++) {
            for (unsigned x = 0; x < size.x; x++)
                positions[t++] = (struct block_dims){x, y, z};
        }
    }
}

void block_run_grid(const struct block_grid *g)
{
    const struct block_dims n = g->grid;
    const uint64_t n_blocks = (uint64_t)n.x * n.y * n.z;
    now.grid = g;
    now.n_threads = g->block.x * g->block.y * g->block.z;
    emulation_block_size = g->block;
    emulation_grid_size = n;
    set_positions(g->block);
    memset(now.warps, 0, sizeof now.warps);
    now.current = 0;
    now.running = true;
    /* launches hold n_blocks below 2^31 */
    const uint64_t step = random_step((unsigned)n_blocks);
    uint64_t b = emulation_random((uint32_t)n_blocks);
    for (uint64_t i = 0; i < n_blocks; i++, b = (b + step) % n_blocks) {
        emulation_block_index = (struct block_dims){
            (unsigned)(b % n.x), (unsigned)(b / n.x % n.y), (unsigned)(b / n.x / n.y)};
        run_block();
    }
    now.running = false;
}

void block_describe(char *text, size_t bytes)
{
    *text = 0;
    if (!now.running) return;
    snprintf(text, bytes, " block (%u,%u,%u) thread (%u,%u,%u)", emulation_block_index.x,
             emulation_block_index.y, emulation_block_index.z, emulation_thread_index.x,
             emulation_thread_index.y, emulation_thread_index.z);
}
