/* Preloaded, it makes the folder PLAIN_FILES lie on a file system without hard links, symbolic links and locks: link and
   symlink fail with EOPNOTSUPP there, flock and the locks of fcntl with ENOLCK. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int lies_there(const char *path) {
    const char *folder = getenv("PLAIN_FILES");
    return folder && *folder && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_there(int descriptor, const char *name) {
    char link[64], path[PATH_MAX + 1];
    if (name && name[0] == '/') return lies_there(name);
    if (descriptor == AT_FDCWD) return getcwd(path, sizeof path) && lies_there(path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX);
    if (length < 0) return 0;
    path[length] = 0;
    return lies_there(path);
}

static int fails(int number) {
    errno = number;
    return -1;
}

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

int linkat(int from, const char *old, int to, const char *new, int flags) {
    if (is_there(to, new)) return fails(EOPNOTSUPP);
    return REAL(int (*)(int, const char *, int, const char *, int), "linkat")(from, old, to, new, flags);
}

int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int symlinkat(const char *target, int folder, const char *name) {
    if (is_there(folder, name)) return fails(EOPNOTSUPP);
    return REAL(int (*)(const char *, int, const char *), "symlinkat")(target, folder, name);
}

int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }

int flock(int descriptor, int operation) {
    if (is_there(descriptor, NULL)) return fails(ENOLCK);
    return REAL(int (*)(int, int), "flock")(descriptor, operation);
}

static int locks(int descriptor, int command) {
    int asks = command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK ||
               command == F_OFD_SETLKW || command == F_OFD_GETLK;
    return asks && is_there(descriptor, NULL);
}

#define FCNTL(name)                                                                           \
    int name(int descriptor, int command, ...) {                                              \
        va_list rest;                                                                         \
        va_start(rest, command);                                                              \
        void *given = va_arg(rest, void *);                                                   \
        va_end(rest);                                                                         \
        if (locks(descriptor, command)) return fails(ENOLCK);                                 \
        return REAL(int (*)(int, int, ...), #name)(descriptor, command, given);               \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
