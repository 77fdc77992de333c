/* fiber - stacks that one host thread switches between. */
#pragma once

struct fiber {
    void *stack_pointer; /* while it does not run */
    struct fiber *next;  /* free list of the owner */
    void (*main)(void);
};

/* A fiber that will begin in `main`, which must not return.  It is never freed. */
struct fiber *fiber_create(void (*main)(void));
/* Save what runs into *from and go on with `to`. */
void fiber_switch(struct fiber *from, struct fiber *to);
