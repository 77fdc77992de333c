#include "memory.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "emulation.h"
#include "shared.h"
#include "work.h"

enum {
    PAGE = 4096,
    HUGE_PAGE = 2 << 20,
    ALIGN = 256,
    GUARD_PAGES = 16,
    HANDLER_BYTES = 64 << 10
};
static const size_t DEFAULT_TOTAL_BYTES = (size_t)8 << 30;
/* of addresses, never given out twice */
static const size_t REGION_BYTES = (size_t)1 << 40;

struct allocation {
    unsigned char *base, *first; /* what the caller got; the first byte of the pages */
    size_t bytes, page_bytes;
    enum memory_place place;
    int device;
    bool live;
    size_t next_open; /* index + 1 */
};

static unsigned char *region, *region_next;
static struct allocation *all; /* in the order of their addresses */
static size_t n_all, all_capacity;
static int n_open;
static size_t first_open; /* index + 1 of an allocation that was touched since; 0: none */
static pthread_t worker;  /* who may touch them */

/* ---- allocations ------------------------------------------------------------------------------- */

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

/* The allocation whose pages, or the closed pages behind them, hold p; NULL if none does. */
static struct allocation *find(const void *p)
{
    const unsigned char *const c = p;
    if (!region || c < region || c >= region_next) return NULL;
    size_t low = 0,
           high = n_all; /* the last one that begins at or below p lies in [low, high) */
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (all[middle].first <= c)
            low = middle;
        else
            high = middle;
    }
    return n_all ? &all[low] : NULL;
}

enum memory_place memory_place(const void *p, size_t bytes, bool *fits)
{
    const struct allocation *const a = find(p);
    const unsigned char *const c = p;
    *fits = true;
    if (!a) return MEMORY_PAGEABLE;
    *fits = a->live && c >= a->base && c + bytes <= a->base + a->bytes;
    return a->place;
}

bool emulation_is_device(const void *p, size_t bytes)
{
    bool fits;
    return memory_place(p, bytes, &fits) == MEMORY_DEVICE && fits;
}

bool emulation_is_pinned(const void *p, size_t bytes)
{
    bool fits;
    return memory_place(p, bytes, &fits) == MEMORY_PINNED && fits;
}

static size_t limit(enum memory_place place)
{
    const char *const text = emulation_fault(place == MEMORY_DEVICE ? "oom" : "oom_host");
    if (text) return strtoull(text, NULL, 10);
    return place == MEMORY_DEVICE ? DEFAULT_TOTAL_BYTES : SIZE_MAX;
}

static size_t used(enum memory_place place, int device)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n_all; i++) {
        const struct allocation *const a = &all[i];
        if (a->live && a->place == place &&
            (place == MEMORY_PINNED || a->device == device))
            bytes += a->page_bytes;
    }
    return bytes;
}

void memory_info(int device, size_t *free_bytes, size_t *total_bytes)
{
    const size_t taken = used(MEMORY_DEVICE, device);
    *total_bytes = limit(MEMORY_DEVICE);
    *free_bytes = *total_bytes > taken ? *total_bytes - taken : 0;
}

static void start(void)
{
    region = mmap(NULL, REGION_BYTES, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) emulation_fail("no address space for device memory");
    /* closed allocations differ from what lies between them in this, so that the kernel does not
     * join and split them each time */
    madvise(region, REGION_BYTES, MADV_DONTDUMP);
    region += HUGE_PAGE - (uintptr_t)region % HUGE_PAGE;
    region_next = region;
    memory_watch();
}

static struct allocation *new_allocation(void)
{
    if (n_all == all_capacity) {
        all_capacity = all_capacity ? 2 * all_capacity : 64;
        all = realloc(all, all_capacity * sizeof *all);
        if (!all) emulation_fail("no memory for the list of allocations");
    }
    return &all[n_all++];
}

void *memory_alloc(enum memory_place place, int device, size_t bytes)
{
    const size_t pages = round_up(bytes, PAGE);
    if (!region) start();
    if (pages < bytes || used(place, device) + pages > limit(place)) return NULL;
    unsigned char *first = region_next + GUARD_PAGES * PAGE;
    if (pages >= HUGE_PAGE) /* opening and closing it costs per page */
        first = region + round_up((size_t)(first - region), HUGE_PAGE);
    unsigned char *const end = first + pages;
    if (end + HUGE_PAGE > region + REGION_BYTES)
        emulation_fail("all addresses for device memory are used up");
    if (mprotect(first, pages, PROT_READ | PROT_WRITE) != 0) return NULL;
    madvise(first, pages, MADV_DODUMP);
    if (pages >= HUGE_PAGE) madvise(first, pages, MADV_HUGEPAGE);
    region_next = end;
    memset(first, 0xFF, pages);
    struct allocation *const a = new_allocation();
    *a = (struct allocation){.base = end - round_up(bytes, ALIGN),
                             .first = first,
                             .bytes = bytes,
                             .page_bytes = pages,
                             .place = place,
                             .device = device,
                             .live = true};
    if (place == MEMORY_DEVICE) mprotect(first, pages, PROT_NONE);
    return a->base;
}

