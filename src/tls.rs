//! The one TLS provider: rustls with ring, installed for the whole process before anybody builds a client.
//!
//! Roots are the platform's, read by each client: `SSL_CERT_FILE` or `SSL_CERT_DIR` where set (they replace the system's,
//! as with OpenSSL and Go), else the system's store.

/// Makes ring the process's provider. May be called again: the first one stays.
pub(crate) fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
