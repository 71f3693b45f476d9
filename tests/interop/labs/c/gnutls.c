/* GnuTLS. */
#include <stdio.h>
#include <string.h>

#include <gnutls/gnutls.h>

#include "tls.h"

static gnutls_certificate_credentials_t server, client;
static gnutls_session_t session;
static int error;

static enum tls failure(int result)
{
    error = result;
    return result == GNUTLS_E_PREMATURE_TERMINATION ? TLS_CUT : TLS_ERROR;
}

/* "call the function again": it has read part of a record, or a session ticket. */
static int again(int result)
{
    return result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED;
}

const char *tls_name(void)
{
    static char name[40];
    snprintf(name, sizeof name, "GnuTLS %s", gnutls_check_version(NULL));
    return name;
}

enum tls tls_load(const char *certificate, const char *key, const char *ca)
{
    gnutls_certificate_allocate_credentials(&server);
    gnutls_certificate_allocate_credentials(&client);
    int result = gnutls_certificate_set_x509_key_file(server, certificate, key,
                                                      GNUTLS_X509_FMT_PEM);
    if (result >= 0)
        result = gnutls_certificate_set_x509_trust_file(client, ca, GNUTLS_X509_FMT_PEM);
    return result >= 0 ? TLS_OK : failure(result);
}

enum tls tls_handshake(int fd, int as_server, const char *server_name)
{
    gnutls_init(&session, as_server ? GNUTLS_SERVER : GNUTLS_CLIENT);
    gnutls_set_default_priority(session);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, as_server ? server : client);
    if (!as_server) {
        gnutls_server_name_set(session, GNUTLS_NAME_DNS, server_name,
                               strlen(server_name));
        gnutls_session_set_verify_cert(session, server_name, 0);
    }
    gnutls_transport_set_int(session, fd);
    int result;
    do
        result = gnutls_handshake(session);
    while (result < 0 && !gnutls_error_is_fatal(result));
    return result >= 0 ? TLS_OK : failure(result);
}

const char *tls_version(void)
{
    static char name[40];
    const char *version = gnutls_protocol_get_name(gnutls_protocol_get_version(session));
    snprintf(name, sizeof name, "TLSv%s", version + 3); /* it is "TLS1.3" there */
    return name;
}

enum tls tls_send(const unsigned char *data, size_t size)
{
    while (size > 0) {
        ssize_t result = gnutls_record_send(session, data, size);
        if (again(result))
            continue;
        if (result < 0)
            return failure(result);
        data += result;
        size -= result;
    }
    return TLS_OK;
}

enum tls tls_receive(unsigned char *data, size_t *size)
{
    ssize_t result;
    do
        result = gnutls_record_recv(session, data, *size);
    while (again(result));
    if (result == 0)
        return TLS_CLEAN;
    if (result < 0)
        return failure(result);
    *size = result;
    return TLS_OK;
}

static enum tls bye(gnutls_close_request_t how)
{
    int result;
    do
        result = gnutls_bye(session, how);
    while (again(result));
    return result >= 0 ? TLS_OK : failure(result);
}

enum tls tls_half_close(void)
{
    return bye(GNUTLS_SHUT_WR);
}

enum tls tls_shutdown(void)
{
    return bye(GNUTLS_SHUT_RDWR);
}

const char *tls_words(void)
{
    return gnutls_strerror(error);
}

void tls_free(void)
{
    gnutls_deinit(session);
}
