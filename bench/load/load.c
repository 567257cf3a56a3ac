/* The load tool of `make bench-tunnel`: one thread, epoll, Linux, no dependencies. All addresses are on 127.0.0.1.
 *
 *   load serve                           server; prints "port N". The first byte of a connection says what it gets:
 *                                        E everything back, D bytes without end, U nothing, A 8 bytes for each 64 KiB,
 *                                        G a small HTTP answer for each head of a request.
 *   load run PORT WARMUP SECONDS KIND=COUNT[xSIZE] ...
 *                                        client; all kinds at once, each in its own connections: echo (SIZE bytes out
 *                                        and back, one at a time), connect (connect, a byte out and back, close), down,
 *                                        up, ack (up, and the far side writes), stall (down that is never read).
 *                                        Prints "measuring" after the warm-up, and one line of JSON at the end.
 *   load shape PORT BYTES_PER_SECOND DELAY_MICROSECONDS
 *                                        a link in front of PORT: rate shared by all connections and delay, each way;
 *                                        0 bytes per second is no bound. Prints "port N".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, EVENTS = 256, ACK_EVERY = 64 * 1024, ACK_BYTES = 8 };
static char buffer[PIECE], pattern[PIECE];
static int poller;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static void watch(int op, int fd, uint32_t events, void *data) {
    struct epoll_event e = {.events = events, .data.ptr = data};
    if (epoll_ctl(poller, op, fd, &e)) die("epoll_ctl");
}

static int no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static int listener(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = loopback(0);
    socklen_t size = sizeof a;
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) die("listen");
    if (getsockname(fd, (struct sockaddr *)&a, &size)) die("getsockname");
    printf("port %d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static int connected(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = loopback(port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a)) die("connect");
    return no_delay(fd);
}

/* ---- serve ---- */

#define BODY                                                                                        \
    "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":" \
    "\"6f1c1c5e-8a35-4b52-9d0e-2b7a6e0d3c11\",\"resourceVersion\":\"4711\",\"creationTimestamp\":"       \
    "\"2026-01-01T00:00:00Z\",\"labels\":{\"app\":\"web\"}},\"data\":{\"colour\":\"blue\"}}"
static char answers[PIECE]; /* one behind another, so that many can go at once */
static size_t answer;       /* bytes of one */

typedef struct {
    int fd, heads, ended;
    char mode;
    uint32_t events;
    uint64_t owed, got; /* bytes to write; bytes read since the last acknowledgement */
    size_t at;          /* HTTP: how far into an answer */
} Served;

static void drop(Served *c) {
    close(c->fd);
    free(c);
}

static void take(Served *c, size_t n) {
    if (!c->mode) c->mode = buffer[0];
    if (c->mode == 'E') c->owed += n;
    if (c->mode == 'D') c->owed = UINT64_MAX;
    if (c->mode == 'A') {
        c->got += n;
        c->owed += c->got / ACK_EVERY * ACK_BYTES;
        c->got %= ACK_EVERY;
    }
    if (c->mode == 'G')
        for (size_t i = 0; i < n; i++) {
            c->heads = buffer[i] == "\r\n\r\n"[c->heads] ? c->heads + 1 : buffer[i] == '\r';
            if (c->heads == 4) c->heads = 0, c->owed += answer;
        }
}

/* Write what is owed; 0 if the connection is over. */
static int pay(Served *c) {
    const size_t whole = sizeof answers / answer * answer;
    int full = 0;
    while (c->owed && !full) {
        const char *from = c->mode == 'G' ? answers + c->at : pattern;
        size_t most = c->mode == 'G' ? whole - c->at : PIECE;
        ssize_t n = write(c->fd, from, c->owed < most ? c->owed : most);
        if (n < 0 && errno != EAGAIN) return 0;
        full = n < 0 || c->mode == 'D'; /* one piece a turn: others want theirs */
        if (n > 0 && c->mode != 'D') c->owed -= (uint64_t)n, c->at = (c->at + (size_t)n) % answer;
    }
    uint32_t events = (c->ended ? 0 : EPOLLIN) | (c->owed ? EPOLLOUT : 0);
    if (events != c->events) watch(EPOLL_CTL_MOD, c->fd, c->events = events, c);
    return c->owed || !c->ended;
}

