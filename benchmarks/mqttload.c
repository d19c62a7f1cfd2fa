/* mqttload: a single-threaded epoll MQTT load generator.
 *
 * It drives any MQTT 3.1 / 3.1.1 / 5.0 broker over plain TCP on loopback and prints one JSON line.
 *   cc -O2 -o mqttload mqttload.c
 *   ./mqttload -p 1883 -m pairs -P 10 -S 10 -q 0 -n 20000 -s 64
 * Modes
 *   pairs    publisher i -> topic i -> subscriber i            (P == S)
 *   fanout   every publisher -> one topic -> every subscriber
 *   fanin    publisher i -> topic load/i -> S subscribers on load/#
 *   shared   every publisher -> one topic -> S members of one shared group
 *   connect  n connections opened and closed, -c at once
 *   idle     n connections opened and held for -d seconds (the JSON line comes when all are up; a second one at the
 *            end, or at SIGTERM, says how many the broker has dropped meanwhile)
 *   retain   each publisher leaves n retained messages, each on a topic of its own (retained/<publisher>/<k>)
 *   replay   one subscriber to # which expects n retained messages, and subscribes again when it has them,
 *            for -d seconds (how long until the first one, how long until all)
 * Options
 *   -h host -p port -V 3|4|5 -q qos -n messages per publisher -s payload bytes
 *   -w window of unacknowledged QoS 1/2 messages a publisher (default 20; keep it within the broker's Receive Maximum)
 *   -r total publish rate in msg/s (0 = as fast as the broker takes them)
 *   -d seconds: time limit of a run (default 60) / hold time in idle / running time in replay
 *   -c concurrency in connect/idle  -u user -x password -k keepalive
 *   -C the subscribers' sessions are persistent (clean session 0)
 *   -t the first level of all topics, "load" unless given (in pairs, fanout, fanin, shared)
 * Output
 *   received counts every message; duplicates and misordered count those that were not the next one of their publisher
 *   (payloads of 16 bytes and more carry publisher and sequence number); refused counts acknowledgements with an error code or of
 *   the other QoS;
 *   load_cpu_s and load_cpu (share of one core) are this program's own cost of the measured phase: near 1.00 it is the
 *   generator that limits the figure, not the broker.
 * Exit code: 0 all arrived, 1 something was lost or refused, 2 wrong use.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

typedef unsigned char u8;
enum { PUB, SUB, PROBE };
enum { CONNECTING, WAIT_CONNACK, WAIT_SUBACK, READY, DONE };

typedef struct {
    int fd, role, state, idx, want_out, queued, settled;
    u8 *rest; size_t rest_len;                       /* the beginning of a packet whose end has not arrived */
    u8 *out; size_t out_len, out_off, out_cap;
    uint16_t next_id; int inflight; long sent, acked, recvd;
    char topic[64]; u8 *pkt; size_t pkt_len, id_off, ts_off;
    uint32_t *next_seq;                              /* subscriber: the next sequence number of each publisher */
    uint64_t t_open;
} conn;

static const char *host = "127.0.0.1", *user, *pass, *mode = "pairs", *prefix = "load";
static int port = 1883, ver = 4, qos, P = 1, S = 1, window = 20, conc = 50, keepalive = 0;
static long N = 10000; static int psize = 64; static double rate, limit_s = 60;
static int persistent; /* the sessions of subscribers outlive their connections */
static int retaining, pairing; /* the modes that need to be told apart for each message */
static int ep; static conn *C; static int nC;
static conn **todo; static int n_todo; /* publishers that stopped because of the burst limit only */
static long total_sent, total_acked, total_recv, total_retained, failed, ready_n, settled_n, duplicates, misordered, refused;
static uint64_t t_start, t_end, t_first_retained;
static volatile sig_atomic_t stopped;
#define NB 4096
static long hist[NB]; static long hist_n; static uint64_t lat_max;
#define RX (1 << 20)
static u8 rx[RX];

