/* A lab in C: the line protocol and the sockets. tls.h is the TLS library. */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls.h"

enum { PERIOD = 251, AT_ONCE = 1 << 16 };

static const char *const KINDS[] = {"", "clean", "cut", "reset", "error"};

/* A header that promises 256 bytes, and some of them: RFC 9846 section 5.1. */
static const char PART_OF_A_RECORD[25] = {0x17, 3, 3, 1, 0};

static unsigned char pattern[PERIOD + AT_ONCE];
static unsigned char received_data[AT_ONCE];

static int listener;
static int connection = -1;
static size_t sent, received;
static int half_closed;

static void check(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static struct sockaddr_in local(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int listen_somewhere(void)
{
    struct sockaddr_in address = local(0);
    socklen_t size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(listener, (struct sockaddr *)&address, size), "bind");
    check(listen(listener, 1), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
    return ntohs(address.sin_port);
}

static void failed(enum tls why)
{
    printf("failed %s %s\n", KINDS[why], tls_words());
}

static void done(enum tls result)
{
    if (result == TLS_OK)
        puts("done");
    else
        failed(result);
}

static void ended(enum tls how, size_t size)
{
    printf("end %s %zu %s\n", KINDS[how], size, how == TLS_CLEAN ? "" : tls_words());
}

static void close_transport(void)
{
    if (connection >= 0) {
        tls_free();
        close(connection);
    }
    connection = -1;
}

static void handshake(int fd, int as_server)
{
    check(fd, "no connection");
    connection = fd;
    sent = received = 0;
    half_closed = 0;
    enum tls result = tls_handshake(fd, as_server, "localhost");
    if (result == TLS_OK)
        printf("handshaken %s\n", tls_version());
    else
        failed(result);
}

static void do_connect(int port)
{
    struct sockaddr_in address = local(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    handshake(fd, 0);
}

static void do_send(size_t size)
{
    for (size_t until = sent + size; sent < until;) {
        size_t part = until - sent < AT_ONCE ? until - sent : AT_ONCE;
        enum tls result = tls_send(pattern + sent % PERIOD, part);
        if (result != TLS_OK) {
            failed(result);
            return;
        }
        sent += part;
    }
    puts("sent");
}

static void do_receive(size_t size, int to_the_end)
{
    size_t before = received;
    while (to_the_end || received < before + size) {
        size_t part = AT_ONCE;
        if (!to_the_end && before + size - received < part)
            part = before + size - received;
        enum tls result = tls_receive(received_data, &part);
        if (result != TLS_OK) {
            ended(result, received - before);
            return;
        }
        if (memcmp(received_data, pattern + received % PERIOD, part) != 0) {
            puts("failed not what was sent");
            return;
        }
        received += part;
    }
    printf("received %zu\n", size);
}

static enum tls half_close(void)
{
    enum tls result = half_closed ? TLS_OK : tls_half_close();
    half_closed = 1;
    return result;
}

static void do_shutdown(void)
{
    enum tls result = tls_shutdown();
    ended(result == TLS_OK ? TLS_CLEAN : result, 0);
    close_transport();
}

static void do_cut_inside(void)
{
    ssize_t size = write(connection, PART_OF_A_RECORD, sizeof PART_OF_A_RECORD);
    done(size == sizeof PART_OF_A_RECORD ? TLS_OK : TLS_ERROR);
    close_transport();
}

static void do_reset(void)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(connection, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close_transport();
    done(TLS_OK);
}

static void obey(const char *command, const char *number)
{
    size_t n = number ? strtoul(number, NULL, 10) : 0;
    if (strcmp(command, "accept") == 0) {
        close_transport();
        handshake(accept(listener, NULL, NULL), 1);
    } else if (strcmp(command, "connect") == 0) {
        close_transport();
        do_connect((int)n);
    } else if (connection < 0) {
        puts("failed error there is no connection");
    } else if (strcmp(command, "send") == 0) {
        do_send(n);
    } else if (strcmp(command, "receive") == 0) {
        do_receive(n, number == NULL);
    } else if (strcmp(command, "half-close") == 0) {
        done(half_close());
    } else if (strcmp(command, "shutdown") == 0) {
        do_shutdown();
    } else if (strcmp(command, "close") == 0) {
        done(half_close());
        close_transport();
    } else if (strcmp(command, "close-transport") == 0) {
        close_transport();
        done(TLS_OK);
    } else if (strcmp(command, "cut-inside") == 0) {
        do_cut_inside();
    } else if (strcmp(command, "reset") == 0) {
        do_reset();
    } else {
        printf("failed error what is %s\n", command);
    }
}

int main(int count, char **arguments)
{
    char line[100];
    if (count != 4)
        return 2;
    signal(SIGPIPE, SIG_IGN); /* an error reports it, too */
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = i % PERIOD;
    if (tls_load(arguments[1], arguments[2], arguments[3]) != TLS_OK) {
        fprintf(stderr, "%s\n", tls_words());
        return 1;
    }
    printf("listening %d %s\n", listen_somewhere(), tls_name());
    while (fgets(line, sizeof line, stdin)) {
        const char *command = strtok(line, " \n");
        if (command)
            obey(command, strtok(NULL, " \n"));
    }
    close_transport();
    return 0;
}