static void serve(void) {
    struct epoll_event events[EVENTS];
    int fd = listener();
    memset(pattern, 'E', PIECE);
    answer = (size_t)snprintf(answers, PIECE, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                              sizeof BODY - 1, BODY);
    for (size_t i = answer; i + answer <= PIECE; i += answer) memcpy(answers + i, answers, answer);
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, NULL);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            Served *c = events[i].data.ptr;
            if (!c) {
                int new = accept4(fd, NULL, NULL, SOCK_NONBLOCK);
                if (new < 0) continue;
                c = calloc(1, sizeof *c);
                c->fd = no_delay(new);
                watch(EPOLL_CTL_ADD, new, c->events = EPOLLIN, c);
                continue;
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                ssize_t n = read(c->fd, buffer, PIECE);
                if (n > 0) take(c, (size_t)n);
                if (n == 0) c->ended = 1;
                if ((n < 0 && errno != EAGAIN) || (n == 0 && c->mode == 'D')) {
                    drop(c);
                    continue;
                }
            }
            if (!pay(c)) drop(c);
        }
    }
}

/* ---- run ---- */

enum kind { ECHO, CONNECT, DOWN, UP, ACK, STALL, KINDS };
static const char *const NAMES[KINDS] = {"echo", "connect", "down", "up", "ack", "stall"};
static const char FIRST[KINDS] = {'E', 'E', 'D', 'U', 'A', 'D'};

typedef struct {
    enum kind kind;
    int count, failed;
    size_t size;
    uint64_t ops, all_ops, in, all_in, out, all_out; /* of the measured time, and with the warm-up */
    uint64_t *delays, room;
} Group;

typedef struct {
    Group *group;
    int fd;
    size_t got;
    uint64_t began;
} Flow;

static int measuring, target;

static void done(Flow *f) {
    Group *g = f->group;
    uint64_t now = now_ns();
    g->all_ops++;
    if (measuring) {
        if (g->ops == g->room && !(g->delays = realloc(g->delays, (g->room = g->room * 2 + 1024) * sizeof *g->delays)))
            die("memory");
        g->delays[g->ops++] = now - f->began;
    }
    f->began = now;
}

static void lost(Flow *f) {
    f->group->failed++;
    close(f->fd);
    f->fd = -1;
}

static void ask(Flow *f) {
    f->got = 0;
    if (write(f->fd, pattern, f->group->size) != (ssize_t)f->group->size) lost(f);
}