/* Nobody may have written into the rest of the first and last page. */
static void check_edges(const struct allocation *a)
{
    for (const unsigned char *p = a->first; p < a->first + a->page_bytes; p++) {
        if (p == a->base) p += a->bytes;
        if (p < a->first + a->page_bytes && *p != 0xFF)
            emulation_fail("something wrote %" PRIdPTR
                           " bytes %s an allocation of %zu bytes",
                           p < a->base ? a->base - p : p - a->base - (ptrdiff_t)a->bytes,
                           p < a->base ? "before" : "behind the end of", a->bytes);
    }
}

bool memory_free(enum memory_place place, void *p)
{
    struct allocation *const a = find(p);
    if (!a || !a->live || a->base != p || a->place != place) return false;
    if (place == MEMORY_DEVICE && n_open == 0)
        mprotect(a->first, a->page_bytes, PROT_READ | PROT_WRITE);
    check_edges(a);
    a->live = false;
    /* gives the pages back, keeps the addresses closed */
    if (mmap(a->first, a->page_bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED)
        emulation_fail("cannot give memory back");
    madvise(a->first, a->page_bytes, MADV_DONTDUMP);
    return true;
}

/* An operation touches few of many allocations, so each is opened when it is touched. */
void memory_open(void)
{
    if (n_open++ > 0) return;
    worker = pthread_self();
    memory_watch(); /* again: a test harness sets handlers of its own */
}

static bool open_touched(const void *p)
{
    struct allocation *const a = n_open > 0 ? find(p) : NULL;
    const unsigned char *const c = p;
    if (!a || !a->live || a->place != MEMORY_DEVICE || c >= a->first + a->page_bytes ||
        !pthread_equal(worker, pthread_self()))
        return false;
    /* open already: the access is bad for another reason */
    for (size_t i = first_open; i; i = all[i - 1].next_open) {
        if (a == &all[i - 1]) return false;
    }
    a->next_open = first_open;
    first_open = (size_t)(a - all) + 1;
    return mprotect(a->first, a->page_bytes, PROT_READ | PROT_WRITE) == 0;
}

void memory_close(void)
{
    if (--n_open > 0) return;
    for (; first_open; first_open = all[first_open - 1].next_open) {
        const struct allocation *const a = &all[first_open - 1];
        mprotect(a->first, a->page_bytes, PROT_NONE);
    }
}

/* ---- what a bad access hit ----------------------------------------------------------------------- */

static void describe_address(char *text, size_t bytes, const void *p)
{
    const struct allocation *const a = find(p);
    const unsigned char *const c = p;
    if (shared_contains(p)) {
        snprintf(text, bytes, "outside of a block's shared memory");
    } else if (!a) {
        snprintf(text, bytes, "neither device nor page-locked memory");
    } else if (!a->live) {
        snprintf(text, bytes, "freed memory (%zu bytes)", a->bytes);
    } else if (c >= a->base + a->bytes) {
        snprintf(text, bytes, "%" PRIdPTR " bytes behind the end of an allocation of %zu",
                 c - a->base - (ptrdiff_t)a->bytes, a->bytes);
    } else if (c < a->base) {
        snprintf(text, bytes, "before an allocation of %zu bytes", a->bytes);
    } else {
        snprintf(text, bytes,
                 "device memory, which the host cannot touch (byte %" PRIdPTR
                 " of an allocation of %zu)",
                 c - a->base, a->bytes);
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    static volatile sig_atomic_t seen;
    const ucontext_t *const u = context;
    char what[160];
    if (number == SIGSEGV && info->si_code == SEGV_ACCERR && open_touched(info->si_addr))
        return;
    signal(number, SIG_DFL);
    if (seen++) return;
    if (number == SIGILL) emulation_fail("misaligned access, or an index past its array");
    /* not addressable at all: what an aligned 16-byte instruction does at other addresses */
    if (info->si_code == SI_KERNEL) emulation_fail("misaligned access");
    describe_address(what, sizeof what, info->si_addr);
    emulation_fail("%s %p: %s", u->uc_mcontext.gregs[REG_ERR] & 2 ? "writes" : "reads",
                   info->si_addr, what);
}

void memory_watch(void)
{
    static _Thread_local unsigned char *stack; /* fibers overflow into a closed page */
    const struct sigaction action = {.sa_sigaction = on_fault,
                                     .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (!stack) {
        stack = malloc(HANDLER_BYTES);
        const stack_t alternate = {.ss_sp = stack, .ss_size = HANDLER_BYTES};
        if (stack) sigaltstack(&alternate, NULL);
    }
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}
