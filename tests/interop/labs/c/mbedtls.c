/* Mbed TLS 2.28. */
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

#include "tls.h"

static mbedtls_ssl_config server, client;
static mbedtls_ssl_context ssl;
static mbedtls_net_context net;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context random_bytes;
static mbedtls_x509_crt own, roots;
static mbedtls_pk_context own_key;
static char words[128];

static enum tls failure(int result)
{
    if (result == 0)
        strcpy(words, "the transport was closed without close_notify");
    else
        mbedtls_strerror(result, words, sizeof words);
    switch (result) {
    case 0:
        return TLS_CUT;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return TLS_CLEAN;
    case MBEDTLS_ERR_NET_CONN_RESET:
        return TLS_RESET;
    }
    return TLS_ERROR;
}

static int again(int result)
{
    return result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE;
}

const char *tls_name(void)
{
    static char name[18];
    mbedtls_version_get_string_full(name);
    return name;
}

static int configure(mbedtls_ssl_config *config, int side)
{
    mbedtls_ssl_config_init(config);
    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &random_bytes);
    return mbedtls_ssl_config_defaults(config, side, MBEDTLS_SSL_TRANSPORT_STREAM,
                                       MBEDTLS_SSL_PRESET_DEFAULT);
}

enum tls tls_load(const char *certificate, const char *key, const char *ca)
{
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random_bytes);
    mbedtls_x509_crt_init(&own);
    mbedtls_x509_crt_init(&roots);
    mbedtls_pk_init(&own_key);
    int result;
    if ((result = mbedtls_ctr_drbg_seed(&random_bytes, mbedtls_entropy_func, &entropy,
                                        NULL, 0)) ||
        (result = mbedtls_x509_crt_parse_file(&own, certificate)) ||
        (result = mbedtls_x509_crt_parse_file(&roots, ca)) ||
        (result = mbedtls_pk_parse_keyfile(&own_key, key, NULL)) ||
        (result = configure(&server, MBEDTLS_SSL_IS_SERVER)) ||
        (result = configure(&client, MBEDTLS_SSL_IS_CLIENT)) ||
        (result = mbedtls_ssl_conf_own_cert(&server, &own, &own_key)))
        return failure(result);
    mbedtls_ssl_conf_ca_chain(&client, &roots, NULL);
    return TLS_OK;
}

enum tls tls_handshake(int fd, int as_server, const char *server_name)
{
    int result;
    net.fd = fd;
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    if ((result = mbedtls_ssl_setup(&ssl, as_server ? &server : &client)) ||
        (result = as_server ? 0 : mbedtls_ssl_set_hostname(&ssl, server_name)))
        return failure(result);
    do
        result = mbedtls_ssl_handshake(&ssl);
    while (again(result));
    return result == 0 ? TLS_OK : failure(result);
}

const char *tls_version(void)
{
    return mbedtls_ssl_get_version(&ssl);
}

enum tls tls_send(const unsigned char *data, size_t size)
{
    while (size > 0) {
        int result = mbedtls_ssl_write(&ssl, data, size);
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
    int result;
    do
        result = mbedtls_ssl_read(&ssl, data, *size);
    while (again(result));
    if (result <= 0)
        return failure(result);
    *size = result;
    return TLS_OK;
}

enum tls tls_half_close(void)
{
    int result;
    do
        result = mbedtls_ssl_close_notify(&ssl);
    while (again(result));
    return result == 0 ? TLS_OK : failure(result);
}

/* It has no call that waits. */
enum tls tls_shutdown(void)
{
    unsigned char rest[1024];
    enum tls result = tls_half_close();
    while (result == TLS_OK) {
        size_t size = sizeof rest;
        result = tls_receive(rest, &size);
    }
    return result;
}

const char *tls_words(void)
{
    return words;
}

void tls_free(void)
{
    mbedtls_ssl_free(&ssl);
}
