/*
 * What execline uses of the spawn functions that skalibs has from 2.14 on, for the skalibs of this distribution:
 * start a program, with files moved about, as a child (cspawn) or as a grandchild that nobody waits for (gcspawn).
 * Both give its process id, or 0 and errno; a program that cannot be run is an error here, not a child that dies.
 */
#ifndef CSPAWN_H
#define CSPAWN_H

#include <sys/types.h>
#include <sys/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <skalibs/djbunix.h>
#include <skalibs/exec.h>
#include <skalibs/selfpipe.h>

#define CSPAWN_FLAGS_SELFPIPE_FINISH 1

typedef enum { CSPAWN_FA_CLOSE, CSPAWN_FA_MOVE } cspawn_fileaction_type;

typedef struct {
  cspawn_fileaction_type type;
  union {
    int fd;
    int fd2[2]; /* to, from */
  } x;
} cspawn_fileaction;

/* Becomes the program, or says why not by a pipe that a successful exec closes. */
static inline void cspawn_become(char const *prog, char const *const *argv, char const *const *envp, int flags,
                                 cspawn_fileaction const *actions, size_t n, int report)
{
  sigset_t none;
  int why;

  if (flags & CSPAWN_FLAGS_SELFPIPE_FINISH) selfpipe_finish();
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, 0);

  for (size_t i = 0; i < n; i++) {
    /* The way back must not be in the way of a file that is moved. */
    if (actions[i].type == CSPAWN_FA_MOVE && actions[i].x.fd2[0] == report) {
      report = fcntl(report, F_DUPFD_CLOEXEC, report + 1);
      if (report < 0) _exit(127);
    }
    switch (actions[i].type) {
      case CSPAWN_FA_CLOSE: fd_close(actions[i].x.fd); break;
      case CSPAWN_FA_MOVE:
        if (fd_move(actions[i].x.fd2[0], actions[i].x.fd2[1]) < 0) goto failed;
        break;
    }
  }
  exec_ae(prog, argv, envp);

failed:
  why = errno;
  while (write(report, &why, sizeof why) < 0 && errno == EINTR);
  _exit(127);
}

static inline pid_t cspawn(char const *prog, char const *const *argv, char const *const *envp, int flags,
                           cspawn_fileaction const *actions, size_t n)
{
  int report[2], why = 0;
  ssize_t got;
  pid_t pid;

  if (pipecoe(report) < 0) return 0;
  pid = fork();
  if (!pid) cspawn_become(prog, argv, envp, flags, actions, n, report[1]);
  close(report[1]);
  if (pid < 0) {
    why = errno;
  } else {
    do got = read(report[0], &why, sizeof why);
    while (got < 0 && errno == EINTR);
    if (got > 0) waitpid(pid, 0, 0);
  }
  close(report[0]);
  if (!why) return pid;
  errno = why;
  return 0;
}

static inline pid_t gcspawn(char const *prog, char const *const *argv, char const *const *envp, int flags,
                            cspawn_fileaction const *actions, size_t n)
{
  struct { pid_t pid; int why; } answer = { 0, ECHILD };
  int back[2];
  pid_t middle;

  if (pipecoe(back) < 0) return 0;
  middle = fork();
  if (!middle) {
    answer.pid = cspawn(prog, argv, envp, flags, actions, n);
    answer.why = answer.pid ? 0 : errno;
    _exit(write(back[1], &answer, sizeof answer) != sizeof answer);
  }
  close(back[1]);
  if (middle < 0) {
    answer.why = errno;
  } else {
    if (read(back[0], &answer, sizeof answer) != sizeof answer) answer.pid = 0;
    waitpid(middle, 0, 0);
  }
  close(back[0]);
  if (!answer.pid) errno = answer.why;
  return answer.pid;
}

#endif