static void dial(Flow *f) {
    struct sockaddr_in a = loopback(target);
    f->began = now_ns();
    f->fd = no_delay(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (f->fd < 0) die("socket");
    if (connect(f->fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) {
        lost(f);
        return;
    }
    int early = write(f->fd, "E", 1) == 1; /* on loopback the connection is mostly there at once */
    watch(EPOLL_CTL_ADD, f->fd, early ? EPOLLIN : EPOLLOUT, f);
}

static void start(Flow *f) {
    Group *g = f->group;
    if (g->kind == CONNECT) {
        dial(f);
        return;
    }
    f->fd = connected(target);
    if (write(f->fd, &FIRST[g->kind], g->kind != ECHO) < 0) die("write");
    int flags = g->kind == UP ? EPOLLOUT : g->kind == ACK ? EPOLLIN | EPOLLOUT : g->kind == STALL ? 0 : EPOLLIN;
    watch(EPOLL_CTL_ADD, f->fd, (uint32_t)flags, f);
    f->began = now_ns();
    if (g->kind == ECHO) ask(f);
}

static void event(Flow *f, uint32_t events) {
    Group *g = f->group;
    if (g->kind == CONNECT && events == EPOLLOUT) {
        if (write(f->fd, "E", 1) != 1) lost(f), dial(f);
        else watch(EPOLL_CTL_MOD, f->fd, EPOLLIN, f);
        return;
    }
    if (events & ~(uint32_t)EPOLLOUT) {
        ssize_t n = recv(f->fd, buffer, g->kind == ECHO ? g->size - f->got : PIECE, MSG_DONTWAIT);
        if (n <= 0 && !(n < 0 && errno == EAGAIN)) {
            lost(f);
            if (g->kind == CONNECT) dial(f);
            return;
        }
        if (n < 0) return;
        g->all_in += (uint64_t)n;
        if (measuring) g->in += (uint64_t)n;
        if (g->kind == CONNECT) {
            done(f);
            close(f->fd);
            dial(f);
            return;
        }
        if (g->kind == ECHO && (f->got += (size_t)n) == g->size) {
            done(f);
            ask(f);
        }
    }
    if (events & EPOLLOUT) {
        ssize_t n = send(f->fd, pattern, PIECE, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            lost(f);
            return;
        }
        if (n > 0) g->all_out += (uint64_t)n;
        if (n > 0 && measuring) g->out += (uint64_t)n;
    }
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double percentile(const Group *g, int percent) { /* nearest rank, in ms */
    return g->ops ? (double)g->delays[(g->ops * (uint64_t)percent + 99) / 100 - 1] / 1e6 : -1;
}

static void report(Group *groups, int count, double seconds) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"seconds\":%.6f,\"cpu_seconds\":%.6f", seconds, cpu);
    for (int i = 0; i < count; i++) {
        Group *g = &groups[i];
        qsort(g->delays, g->ops, sizeof *g->delays, by_size);
        printf(",\"%s\":{\"ops\":%lu,\"all_ops\":%lu,\"in\":%lu,\"all_in\":%lu,\"out\":%lu,\"all_out\":%lu,"
               "\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"failed\":%d}",
               NAMES[g->kind], g->ops, g->all_ops, g->in, g->all_in, g->out, g->all_out,
               percentile(g, 50), percentile(g, 99), g->failed);
    }
    printf("}\n");
}

static void run(int argc, char **argv) {
    struct epoll_event events[EVENTS];
    double warmup = atof(argv[1]), seconds = atof(argv[2]);
    Group groups[KINDS] = {0};
    int count = argc - 3;
    target = atoi(argv[0]);
    memset(pattern, 'E', PIECE);
    if (count > KINDS) count = KINDS;
    for (int i = 0; i < count; i++) {
        Group *g = &groups[i];
        char *equals = strchr(argv[3 + i], '='), *times = equals ? strchr(equals, 'x') : NULL;
        size_t length = equals ? (size_t)(equals - argv[3 + i]) : 0;
        while (g->kind < KINDS && (strlen(NAMES[g->kind]) != length || strncmp(NAMES[g->kind], argv[3 + i], length))) g->kind++;
        g->count = equals ? atoi(equals + 1) : 0;
        g->size = times ? (size_t)atol(times + 1) : 1;
        if (g->kind == KINDS || g->count < 1 || g->size < 1 || g->size > 16384) {
            fprintf(stderr, "load: %s: not KIND=COUNT or KIND=COUNTxSIZE with a SIZE of 1 to 16384\n", argv[3 + i]);
            exit(2);
        }
        Flow *flows = calloc((size_t)g->count, sizeof *flows);
        for (int j = 0; j < g->count; j++) {
            flows[j].group = g;
            start(&flows[j]);
        }
    }
    uint64_t from = now_ns() + (uint64_t)(warmup * 1e9), until = from + (uint64_t)(seconds * 1e9), now;
    while ((now = now_ns()) < until) {
        if (!measuring && now >= from) {
            measuring = 1;
            from = now;
            printf("measuring\n");
            fflush(stdout);
        }
        int ready = epoll_wait(poller, events, EVENTS, 5);
        for (int i = 0; i < ready; i++) {
            Flow *f = events[i].data.ptr;
            if (f->fd >= 0) event(f, events[i].events);
        }
    }
    report(groups, count, (double)(now - from) / 1e9);
}

/* ---- shape ---- */

enum { CELL = 4096, BACKLOG = 512 * 1024, SOCKET_BYTES = 128 * 1024 };

typedef struct Cell {
    struct Cell *next;
    uint64_t due;
    size_t size, at;
    char data[CELL];
} Cell;

typedef struct Side { /* one direction of one connection: bytes read at `from`, written at `peer->from` */
    struct Side *peer, *next;
    int from, way, ended, done, blocked;
    uint32_t events;
    size_t backlog;
    Cell *first, *last;
} Side;

static Side *sides;
static uint64_t busy_until[2], rate, delay_ns;

static void rewatch(Side *s) {
    uint32_t events = (s->ended || s->backlog >= BACKLOG ? 0 : EPOLLIN) | (s->peer->blocked ? EPOLLOUT : 0);
    if (events != s->events) watch(EPOLL_CTL_MOD, s->from, s->events = events, s);
}

static void admit(int fd, int port) {
    Side *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    int size = SOCKET_BYTES;
    a->from = no_delay(fd);
    b->from = connected(port);
    a->peer = b, b->peer = a, b->way = 1, a->next = b, b->next = sides, sides = a;
    for (Side *s = a; s; s = s == a ? b : NULL) {
        setsockopt(s->from, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        setsockopt(s->from, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        watch(EPOLL_CTL_ADD, s->from, s->events = EPOLLIN, s);
    }
}

static void arrive(Side *s) {
    while (s->backlog < BACKLOG && !s->ended) {
        Cell *cell = malloc(sizeof *cell);
        ssize_t n = recv(s->from, cell->data, CELL, MSG_DONTWAIT);
        if (n <= 0) {
            free(cell);
            s->ended = !(n < 0 && errno == EAGAIN);
            break;
        }
        uint64_t now = now_ns(), *busy = &busy_until[s->way];
        *busy = (*busy > now ? *busy : now) + (rate ? (uint64_t)n * 1000000000u / rate : 0);
        cell->due = *busy + delay_ns;
        cell->size = (size_t)n, cell->at = 0, cell->next = NULL;
        *(s->first ? &s->last->next : &s->first) = cell;
        s->last = cell, s->backlog += (size_t)n;
        if (n < CELL) break;
    }
}

/* Hand on what is due; returns when the next cell is, 0 for none. */
static uint64_t deliver(Side *s) {
    uint64_t now = now_ns();
    while (s->first && s->first->due <= now && !s->blocked) {
        Cell *cell = s->first;
        ssize_t n = send(s->peer->from, cell->data + cell->at, cell->size - cell->at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) n = (ssize_t)(cell->size - cell->at); /* nobody is there: forget it */
        if (n < 0) s->blocked = 1;
        else if ((cell->at += (size_t)n) == cell->size) {
            s->first = cell->next;
            s->backlog -= cell->size;
            free(cell);
        }
    }
    if (s->ended && !s->first && !s->done) {
        shutdown(s->peer->from, SHUT_WR);
        s->done = 1;
    }
    return s->first && !s->blocked ? s->first->due : 0;
}

static void bury(void) {
    for (Side **at = &sides; *at;) {
        Side *a = *at, *b = a->next;
        if (!a->done || !b->done) {
            at = &b->next;
            continue;
        }
        *at = b->next;
        close(a->from), close(b->from);
        free(a), free(b);
    }
}

static void shape(int port) {
    struct epoll_event events[EVENTS];
    int fd = listener(), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, &fd);
    watch(EPOLL_CTL_ADD, timer, EPOLLIN, &timer);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            Side *s = events[i].data.ptr;
            uint64_t ticks;
            if (events[i].data.ptr == &timer) {
                if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer");
            } else if (events[i].data.ptr == &fd) {
                int new = accept4(fd, NULL, NULL, 0);
                if (new >= 0) admit(new, port);
            } else {
                if (events[i].events & EPOLLOUT) s->peer->blocked = 0;
                if (events[i].events & (EPOLLHUP | EPOLLERR)) s->ended = s->peer->ended = 1;
                else if (events[i].events & EPOLLIN) arrive(s);
            }
        }
        uint64_t next = 0;
        for (Side *s = sides; s; s = s->next) {
            uint64_t due = deliver(s);
            if (due && (!next || due < next)) next = due;
        }
        bury();
        for (Side *s = sides; s; s = s->next) rewatch(s);
        struct itimerspec when = {.it_value = {(time_t)(next / 1000000000u), (long)(next % 1000000000u)}};
        if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL)) die("timer");
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if ((poller = epoll_create1(0)) < 0) die("epoll");
    if (argc == 2 && !strcmp(argv[1], "serve")) serve();
    if (argc >= 6 && !strcmp(argv[1], "run")) {
        run(argc - 2, argv + 2);
        return 0;
    }
    if (argc == 5 && !strcmp(argv[1], "shape")) {
        rate = strtoull(argv[3], NULL, 10);
        delay_ns = strtoull(argv[4], NULL, 10) * 1000;
        shape(atoi(argv[2]));
    }
    fprintf(stderr, "usage: load serve | run PORT WARMUP SECONDS KIND=COUNT[xSIZE] ... | shape PORT BYTES_PER_SECOND DELAY_MICROSECONDS\n");
    return 2;
}
