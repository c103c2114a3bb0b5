/* The part of a newer skalibs that eltest uses. */
#ifndef STAT_H
#define STAT_H

#include <sys/stat.h>
#include <time.h>

static inline int timespec_cmp(struct timespec const *a, struct timespec const *b)
{
  if (a->tv_sec != b->tv_sec) return a->tv_sec < b->tv_sec ? -1 : 1;
  return (a->tv_nsec > b->tv_nsec) - (a->tv_nsec < b->tv_nsec);
}

#endif
