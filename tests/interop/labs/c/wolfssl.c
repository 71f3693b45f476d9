/* wolfSSL. */
#include <wolfssl/options.h>

#include <wolfssl/error-ssl.h>
#include <wolfssl/ssl.h>

#include "tls.h"

static WOLFSSL_CTX *server, *client;
static WOLFSSL *ssl;
static char words[WOLFSSL_MAX_ERROR_SZ];

static enum tls failure(int result)
{
    int error = wolfSSL_get_error(ssl, result);
    wolfSSL_ERR_error_string(error, words);
    switch (error) {
    case WOLFSSL_ERROR_ZERO_RETURN:
        return TLS_CLEAN;
    case SOCKET_PEER_CLOSED_E: /* all that it says of a RST */
        return TLS_CUT;
    }
    return TLS_ERROR;
}

const char *tls_name(void)
{
    static char name[40];
    snprintf(name, sizeof name, "wolfSSL %s", wolfSSL_lib_version());
    return name;
}

enum tls tls_load(const char *certificate, const char *key, const char *ca)
{
    wolfSSL_Init();
    server = wolfSSL_CTX_new(wolfTLS_server_method());
    client = wolfSSL_CTX_new(wolfTLS_client_method());
    if (wolfSSL_CTX_use_certificate_chain_file(server, certificate) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_use_PrivateKey_file(server, key, WOLFSSL_FILETYPE_PEM) !=
            WOLFSSL_SUCCESS ||
        wolfSSL_CTX_load_verify_locations(client, ca, NULL) != WOLFSSL_SUCCESS) {
        snprintf(words, sizeof words, "it does not take the files");
        return TLS_ERROR;
    }
    return TLS_OK;
}

enum tls tls_handshake(int fd, int as_server, const char *server_name)
{
    int result;
    ssl = wolfSSL_new(as_server ? server : client);
    wolfSSL_set_fd(ssl, fd);
    if (as_server) {
        result = wolfSSL_accept(ssl);
    } else {
        wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, server_name, XSTRLEN(server_name));
        wolfSSL_check_domain_name(ssl, server_name);
        result = wolfSSL_connect(ssl);
    }
    return result == WOLFSSL_SUCCESS ? TLS_OK : failure(result);
}

const char *tls_version(void)
{
    return wolfSSL_get_version(ssl);
}

enum tls tls_send(const unsigned char *data, size_t size)
{
    int result = wolfSSL_write(ssl, data, size);
    return result == (int)size ? TLS_OK : failure(result);
}

enum tls tls_receive(unsigned char *data, size_t *size)
{
    int result = wolfSSL_read(ssl, data, *size);
    if (result <= 0)
        return failure(result);
    *size = result;
    return TLS_OK;
}

enum tls tls_half_close(void)
{
    int result = wolfSSL_shutdown(ssl);
    if (result == WOLFSSL_SUCCESS || result == WOLFSSL_SHUTDOWN_NOT_DONE)
        return TLS_OK;
    return failure(result);
}

enum tls tls_shutdown(void)
{
    int result = wolfSSL_shutdown(ssl);
    if (result == WOLFSSL_SHUTDOWN_NOT_DONE)
        result = wolfSSL_shutdown(ssl);
    if (result == WOLFSSL_SHUTDOWN_NOT_DONE) {
        snprintf(words, sizeof words, "WOLFSSL_SHUTDOWN_NOT_DONE");
        return TLS_ERROR;
    }
    return result == WOLFSSL_SUCCESS ? TLS_OK : failure(result);
}

const char *tls_words(void)
{
    return words;
}

void tls_free(void)
{
    wolfSSL_free(ssl);
    ssl = NULL;
}
