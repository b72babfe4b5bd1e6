// AES-256-GCM and ChaCha20-Poly1305 by OpenSSL's library, for lengths around those that its code treats apart.
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int done) {
    if (!done) {
        puts("OpenSSL refuses");
        exit(1);
    }
}

static unsigned char text[70000], sealed[70016];

static void seal(const char *name, const EVP_CIPHER *cipher, int length) {
    static const unsigned char key[32] = "0123456789abcdef0123456789abcde", iv[12] = "only a test";
    unsigned char tag[16], hash[32];
    int n, rest;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    check(c && EVP_EncryptInit_ex(c, cipher, NULL, key, iv));
    check(EVP_EncryptUpdate(c, NULL, &n, text + 7, length % 50));
    check(EVP_EncryptUpdate(c, sealed, &n, text, length) && EVP_EncryptFinal_ex(c, sealed + n, &rest));
    check(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, sizeof tag, tag));
    EVP_CIPHER_CTX_free(c);
    check(EVP_Digest(sealed, length, hash, NULL, EVP_sha256(), NULL));
    printf("%s %d ", name, length);
    for (int i = 0; i < 16; i++)
        printf("%02x%02x", tag[i], hash[i]);
    puts("");
}

int main(void) {
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i * 7 + (i >> 8);
    static const int lengths[] = {0, 1, 15, 16, 17, 100, 255, 256, 257, 777, 1024, 4096, 5000, 70000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        seal("AES-256-GCM", EVP_aes_256_gcm(), lengths[i]);
        seal("ChaCha20-Poly1305", EVP_chacha20_poly1305(), lengths[i]);
    }
}