static uint64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static double since(uint64_t t) { return (now_ns() - t) / 1e9; }
static void die(const char *m) { perror(m); exit(2); }
static void on_term(int s) { (void)s; stopped = 1; }
static double cpu_s(void) {
    struct rusage ru; getrusage(RUSAGE_SELF, &ru);
    return ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

/* log-linear histogram: 64 sub-buckets per power of two of microseconds */
static int bucket(uint64_t ns) {
    uint64_t us = ns / 1000; if (us < 64) return (int)us;
    int e = 63 - __builtin_clzll(us); int b = 64 + (e - 6) * 64 + (int)((us >> (e - 6)) - 64);
    return b < NB ? b : NB - 1;
}
static double bucket_ms(int b) {
    if (b < 64) return b / 1000.0;
    int e = (b - 64) / 64 + 6; return (double)((uint64_t)(64 + (b - 64) % 64) << (e - 6)) / 1000.0;
}
static double quantile(double q) {
    long want = (long)(q * hist_n), s = 0;
    for (int i = 0; i < NB; i++) { s += hist[i]; if (s > want) return bucket_ms(i); }
    return 0;
}
static void note(uint64_t ns) { hist[bucket(ns)]++; hist_n++; if (ns > lat_max) lat_max = ns; }
static void forget(void) { memset(hist, 0, sizeof hist); hist_n = 0; lat_max = 0; }

static void outgrow(conn *c, size_t n) {
    if (c->out_off == c->out_len) c->out_off = c->out_len = 0;
    if (c->out_len + n > c->out_cap) {
        if (c->out_off) { memmove(c->out, c->out + c->out_off, c->out_len - c->out_off); c->out_len -= c->out_off; c->out_off = 0; }
        if (c->out_len + n > c->out_cap) { c->out_cap = (c->out_len + n) * 2; c->out = realloc(c->out, c->out_cap); if (!c->out) die("realloc"); }
    }
}
static void put(conn *c, const void *p, size_t n) { outgrow(c, n); memcpy(c->out + c->out_len, p, n); c->out_len += n; }
static size_t varint(u8 *b, size_t v) { size_t i = 0; do { b[i] = v & 127; v >>= 7; if (v) b[i] |= 128; i++; } while (v); return i; }
static size_t str(u8 *b, const char *s) { size_t n = strlen(s); b[0] = n >> 8; b[1] = n; memcpy(b + 2, s, n); return n + 2; }

static void want(conn *c, int out) {
    if (c->want_out == out) return;
    struct epoll_event e = { .events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c };
    c->want_out = out; epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}
static void settle(conn *c) { if (!c->settled) { c->settled = 1; settled_n++; } }
static void slim(conn *c) { /* a connection that only waits needs no buffers: 100,000 of them must fit */
    free(c->rest); c->rest = 0; c->rest_len = 0;
    if (c->out_off == c->out_len) { free(c->out); c->out = 0; c->out_len = c->out_off = c->out_cap = 0; }
}
static void lost(conn *c) {
    if (c->fd >= 0) { epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, 0); close(c->fd); c->fd = -1; }
    if (c->state != DONE) { failed++; c->state = DONE; }
    c->out_off = c->out_len; slim(c); settle(c);
}
static void flush(conn *c) {
    while (c->fd >= 0 && c->out_off < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (n < 0) { if (errno == EINTR) continue; if (errno == EAGAIN) break; lost(c); return; }
        c->out_off += n;
    }
    if (c->fd >= 0) want(c, c->out_off < c->out_len);
}
static void send_connect(conn *c) {
    u8 b[1024], v[1000]; size_t n = 0; char id[64];
    snprintf(id, sizeof id, ver == 3 ? "%d%c%d" : "load-%d-%c-%d", getpid(), "psx"[c->role], c->idx); /* 3.1 allows 23 characters */
    n += str(v + n, ver == 3 ? "MQIsdp" : "MQTT"); v[n++] = ver;
    int kept = persistent && c->role == SUB;
    v[n++] = (kept ? 0 : 2) | (user ? 128 : 0) | (pass ? 64 : 0); v[n++] = keepalive >> 8; v[n++] = keepalive;
    if (ver == 5) {
        v[n++] = kept ? 8 : 3; v[n++] = 0x21; v[n++] = 0xff; v[n++] = 0xff;
        if (kept) { v[n++] = 0x11; v[n++] = 0; v[n++] = 0; v[n++] = 0x0e; v[n++] = 0x10; } /* an hour */
    }
    n += str(v + n, id); if (user) n += str(v + n, user); if (pass) n += str(v + n, pass);
    b[0] = 0x10; size_t h = 1 + varint(b + 1, n); memcpy(b + h, v, n); put(c, b, h + n); c->state = WAIT_CONNACK;
}
static void send_subscribe(conn *c) {
    u8 b[256], v[200]; size_t n = 0; v[n++] = 0; v[n++] = 1; if (ver == 5) v[n++] = 0;
    n += str(v + n, c->topic); v[n++] = qos;
    b[0] = 0x82; size_t h = 1 + varint(b + 1, n); memcpy(b + h, v, n); put(c, b, h + n); c->state = WAIT_SUBACK;
}
static void build_publish(conn *c) {
    u8 *v = malloc(psize + 256); size_t n = 0; n += str(v + n, c->topic);
    size_t idv = n; if (qos) n += 2; if (ver == 5) v[n++] = 0;
    size_t tsv = n; memset(v + n, 'x', psize); n += psize;
    free(c->pkt); c->pkt = malloc(n + 8); c->pkt[0] = 0x30 | qos << 1 | retaining; size_t h = 1 + varint(c->pkt + 1, n);
    memcpy(c->pkt + h, v, n); c->pkt_len = h + n; c->id_off = h + idv; c->ts_off = h + tsv; free(v);
}
static double allowed(void) { return rate ? since(t_start) * rate / P : 1e18; }
static void again(conn *c) { if (!c->queued) { c->queued = 1; todo[n_todo++] = c; } }
static void pump(conn *c) {
    if (c->role != PUB || c->state != READY || !t_start) return;
    double quota = allowed(); int burst = 0, full = 0;
    while (c->sent < N && c->sent < quota && c->fd >= 0) {
        if (qos && c->inflight >= window) break;
        if (c->out_len - c->out_off > 128 * 1024) { full = 1; break; }
        if (++burst > 512) { again(c); break; }
        if (retaining) { snprintf(c->topic, sizeof c->topic, "retained/%d/%ld", c->idx, c->sent); build_publish(c); }
        put(c, c->pkt, c->pkt_len); u8 *p = c->out + c->out_len - c->pkt_len;
        if (qos) { if (!++c->next_id) c->next_id = 1; p[c->id_off] = c->next_id >> 8; p[c->id_off + 1] = c->next_id; c->inflight++; }
        if (psize >= 8) { uint64_t t = now_ns(); memcpy(p + c->ts_off, &t, 8); }
        if (psize >= 16) { uint32_t who[2] = { (uint32_t)c->idx, (uint32_t)c->sent }; memcpy(p + c->ts_off + 8, who, 8); }
        c->sent++; total_sent++;
    }
    flush(c);
    if (full && c->fd >= 0 && !c->want_out) again(c); /* all of it is out: nobody will say that there is room */
}
static void ack(conn *c, u8 type, const u8 *id) { u8 b[4] = { type, 2, id[0], id[1] }; put(c, b, 4); }

