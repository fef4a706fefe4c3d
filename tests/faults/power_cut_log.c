/* Records what a process does to the files below one folder, in order: built as a shared object, used with LD_PRELOAD.
 *
 *   OPERATION_LOG       the file that records are appended to
 *   OPERATION_LOG_ROOT  the folder that is watched, as /proc/self/fd shows it
 *
 * A record is written after its call has succeeded, under one lock, so the log's order is the order in which the
 * kernel's page cache changed. Record: kind (1 byte), inode, offset or size (8 bytes each), lengths of path, second
 * path and data (4 bytes each), little-endian, then these three. SQLite's files are seen as any others; its shared-memory index is
 * mapped and not seen, which is right: SQLite never trusts it after a restart.
 *
 * `operation_log_mark` puts a note into the log, `operation_log_fail` makes the next syncs of some path fail with EIO.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char failing[PATH_MAX];
static int failures;

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int log_descriptor(void) {
    static int descriptor = -2;
    if (descriptor == -2) {
        const char *path = getenv("OPERATION_LOG");
        descriptor = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    }
    return descriptor;
}

static int watched(const char *path) {
    const char *root = getenv("OPERATION_LOG_ROOT");
    size_t length = root ? strlen(root) : 0;
    return length && !strncmp(path, root, length) && (path[length] == '/' || path[length] == 0);
}

static int path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return watched(path);
}

static void put(const void *data, size_t length) {
    const char *at = data;
    while (length) {
        ssize_t written = syscall(SYS_write, log_descriptor(), at, length);
        if (written < 0) { if (errno == EINTR) continue; abort(); }
        at += written;
        length -= (size_t)written;
    }
}

static void record(char kind, uint64_t inode, int64_t offset, const char *path, const char *other, const void *data, size_t length) {
    if (log_descriptor() < 0) return;
    int kept = errno;
    uint32_t lengths[3] = {(uint32_t)strlen(path), (uint32_t)strlen(other), (uint32_t)length};
    pthread_mutex_lock(&lock);
    put(&kind, 1); put(&inode, 8); put(&offset, 8); put(lengths, sizeof lengths);
    put(path, lengths[0]); put(other, lengths[1]); put(data, length);
    pthread_mutex_unlock(&lock);
    errno = kept;
}

static uint64_t inode_of(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) ? 0 : status.st_ino;
}

void operation_log_mark(const char *text) { record('M', 0, 0, "", "", text, strlen(text)); }

void operation_log_fail(const char *part_of_path, int times) {
    snprintf(failing, sizeof failing, "%s", part_of_path);
    failures = times;
}

/* -- open: what it creates and what it cuts -------------------------------------------------------------------- */

static int opened(int descriptor, int existed, int64_t size_before, int flags) {
    char path[PATH_MAX];
    if (descriptor >= 0 && (flags & (O_CREAT | O_TRUNC)) && path_of(descriptor, path)) {
        if (!existed) record('C', inode_of(descriptor), 0, path, "", "", 0);
        else if ((flags & O_TRUNC) && size_before) record('T', inode_of(descriptor), 0, path, "", "", 0);
    }
    return descriptor;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list arguments; va_start(arguments, flags); mode_t mode = va_arg(arguments, mode_t); va_end(arguments); \
        struct stat before; int existed = !stat(path, &before); \
        return opened(real(path, flags, mode), existed, existed ? before.st_size : 0, flags); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, ...); \
        va_list arguments; va_start(arguments, flags); mode_t mode = va_arg(arguments, mode_t); va_end(arguments); \
        struct stat before; int existed = !fstatat(folder, path, &before, 0); \
        return opened(real(folder, path, flags, mode), existed, existed ? before.st_size : 0, flags); \
    }
OPENAT(openat)
OPENAT(openat64)

/* -- bytes ------------------------------------------------------------------------------------------------------ */

static void wrote(int descriptor, const void *data, ssize_t length, int64_t offset) {
    char path[PATH_MAX];
    if (length > 0 && path_of(descriptor, path)) record('W', inode_of(descriptor), offset, path, "", data, (size_t)length);
}

ssize_t write(int descriptor, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    ssize_t written = real(descriptor, data, length);
    if (written > 0) wrote(descriptor, data, written, lseek(descriptor, 0, SEEK_CUR) - written);
    return written;
}

#define PWRITE(name) \
    ssize_t name(int descriptor, const void *data, size_t length, off64_t offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, off64_t); \
        ssize_t written = real(descriptor, data, length, offset); \
        wrote(descriptor, data, written, offset); \
        return written; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

static int resized(int result, char kind, int descriptor, int64_t size) {
    char path[PATH_MAX];
    if (!result && path_of(descriptor, path)) record(kind, inode_of(descriptor), size, path, "", "", 0);
    return result;
}

#define TRUNCATE(name) \
    int name(int descriptor, off64_t size) { \
        REAL(int, #name, int, off64_t); \
        return resized(real(descriptor, size), 'T', descriptor, size); \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define ALLOCATE(name) \
    int name(int descriptor, off64_t offset, off64_t length) { \
        REAL(int, #name, int, off64_t, off64_t); \
        return resized(real(descriptor, offset, length), 'A', descriptor, offset + length); \
    }
ALLOCATE(posix_fallocate)
ALLOCATE(posix_fallocate64)

#define SYNC(name) \
    int name(int descriptor) { \
        REAL(int, #name, int); \
        char path[PATH_MAX]; \
        int is_watched = path_of(descriptor, path); \
        if (is_watched && failures > 0 && strstr(path, failing)) { \
            failures--; record('E', inode_of(descriptor), 0, path, "", "", 0); errno = EIO; return -1; \
        } \
        int result = real(descriptor); \
        if (!result && is_watched) record('S', inode_of(descriptor), 0, path, "", "", 0); \
        return result; \
    }
SYNC(fsync)
SYNC(fdatasync)

/* -- names: absolute paths only, as this project uses them ------------------------------------------------------ */

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    int result = real(from, to);
    if (!result && (watched(from) || watched(to))) record('R', 0, 0, from, to, "", 0);
    return result;
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    int result = real(path);
    if (!result && watched(path)) record('U', 0, 0, path, "", "", 0);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    int result = real(path, mode);
    if (!result && watched(path)) record('D', 0, 0, path, "", "", 0);
    return result;
}

int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    int result = real(path);
    if (!result && watched(path)) record('X', 0, 0, path, "", "", 0);
    return result;
}
