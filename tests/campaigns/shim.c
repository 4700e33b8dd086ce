/* Stands between a program and the C library (LD_PRELOAD): counts the calls that write below one folder, records
 * them, and kills, fails or signals at the N-th. Names and descriptors outside the folder are left alone.
 *
 * The process that is to be watched calls shim_arm(). The counters lie in shared memory, so that whoever forked it
 * reads them after its end. Linux only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, FAIL, SIGNAL };
enum { OPEN = 1, WRITE, TRUNCATE, RENAME, LINK, UNLINK, MKDIR, RMDIR, SYNC, CHMOD, CHOWN, SYMLINK, TIMES, OUT };

struct control {
    volatile long count, refused_removals, fired;
    long at, second;
    int action, number, sticky, nosync, armed, log;
    char root[PATH_MAX];
};

static struct control *control;

__attribute__((constructor)) static void start(void)
{
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (control == MAP_FAILED)
        abort();
    memset(control, 0, sizeof *control);
    control->log = -1;
}

/* action at call number `at` (from 1): KILL, FAIL with errno `number` (from then on, when `sticky`), or SIGNAL with
 * signal `number` and again `second` calls later (0: once). `nosync` leaves out the fsyncs' work, not their count. */
void shim_arm(const char *root, int action, long at, int number, int sticky, long second, int nosync, int log)
{
    control->count = control->refused_removals = control->fired = 0;
    control->at = at, control->second = second, control->action = action, control->number = number;
    control->sticky = sticky, control->nosync = nosync, control->log = log;
    snprintf(control->root, sizeof control->root, "%s", root);
    control->armed = 1;
}

void shim_disarm(void) { control->armed = 0; }
long shim_count(void) { return control->count; }
long shim_fired(void) { return control->fired; }
long shim_refused_removals(void) { return control->refused_removals; }

static int below(const char *path)
{
    size_t length = strlen(control->root);
    return strncmp(path, control->root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The absolute path of an open descriptor; 0 where it has none below the root. */
static int path_of(int fd, char *into)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, into, PATH_MAX - 1);
    if (length <= 0)
        return 0;
    into[length] = 0;
    return below(into);
}