static void message(conn *c, u8 h, u8 *b, size_t n) {
    size_t tl = n < 2 ? n : (size_t)(b[0] << 8 | b[1]), o = 2 + tl; int q = h >> 1 & 3; u8 *id = b + o; if (q) o += 2;
    if (ver == 5 && o < n) { size_t l = 0, s = 0; do { l |= (size_t)(b[o] & 127) << s; s += 7; } while (b[o++] & 128 && o < n); o += l; }
    if (o > n) { fprintf(stderr, "malformed PUBLISH\n"); lost(c); return; }
    uint64_t t_now = now_ns();
    if (q == 1) ack(c, 0x40, id); else if (q == 2) ack(c, 0x50, id);
    if (c->role == PROBE) { if (h & 1) { if (!total_retained++) t_first_retained = t_now; } return; } /* replay */
    if (psize >= 8 && n - o >= 8) { uint64_t t; memcpy(&t, b + o, 8); if (t_now - t < 1000000000000ull) note(t_now - t); }
    if (c->next_seq && n - o >= 16) {
        uint32_t who[2]; memcpy(who, b + o + 8, 8); uint32_t slot = pairing ? 0 : who[0];
        if (slot < (uint32_t)P) { uint32_t next = c->next_seq[slot];
            if (who[1] < next) duplicates++; else { if (who[1] > next) misordered++; c->next_seq[slot] = who[1] + 1; } }
    }
    c->recvd++; total_recv++; t_end = t_now;
}
static void acknowledged(conn *c, int error) { c->inflight--; c->acked++; total_acked++; if (error) refused++; }
static void packet(conn *c, u8 h, u8 *b, size_t n) {
    int error = ver == 5 && n > 2 && b[2] >= 0x80; /* reason code of PUBACK, PUBREC, PUBCOMP */
    switch (h >> 4) {
    case 2: if (n < 2 || b[1]) { fprintf(stderr, "connack refused %d\n", n > 1 ? b[1] : -1); lost(c); return; }
        if (c->role == SUB) send_subscribe(c); else { c->state = READY; ready_n++; settle(c); } break;
    case 9: if (!n || b[n - 1] >= 0x80) { fprintf(stderr, "suback refused %d\n", n ? b[n - 1] : -1); lost(c); return; }
        c->state = READY; if (c->role == SUB) ready_n++; break;
    case 3: message(c, h, b, n); break;
    case 4: acknowledged(c, error || qos != 1); break;
    case 5: if (error) acknowledged(c, error); else ack(c, 0x62, b); break;
    case 6: ack(c, 0x70, b); break;
    case 7: acknowledged(c, error || qos != 2); break;
    case 14: fprintf(stderr, "disconnected by the broker, reason %d\n", n ? b[0] : 0); lost(c); break;
    default: break;
    }
}
static void readable(conn *c) {
    for (int round = 0; round < 8 && c->fd >= 0; round++) {
        if (c->rest_len) memcpy(rx, c->rest, c->rest_len);
        size_t room = RX - c->rest_len; ssize_t n = recv(c->fd, rx + c->rest_len, room, 0);
        if (n == 0) { lost(c); return; }
        if (n < 0) { if (errno != EAGAIN && errno != EINTR) { lost(c); return; } break; }
        size_t have = c->rest_len + n, o = 0;
        while (have - o >= 2) {
            size_t len = 0, s = 0, i = 1; int ok = 0;
            while (o + i < have && i <= 4) { u8 x = rx[o + i++]; len |= (size_t)(x & 127) << s; s += 7; if (!(x & 128)) { ok = 1; break; } }
            if (ok && len + i > RX / 2) { fprintf(stderr, "packet too large for this program\n"); lost(c); return; }
            if (!ok || have - o < i + len) break;
            packet(c, rx[o], rx + o + i, len); if (c->fd < 0) return; o += i + len;
        }
        size_t left = have - o;
        if (left) { c->rest = realloc(c->rest, left); if (!c->rest) die("realloc"); memcpy(c->rest, rx + o, left); }
        c->rest_len = left;
        if ((size_t)n < room) break;
    }
    pump(c); flush(c);
}
static void open_conn(conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); if (c->fd < 0) die("socket");
    int one = 1; setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) }; inet_pton(AF_INET, host, &a.sin_addr);
    if (nC > 20000) { /* spread over source addresses so that ports do not run out */
        struct sockaddr_in l = { .sin_family = AF_INET }; l.sin_addr.s_addr = htonl(0x7f000002 + c->idx / 20000);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (void *)&l, sizeof l)) die("bind"); }
    c->t_open = now_ns();
    if (connect(c->fd, (void *)&a, sizeof a) && errno != EINPROGRESS) { lost(c); return; }
    struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c }; c->want_out = 1; epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    c->state = CONNECTING; send_connect(c);
}
static int step(int ms) {
    struct epoll_event ev[512]; int n = epoll_wait(ep, ev, 512, ms);
    for (int i = 0; i < n; i++) {
        conn *c = ev[i].data.ptr; if (c->fd < 0) continue;
        if (ev[i].events & EPOLLOUT) { flush(c); pump(c); }
        if (c->fd >= 0 && ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    }
    return n;
}

static int run_probes(int idle) {
    nC = N; C = calloc(nC, sizeof *C); if (!C) die("calloc");
    uint64_t t0 = now_ns(), busy = t0; long next = 0; double cpu0 = cpu_s();
    conn **open = malloc(sizeof *open * conc); int n_open = 0;
    while (settled_n < nC && since(t0) < limit_s + (idle ? 600 : 0) && !stopped) {
        while (next < nC && n_open < conc) { C[next].role = PROBE; C[next].idx = next; open_conn(&C[next]); open[n_open++] = &C[next++]; }
        step(100);
        for (int i = 0; i < n_open;) { conn *c = open[i];
            if (!c->settled) { i++; continue; }
            open[i] = open[--n_open];
            if (c->state != READY) continue;
            busy = now_ns(); note(busy - c->t_open);
            if (idle) slim(c); else { u8 b[2] = { 0xe0, 0 }; put(c, b, 2); flush(c); c->state = DONE; lost(c); }
        }
    }
    double s = (busy - t0) / 1e9, cpu = cpu_s() - cpu0; if (s <= 0) s = 1e-9;
    failed += nC - settled_n;
    printf("{\"mode\":\"%s\",\"v\":%d,\"connections\":%ld,\"expected\":%d,\"failed\":%ld,\"seconds\":%.3f,\"per_s\":%.0f,\"p50_ms\":%.2f,\"p99_ms\":%.2f,"
           "\"load_cpu_s\":%.2f,\"load_cpu\":%.2f}\n", mode, ver, hist_n, nC, failed, s, hist_n / s, quantile(.5), quantile(.99), cpu, cpu / s);
    fflush(stdout);
    if (!idle) return failed != 0;
    long before = failed; t0 = now_ns();
    while (since(t0) < limit_s && !stopped) step(200);
    printf("{\"mode\":\"held\",\"connections\":%ld,\"dropped\":%ld}\n", nC - failed, failed - before);
    return failed != 0;
}

static int run_replay(void) {
    nC = 1; C = calloc(1, sizeof *C); conn *c = C; c->role = PROBE; strcpy(c->topic, "#"); open_conn(c);
    uint64_t t0 = now_ns(); while (!ready_n && !failed && since(t0) < 10) step(50);
    double first_sum = 0, first_max = 0, all_max = 0; long rounds = 0, short_of = 0; t0 = now_ns();
    while (c->fd >= 0 && !stopped && (!rounds || since(t0) < limit_s)) {
        uint64_t asked = now_ns(), quiet = asked; long last = -1; total_retained = 0; t_first_retained = 0;
        send_subscribe(c); flush(c);
        while (total_retained < N && c->fd >= 0 && !stopped) {
            step(20); if (total_retained != last) { last = total_retained; quiet = now_ns(); }
            if (since(quiet) > 5) break;
        }
        if (stopped && rounds) break; /* the round that was cut off does not count */
        if (total_retained < N) { short_of = N - total_retained; break; }
        double first = (t_first_retained - asked) / 1e6, all = (now_ns() - asked) / 1e6;
        rounds++; first_sum += first; if (first > first_max) first_max = first; if (all > all_max) all_max = all;
    }
    printf("{\"mode\":\"replay\",\"rounds\":%ld,\"expected\":%ld,\"short\":%ld,\"failed\":%ld,\"first_ms\":%.2f,\"first_max_ms\":%.2f,\"all_max_ms\":%.1f}\n",
        rounds, N, short_of, failed, rounds ? first_sum / rounds : 0, first_max, all_max);
    return failed || short_of || !rounds;
}

static int run_messages(void) {
    int fanout = !strcmp(mode, "fanout"), fanin = !strcmp(mode, "fanin"), shared = !strcmp(mode, "shared");
    if (retaining) S = 0;
    if (pairing && P != S) { fprintf(stderr, "pairs needs P == S\n"); return 2; }
    nC = P + S; C = calloc(nC, sizeof *C); todo = malloc(sizeof *todo * nC); if (!C || !todo) die("calloc");
    uint64_t t0 = now_ns();
    for (int i = 0; i < nC; i++) {
        conn *c = &C[i]; c->role = i < S ? SUB : PUB; c->idx = i < S ? i : i - S;
        if (pairing) snprintf(c->topic, 64, "%s/%d/value", prefix, c->idx);
        else if (fanout) snprintf(c->topic, 64, "%s/all/value", prefix);
        else if (shared) snprintf(c->topic, 64, c->role == SUB ? "$share/g/%s/all/value" : "%s/all/value", prefix);
        else if (c->role == SUB) snprintf(c->topic, 64, "%s/#", prefix); else snprintf(c->topic, 64, "%s/%d/value", prefix, c->idx);
        if (c->role == PUB) build_publish(c); else if (!shared) c->next_seq = calloc(pairing ? 1 : P, sizeof *c->next_seq);
        open_conn(c);
        while (i + 1 - ready_n - failed >= 200 && !failed && since(t0) < 30) step(10);
    }
    while (ready_n < nC && !failed && since(t0) < 30) step(50);
    if (ready_n < nC) { fprintf(stderr, "only %ld of %d ready, %ld failed\n", ready_n, nC, failed); return 1; }
    usleep(200000); /* let the broker come to rest, and take what was retained before this run */
    while (step(0) > 0) ;
    while (total_recv) { total_recv = 0; step(50); }
    for (int i = 0; i < S; i++) if (C[i].next_seq) memset(C[i].next_seq, 0, (pairing ? 1 : P) * sizeof *C[i].next_seq);
    forget(); duplicates = misordered = 0;

    long expect = retaining ? 0 : N * P * (fanout || fanin ? S : 1);
    long due = qos || retaining ? N * P : 0; /* acknowledgements (QoS 0 retained: messages written) */
    double cpu0 = cpu_s();
    t_start = now_ns(); t_end = t_start; for (int i = S; i < nC; i++) pump(&C[i]);
    uint64_t quiet = now_ns(); long last = -1;
    while (total_recv < expect || (qos ? total_acked : total_sent) < due) {
        if (rate) for (int i = S; i < nC; i++) pump(&C[i]);
        else for (int n = n_todo, i = n_todo = 0; i < n; i++) { conn *c = todo[i]; c->queued = 0; pump(c); } /* pump puts it back at or before i */
        step(rate ? 1 : n_todo ? 0 : 20);
        uint64_t t = now_ns(); long prog = total_recv + total_acked + total_sent; if (prog != last) { last = prog; quiet = t; }
        if ((t - quiet) / 1e9 > 3 || since(t_start) > limit_s || failed || stopped) break;
    }
    double wall = since(t_start), cpu = cpu_s() - cpu0; if (retaining) t_end = now_ns();
    double s = (t_end - t_start) / 1e9; if (s <= 0) s = 1e-9;
    printf("{\"mode\":\"%s\",\"v\":%d,\"qos\":%d,\"pubs\":%d,\"subs\":%d,\"size\":%d,\"sent\":%ld,\"acked\":%ld,\"received\":%ld,\"expected\":%ld,"
           "\"duplicates\":%ld,\"misordered\":%ld,\"refused\":%ld,\"failed\":%ld,\"seconds\":%.3f,\"sent_per_s\":%.0f,\"recv_per_s\":%.0f,"
           "\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"max_ms\":%.1f,\"load_cpu_s\":%.2f,\"load_cpu\":%.2f}\n",
        mode, ver, qos, P, S, psize, total_sent, total_acked, total_recv, expect, duplicates, misordered, refused, failed, s,
        total_sent / s, total_recv / s, quantile(.5), quantile(.99), lat_max / 1e6, cpu, cpu / (wall > 0 ? wall : 1e-9));
    return total_recv - duplicates < expect || (qos && total_acked < due) || misordered || refused || failed;
}

int main(int argc, char **argv) {
    int o; while ((o = getopt(argc, argv, "h:p:V:m:P:S:q:n:s:w:r:d:c:u:x:k:t:C")) != -1) switch (o) {
        case 'h': host = optarg; break; case 'p': port = atoi(optarg); break; case 'V': ver = atoi(optarg); break;
        case 'm': mode = optarg; break; case 'P': P = atoi(optarg); break; case 'S': S = atoi(optarg); break;
        case 'q': qos = atoi(optarg); break; case 'n': N = atol(optarg); break; case 's': psize = atoi(optarg); break;
        case 'w': window = atoi(optarg); break; case 'r': rate = atof(optarg); break; case 'd': limit_s = atof(optarg); break;
        case 'c': conc = atoi(optarg); break; case 'u': user = optarg; break; case 'x': pass = optarg; break;
        case 'C': persistent = 1; break;
        case 'k': keepalive = atoi(optarg); break; case 't': prefix = optarg; break; default: return 2; }
    static const char *modes[] = { "pairs", "fanout", "fanin", "shared", "connect", "idle", "retain", "replay" };
    int known = 0; for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) known |= !strcmp(mode, modes[i]);
    if (!known || P < 1 || S < 1 || N < 1 || qos < 0 || qos > 2 || psize < 0 || psize > RX / 4 || conc < 1 || window < 1 || strlen(prefix) > 20 || ver < 3 || ver > 5) {
        fprintf(stderr, "wrong option value (the head of mqttload.c lists them)\n"); return 2; }
    retaining = !strcmp(mode, "retain"); pairing = !strcmp(mode, "pairs");
    struct rlimit rl; getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl);
    signal(SIGTERM, on_term); signal(SIGINT, on_term);
    ep = epoll_create1(0); if (ep < 0) die("epoll_create1");
    if (!strcmp(mode, "connect") || !strcmp(mode, "idle")) return run_probes(*mode == 'i');
    return !strcmp(mode, "replay") ? run_replay() : run_messages();
}
