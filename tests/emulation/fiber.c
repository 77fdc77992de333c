#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "emulation.h"

#ifndef __x86_64__
#error "the emulated device switches stacks with x86-64 instructions"
#endif

enum {
    STACK_BYTES =
        256 * 1024, /* touched pages only; frames under the address sanitizer are large */
    GUARD_BYTES = 4096,
    COLOURS = 61,
    COLOUR_BYTES =
        320 /* stacks at equal offsets would fight for the same lines of the cache */
};

/* What the System V ABI lets a called function keep: rbx, rbp, r12 to r15.  No signal mask, hence
 * no system call: a switch takes a few nanoseconds, swapcontext takes hundreds. */
void emulation_switch_stacks(void **save, void *load);
__asm__(".text\n"
        ".p2align 4\n"
        ".type emulation_switch_stacks, @function\n"
        "emulation_switch_stacks:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size emulation_switch_stacks, .-emulation_switch_stacks\n");

struct fiber *fiber_create(void (*main)(void))
{
    static uintptr_t n_made;
    char *const area = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct fiber *const f = calloc(1, sizeof *f);
    if (area == MAP_FAILED || !f || mprotect(area, GUARD_BYTES, PROT_NONE) != 0)
        emulation_fail("no memory for the stack of a thread");
    f->main = main;
    /* as if main had been called: its return address lies 8 below a multiple of 16 */
    void **top =
        (void **)(void *)(area + STACK_BYTES - n_made++ % COLOURS * COLOUR_BYTES);
    *--top = NULL; /* where main would return to */
    union {
        void (*call)(void);
        void *address;
    } entry = {main};
    *--top = entry.address;
    for (int i = 0; i < 6; i++) *--top = NULL; /* the six registers */
    f->stack_pointer = top;
    return f;
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    emulation_switch_stacks(&from->stack_pointer, to->stack_pointer);
}
