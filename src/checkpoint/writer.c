#include "checkpoint/writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/log.h"

struct writer {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*job)(void *context); /* NULL: none */
    void *context;
    bool quit;
};

/* Against a busy thread on the same core it gets about a tenth: enough to be done before the next
 * save is due, too little for the step to notice. */
enum { NICE = 10 };

static void *work(void *writer)
{
    struct writer *w = writer;
    setpriority(PRIO_PROCESS, 0, NICE); /* of this thread, on Linux; a wish */
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->job && !w->quit) pthread_cond_wait(&w->changed, &w->lock);
        if (!w->job) break;
        pthread_mutex_unlock(&w->lock);
        w->job(w->context);
        pthread_mutex_lock(&w->lock);
        w->job = NULL;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

status_t writer_create(struct writer **w)
{
    *w = calloc(1, sizeof **w);
    if (!*w) return status_set(STATUS_NOMEM, "no memory for the checkpoint writer");
    pthread_mutex_init(&(*w)->lock, NULL);
    pthread_cond_init(&(*w)->changed, NULL);
    const int error = pthread_create(&(*w)->thread, NULL, work, *w);
    if (error == 0) return STATUS_OK;
    free(*w);
    *w = NULL;
    return status_set(STATUS_NOMEM, "cannot start the checkpoint writer's thread: %s",
                      strerror(error));
}

void writer_destroy(struct writer **w)
{
    if (!*w) return;
    pthread_mutex_lock(&(*w)->lock);
    (*w)->quit = true;
    pthread_cond_broadcast(&(*w)->changed);
    pthread_mutex_unlock(&(*w)->lock);
    pthread_join((*w)->thread, NULL);
    pthread_cond_destroy(&(*w)->changed);
    pthread_mutex_destroy(&(*w)->lock);
    free(*w);
    *w = NULL;
}

void writer_start(struct writer *w, void (*job)(void *context), void *context)
{
    pthread_mutex_lock(&w->lock);
    CHECK(!w->quit);
    while (w->job) pthread_cond_wait(&w->changed, &w->lock);
    w->job = job;
    w->context = context;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

bool writer_working(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    const bool working = w->job != NULL;
    pthread_mutex_unlock(&w->lock);
    return working;
}

void writer_wait(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->job) pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}
