//! TLS to a builder: whom to trust, and who to be (mTLS). The files are PEM.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::DialError;

/// Which files, and whether the server's certificate is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// Trusted instead of the system's roots.
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    /// Instead of the address's host.
    pub(super) server_name: Option<String>,
    pub(super) skip_verify: bool,
}

impl TlsFiles {
    /// `ca.pem`, `cert.pem` and `key.pem` of a folder, as docker and `buildctl --tlsdir` name them; those that are there.
    pub(super) fn of_folder(folder: &Path) -> Self {
        let file = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        Self {
            ca: file("ca.pem"),
            cert: file("cert.pem"),
            key: file("key.pem"),
            ..Self::default()
        }
    }

    /// `protocol`: what is spoken inside, by its ALPN name. grpc-go refuses clients that do not ask for `h2`.
    pub(super) fn config(&self, protocol: &str) -> Result<Arc<ClientConfig>, DialError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| DialError::Tls("TLS".into(), error.to_string()))?;
        let builder = if self.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let shown = cert.display().to_string();
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unread(key, &error))?;
                builder
                    .with_client_auth_cert(certificates(cert)?, key)
                    .map_err(|error| DialError::Tls(shown, error.to_string()))?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(path), None) => return Err(alone(path, "key")),
            (None, Some(path)) => return Err(alone(path, "certificate")),
        };
        config.alpn_protocols = vec![protocol.into()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, DialError> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.ca else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            return Ok(roots);
        };
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| DialError::Tls(path.display().to_string(), error.to_string()))?;
        }
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unread(path, &error))?;
    if certificates.is_empty() {
        return Err(DialError::Tls(
            path.display().to_string(),
            "it holds no certificate".into(),
        ));
    }
    Ok(certificates)
}

fn unread(path: &Path, error: &rustls::pki_types::pem::Error) -> DialError {
    DialError::Tls(path.display().to_string(), error.to_string())
}

fn alone(path: &Path, missing: &str) -> DialError {
    let why = format!("its {missing} is missing");
    DialError::Tls(path.display().to_string(), why)
}

/// Takes any certificate: what `DOCKER_TLS` without `DOCKER_TLS_VERIFY`, and a context's `SkipTLSVerify`, ask for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
