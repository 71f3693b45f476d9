/* What a lab needs from a TLS library. One connection at a time, on a blocking socket. */
#include <stddef.h>

enum tls {
    TLS_OK,
    TLS_CLEAN, /* the other's close_notify */
    TLS_CUT,
    TLS_RESET,
    TLS_ERROR,
};

/* Its name and version. */
const char *tls_name(void);

/* For servers and clients from now on. */
enum tls tls_load(const char *certificate, const char *key, const char *ca);

enum tls tls_handshake(int fd, int as_server, const char *server_name);

/* Like "TLSv1.3". */
const char *tls_version(void);

/* All of it. */
enum tls tls_send(const unsigned char *data, size_t size);

/* At most *size bytes, and at least one; *size says how many. */
enum tls tls_receive(unsigned char *data, size_t *size);

/* close_notify. */
enum tls tls_half_close(void);

/* close_notify, and the wait for the other's. */
enum tls tls_shutdown(void);

/* Why that did not return TLS_OK, in the library's own words. */
const char *tls_words(void);

/* Sends nothing. */
void tls_free(void);
