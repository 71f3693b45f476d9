/* OpenSSL libssl. */
#include <errno.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "tls.h"

static SSL_CTX *server, *client;
static SSL *ssl;
static char words[256];

static enum tls failure(int result)
{
    int error = errno;
    int kind = ssl ? SSL_get_error(ssl, result) : SSL_ERROR_SSL;
    unsigned long reason = ERR_get_error();
    if (kind == SSL_ERROR_ZERO_RETURN)
        return TLS_CLEAN;
    if (kind == SSL_ERROR_SYSCALL) {
        snprintf(words, sizeof words, "%s", strerror(error));
        return error == ECONNRESET ? TLS_RESET : TLS_ERROR;
    }
    ERR_error_string_n(reason, words, sizeof words);
    return ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? TLS_CUT
                                                                        : TLS_ERROR;
}

const char *tls_name(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

enum tls tls_load(const char *certificate, const char *key, const char *ca)
{
    server = SSL_CTX_new(TLS_server_method());
    client = SSL_CTX_new(TLS_client_method());
    if (SSL_CTX_use_certificate_chain_file(server, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(server, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(client, ca, NULL) != 1)
        return failure(0);
    SSL_CTX_set_verify(client, SSL_VERIFY_PEER, NULL);
    return TLS_OK;
}

enum tls tls_handshake(int fd, int as_server, const char *server_name)
{
    int result;
    ERR_clear_error();
    ssl = SSL_new(as_server ? server : client);
    SSL_set_fd(ssl, fd);
    if (as_server) {
        result = SSL_accept(ssl);
    } else {
        SSL_set_tlsext_host_name(ssl, server_name);
        SSL_set1_host(ssl, server_name);
        result = SSL_connect(ssl);
    }
    return result == 1 ? TLS_OK : failure(result);
}

const char *tls_version(void)
{
    return SSL_get_version(ssl);
}

enum tls tls_send(const unsigned char *data, size_t size)
{
    size_t written;
    ERR_clear_error();
    int result = SSL_write_ex(ssl, data, size, &written);
    return result == 1 ? TLS_OK : failure(result);
}

enum tls tls_receive(unsigned char *data, size_t *size)
{
    ERR_clear_error();
    int result = SSL_read_ex(ssl, data, *size, size);
    return result == 1 ? TLS_OK : failure(result);
}

enum tls tls_half_close(void)
{
    ERR_clear_error();
    int result = SSL_shutdown(ssl);
    return result >= 0 ? TLS_OK : failure(result);
}

enum tls tls_shutdown(void)
{
    ERR_clear_error();
    int result = SSL_shutdown(ssl);
    if (result == 0) /* the other's close_notify has not come yet */
        result = SSL_shutdown(ssl);
    return result == 1 ? TLS_OK : failure(result);
}

const char *tls_words(void)
{
    return words;
}

void tls_free(void)
{
    SSL_free(ssl);
    ssl = NULL;
}
