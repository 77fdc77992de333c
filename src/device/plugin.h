/* plugin - what is known about the opened plug-in and the libraries behind it.
 *
 * plugin.c opens libyoke_cuda.so when the first device called "cuda" is asked for; the search and
 * its order are described there. */
#pragma once

/* A library of the GPU side that is loaded into this process. */
struct plugin_library {
    const char *name; /* "libcublasLt.so.13" */
    const char *file; /* where it came from */
};

/* Those that are loaded now, at most `max`; returns how many.  The texts belong to the loader and
 * stay. */
int plugin_libraries(struct plugin_library *out, int max);

/* A shared library that the plug-in uses only if it is there (cuDNN): the handle of dlopen, from
 * the loader's own places or those listed in plugin.c; NULL if it is nowhere.  Never closed. */
void *plugin_find_library(const char *soname);

/* What the plug-in knows about a machine beside its devices, exported as "yoke_cuda_queries":
 * device_symbol gives it. */
struct plugin_queries {
    int (*peer_access)(int from,
                       int to); /* 1: `from` can reach the memory of `to` directly */
};