static int absolute(int folder, const char *path, char *into)
{
    char base[PATH_MAX];
    if (!control->armed || path == NULL)
        return 0;
    if (path[0] == '/')
        snprintf(into, PATH_MAX, "%s", path);
    else {
        if (folder == AT_FDCWD) {
            if (getcwd(base, sizeof base) == NULL)
                return 0;
        } else {
            path_of(folder, base);
        }
        while (path[0] == '.' && path[1] == '/')
            path += 2;
        if (snprintf(into, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
            return 0;
    }
    return below(into);
}

/* A full disk still lets go, and whoever has a file open may write it. */
static int hits(int kind)
{
    if (control->number == ENOSPC)
        return kind == OPEN || kind == WRITE || kind == RENAME || kind == LINK || kind == MKDIR || kind == SYMLINK;
    if (control->number == EACCES)
        return kind != WRITE && kind != SYNC && kind != TRUNCATE;
    return 1;
}

/* Returns 0 where the call may be made; -1, with errno, where it is to fail. */
static int admit(int kind)
{
    long now = __sync_add_and_fetch(&control->count, 1);
    if (control->action == KILL && now == control->at) {
        control->fired++;
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    if (control->action == SIGNAL && (now == control->at || (control->second && now == control->at + control->second))) {
        control->fired++;
        kill(getpid(), control->number);
    }
    if (control->action == FAIL && (now == control->at || (control->sticky && now > control->at && hits(kind)))) {
        control->fired++;
        if (kind == UNLINK || kind == RMDIR)
            control->refused_removals++;
        errno = control->number;
        return -1;
    }
    return 0;
}

struct entry {
    int64_t kind, inode, offset, length, other, flag;
};

/* One entry: the header, then `length` bytes (a name, or data), then `other` bytes (a second name). */
static void record(int kind, int64_t inode, int64_t offset, const void *data, size_t length, const char *name, int64_t flag)
{
    if (control->log < 0)
        return;
    int saved = errno;
    size_t other = name ? strlen(name) : 0;
    struct entry entry = {kind, inode, offset, (int64_t)length, (int64_t)other, flag};
    struct iovec parts[3] = {{&entry, sizeof entry}, {(void *)data, length}, {(void *)name, other}};
    if (syscall(SYS_writev, control->log, parts, 3) < 0)
        abort();
    errno = saved;
}

static int64_t inode_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 ? (int64_t)status.st_ino : -1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (real == NULL) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* Names. */

#define ONE_NAME(name, kind, folder, path, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        char full[PATH_MAX]; \
        int ours = absolute(folder, path, full); \
        if (ours && admit(kind)) \
            return -1; \
        int result = real arguments; \
        if (ours && result == 0) \
            record(kind, 0, 0, full, strlen(full), NULL, 0); \
        return result; \
    }

ONE_NAME(unlink, UNLINK, AT_FDCWD, path, (const char *path), (path))
ONE_NAME(unlinkat, (flags & AT_REMOVEDIR) ? RMDIR : UNLINK, folder, path, (int folder, const char *path, int flags), (folder, path, flags))
ONE_NAME(rmdir, RMDIR, AT_FDCWD, path, (const char *path), (path))
ONE_NAME(mkdir, MKDIR, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
ONE_NAME(mkdirat, MKDIR, folder, path, (int folder, const char *path, mode_t mode), (folder, path, mode))
ONE_NAME(chmod, CHMOD, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
ONE_NAME(fchmodat, CHMOD, folder, path, (int folder, const char *path, mode_t mode, int flags), (folder, path, mode, flags))
ONE_NAME(chown, CHOWN, AT_FDCWD, path, (const char *path, uid_t user, gid_t group), (path, user, group))
ONE_NAME(lchown, CHOWN, AT_FDCWD, path, (const char *path, uid_t user, gid_t group), (path, user, group))
ONE_NAME(fchownat, CHOWN, folder, path, (int folder, const char *path, uid_t user, gid_t group, int flags), (folder, path, user, group, flags))
ONE_NAME(symlink, SYMLINK, AT_FDCWD, path, (const char *target, const char *path), (target, path))
ONE_NAME(symlinkat, SYMLINK, folder, path, (const char *target, int folder, const char *path), (target, folder, path))
ONE_NAME(utimensat, TIMES, folder, path, (int folder, const char *path, const struct timespec times[2], int flags), (folder, path, times, flags))

#define TWO_NAMES(name, kind, from_folder, from, to_folder, to, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        char source[PATH_MAX], target[PATH_MAX]; \
        int known = absolute(from_folder, from, source), ours = absolute(to_folder, to, target); \
        if ((known || ours) && admit(kind)) \
            return -1; \
        int result = real arguments; \
        if ((known || ours) && result == 0) \
            record(kind, 0, 0, source, strlen(source), target, 0); \
        return result; \
    }

TWO_NAMES(rename, RENAME, AT_FDCWD, from, AT_FDCWD, to, (const char *from, const char *to), (from, to))
TWO_NAMES(renameat, RENAME, old, from, new, to, (int old, const char *from, int new, const char *to), (old, from, new, to))

int renameat2(int old, const char *from, int new, const char *to, unsigned flags)
{
    REAL(renameat2);
    char source[PATH_MAX], target[PATH_MAX];
    int known = absolute(old, from, source), ours = absolute(new, to, target);
    if ((known || ours) && admit(RENAME))
        return -1;
    int result = real(old, from, new, to, flags);
    if ((known || ours) && result == 0)
        /* RENAME_EXCHANGE is a flag of the log's, too. */
        record(RENAME, 0, 0, source, strlen(source), target, flags);
    return result;
}

TWO_NAMES(link, LINK, AT_FDCWD, from, AT_FDCWD, to, (const char *from, const char *to), (from, to))
TWO_NAMES(linkat, LINK, old, from, new, to, (int old, const char *from, int new, const char *to, int flags), (old, from, new, to, flags))

/* Opening; only what may create or empty a file counts. The flag tells whether the file is new (1) or emptied (2). */

static int open_one(int (*real)(int, const char *, int, ...), int folder, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    struct stat status;
    int ours = (flags & (O_CREAT | O_TRUNC)) && absolute(folder, path, full);
    if (!ours)
        return real(folder, path, flags, mode);
    if (admit(OPEN))
        return -1;
    int there = stat(full, &status) == 0;
    int fd = real(folder, path, flags, mode);
    if (fd >= 0 && (!there || (flags & O_TRUNC)))
        record(OPEN, inode_of(fd), 0, full, strlen(full), NULL, there ? 2 : 1);
    return fd;
}

static int open_at(int folder, const char *path, int flags, mode_t mode)
{
    static int (*real)(int, const char *, int, ...);
    if (real == NULL)
        real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
    return open_one(real, folder, path, flags, mode);
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list list; \
        va_start(list, last); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_at(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_at(folder, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* Descriptors. */

static int watched(int fd)
{
    char full[PATH_MAX];
    return control->armed && fd > 2 && path_of(fd, full);
}

static off_t place(int fd)
{
    struct stat status;
    if ((fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &status) == 0)
        return status.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t length)
{
    REAL(write);
    if (control->armed && (fd == 1 || fd == 2))
        record(OUT, 0, 0, data, length, NULL, 0);
    if (!watched(fd))
        return real(fd, data, length);
    if (admit(WRITE))
        return -1;
    off_t offset = place(fd);
    ssize_t done = real(fd, data, length);
    if (done > 0)
        record(WRITE, inode_of(fd), offset, data, (size_t)done, NULL, 0);
    return done;
}

static ssize_t write_at(ssize_t (*real)(int, const void *, size_t, off_t), int fd, const void *data, size_t length, off_t offset)
{
    if (!watched(fd))
        return real(fd, data, length, offset);
    if (admit(WRITE))
        return -1;
    ssize_t done = real(fd, data, length, offset);
    if (done > 0)
        record(WRITE, inode_of(fd), offset, data, (size_t)done, NULL, 0);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { REAL(pwrite); return write_at(real, fd, data, length, offset); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { REAL(pwrite64); return write_at(real, fd, data, length, offset); }

/* Read back what the kernel wrote without showing it to us. */
static void record_written(int fd, off_t offset, ssize_t length)
{
    if (control->log < 0 || length <= 0)
        return;
    char name[64], *data = malloc((size_t)length);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int again = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY);
    if (data == NULL || again < 0 || pread(again, data, (size_t)length, offset) != length)
        abort();
    close(again);
    record(WRITE, inode_of(fd), offset, data, (size_t)length, NULL, 0);
    free(data);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev);
    if (!watched(fd))
        return real(fd, parts, count);
    if (admit(WRITE))
        return -1;
    off_t offset = place(fd);
    ssize_t done = real(fd, parts, count);
    record_written(fd, offset, done);
    return done;
}

static ssize_t write_all_at(ssize_t (*real)(int, const struct iovec *, int, off_t), int fd, const struct iovec *parts, int count, off_t offset)
{
    if (!watched(fd))
        return real(fd, parts, count, offset);
    if (admit(WRITE))
        return -1;
    ssize_t done = real(fd, parts, count, offset);
    record_written(fd, offset, done);
    return done;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { REAL(pwritev); return write_all_at(real, fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) { REAL(pwritev64); return write_all_at(real, fd, parts, count, offset); }

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags)
{
    REAL(copy_file_range);
    if (!watched(out))
        return real(in, from, out, to, length, flags);
    if (admit(WRITE))
        return -1;
    off_t offset = to ? *to : place(out);
    ssize_t done = real(in, from, out, to, length, flags);
    record_written(out, offset, done);
    return done;
}

static ssize_t send_one(ssize_t (*real)(int, int, off_t *, size_t), int out, int in, off_t *from, size_t length)
{
    if (!watched(out))
        return real(out, in, from, length);
    if (admit(WRITE))
        return -1;
    off_t offset = place(out);
    ssize_t done = real(out, in, from, length);
    record_written(out, offset, done);
    return done;
}

ssize_t sendfile(int out, int in, off_t *from, size_t length);
ssize_t sendfile64(int out, int in, off64_t *from, size_t length);
ssize_t sendfile(int out, int in, off_t *from, size_t length) { REAL(sendfile); return send_one(real, out, in, from, length); }
ssize_t sendfile64(int out, int in, off64_t *from, size_t length) { REAL(sendfile64); return send_one((ssize_t (*)(int, int, off_t *, size_t))real, out, in, (off_t *)from, length); }

#define SYNCING(name) \
    int name(int fd) \
    { \
        REAL(name); \
        char full[PATH_MAX]; \
        if (!control->armed || !path_of(fd, full)) \
            return real(fd); \
        if (admit(SYNC)) \
            return -1; \
        int result = control->nosync ? 0 : real(fd); \
        if (result == 0) \
            record(SYNC, inode_of(fd), 0, full, strlen(full), NULL, 0); \
        return result; \
    }

SYNCING(fsync)
SYNCING(fdatasync)

#define SIZING(name) \
    int name(int fd, off_t length) \
    { \
        REAL(name); \
        if (!watched(fd)) \
            return real(fd, length); \
        if (admit(TRUNCATE)) \
            return -1; \
        int result = real(fd, length); \
        if (result == 0) \
            record(TRUNCATE, inode_of(fd), length, NULL, 0, NULL, 0); \
        return result; \
    }

SIZING(ftruncate)
SIZING(ftruncate64)

static int truncate_name(int (*real)(const char *, off_t), const char *path, off_t length)
{
    char full[PATH_MAX];
    struct stat status;
    int ours = absolute(AT_FDCWD, path, full);
    if (ours && admit(TRUNCATE))
        return -1;
    int result = real(path, length);
    if (ours && result == 0 && stat(full, &status) == 0)
        record(TRUNCATE, (int64_t)status.st_ino, length, NULL, 0, NULL, 0);
    return result;
}

int truncate(const char *path, off_t length) { REAL(truncate); return truncate_name(real, path, length); }
int truncate64(const char *path, off_t length) { REAL(truncate64); return truncate_name(real, path, length); }

#define ON_DESCRIPTOR(name, kind, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        if (watched(fd) && admit(kind)) \
            return -1; \
        return real arguments; \
    }

ON_DESCRIPTOR(fchmod, CHMOD, (int fd, mode_t mode), (fd, mode))
ON_DESCRIPTOR(fchown, CHOWN, (int fd, uid_t user, gid_t group), (fd, user, group))
ON_DESCRIPTOR(futimens, TIMES, (int fd, const struct timespec times[2]), (fd, times))

static int allocate(int fd, off_t offset, off_t length)
{
    struct stat status;
    if (control->log >= 0 && fstat(fd, &status) == 0 && status.st_size < offset + length)
        record(TRUNCATE, (int64_t)status.st_ino, offset + length, NULL, 0, NULL, 0);
    return 0;
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
    REAL(posix_fallocate);
    if (!watched(fd))
        return real(fd, offset, length);
    if (admit(WRITE))
        return errno;
    allocate(fd, offset, length);
    return real(fd, offset, length);
}

int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
    REAL(posix_fallocate64);
    if (!watched(fd))
        return real(fd, offset, length);
    if (admit(WRITE))
        return errno;
    allocate(fd, offset, length);
    return real(fd, offset, length);
}
