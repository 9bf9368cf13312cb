/* Forks and their like: processes before | after | killed | threads | exec. */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void use(size_t bytes)
{
    CUdeviceptr at;
    DO(cuMemAlloc_v2(&at, bytes));
    DO(cuMemsetD8_v2(at, 1, bytes));
    MUST(holds(at, 1, bytes));
    DO(cuMemFree_v2(at));
}

static int wait_for(pid_t child)
{
    int status;
    MUST(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void *allocating(void *unused)
{
    (void)unused;
    CUcontext context;
    DO(cuDevicePrimaryCtxRetain(&context, 0));
    DO(cuCtxSetCurrent(context));
    for (int i = 0; i < 3000; i++)
        use(100 + (size_t)i);
    return NULL;
}

int main(int count, char **words)
{
    const char *what = count == 2 ? words[1] : "";
    if (strcmp(what, "before") == 0) { /* a fork before the driver is used: both may use it */
        pid_t child = fork();
        begin_on(0);
        use(3000);
        if (child == 0)
            return 0;
        return wait_for(child);
    }
    if (strcmp(what, "after") == 0) { /* after: the child is told as without the library */
        begin_on(0);
        CUdeviceptr at, other;
        DO(cuMemAlloc_v2(&at, 3000));
        pid_t child = fork();
        if (child == 0) {
            CUresult code = cuMemAlloc_v2(&other, 100);
            _exit(code == 3 && cuMemFree_v2(at) == 3 ? 0 : 1); /* NOT_INITIALIZED */
        }
        MUST(wait_for(child) == 0);
        DO(cuMemFree_v2(at));
        use(100);
        return 0;
    }
    if (strcmp(what, "threads") == 0) { /* forks while other threads are in the midst of calls */
        begin_on(0);
        pthread_t threads[3];
        for (int i = 0; i < 3; i++)
            MUST(pthread_create(&threads[i], NULL, allocating, NULL) == 0);
        for (int i = 0; i < 20; i++) {
            pid_t child = fork();
            if (child == 0) {
                execl("/bin/true", "true", (char *)NULL);
                _exit(1);
            }
            MUST(wait_for(child) == 0);
        }
        for (int i = 0; i < 3; i++)
            pthread_join(threads[i], NULL);
        return 0;
    }
    if (strcmp(what, "killed") == 0) {
        begin_on(0);
        for (int i = 0; i < 50000; i++) { /* more than one segment of the log */
            CUdeviceptr at;
            DO(cuMemAlloc_v2(&at, 1000));
            if (i % 2)
                DO(cuMemFree_v2(at));
            if (i == 20000)
                kill(getpid(), SIGKILL);
        }
        return 1;
    }
    if (strcmp(what, "exec") == 0) {
        begin_on(0);
        use(5000);
        execl("/proc/self/exe", words[0], "before", (char *)NULL);
    }
    return 2;
}
