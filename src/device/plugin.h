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

/* Those that are loaded now, the driver and the plug-in first; at most `max`.  Returns how many.
 * The texts belong to the loader and stay. */
int plugin_libraries(struct plugin_library *out, int max);

/* A shared library that the plug-in uses only if it is there (cuDNN): the handle of dlopen, from
 * the loader's own places or those listed in plugin.c; NULL if it is nowhere.  Never closed. */
void *plugin_find_library(const char *soname);
