//! [`Tls`]: how connections are protected, and what its failures mean to people.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, ClientConfig, RootCertStore, ServerConfig};

use super::certificates::Certificates;
use super::secret;
use crate::config::{Security, split_address};
use crate::error::{Error, ErrorKind, Result};

/// Mutual TLS 1.3: both sides present a certificate and both verify.
///
/// From a secret: see [`secret`]. With certificates of one's own, a peer's certificate must come
/// from the given authority, be good for server and client use, and carry the host part of the
/// address at which it is dialled (a DNS name or an IP address) as a subject alternative name.
pub(crate) struct Tls(Source);

enum Source {
    Secret(Configs),
    Certificates(Certificates),
}

/// The rustls configurations of both directions.
#[derive(Clone)]
pub(super) struct Configs {
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
}

/// Named explicitly: with two providers in one process rustls' default panics.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Configs {
    /// Configurations that present `chain` and accept what `roots` vouch for.
    pub(super) fn new(
        provider: Arc<CryptoProvider>,
        roots: RootCertStore,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> std::result::Result<Self, rustls::Error> {
        let versions = &[&rustls::version::TLS13];
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        // A resumed session would not look at certificates again after they were replaced.
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
        Ok(Configs { client: Arc::new(client), server: Arc::new(server) })
    }
}

impl Tls {
    /// The protection that the options ask for; `None` is plain TCP.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the file and what is wrong with it.
    pub(crate) fn from_config(security: &Security) -> Result<Option<Arc<Tls>>> {
        let source = match security {
            Security::Plain => return Ok(None),
            Security::Secret(secret) => Source::Secret(secret::configs(secret)?),
            Security::Certificates { ca, cert, key } => {
                Source::Certificates(Certificates::load(ca, cert, key)?)
            }
        };
        Ok(Some(Arc::new(Tls(source))))
    }

    #[cfg(test)]
    pub(super) fn from_certificates(certificates: Certificates) -> Arc<Tls> {
        Arc::new(Tls(Source::Certificates(certificates)))
    }

    /// The configurations for a new connection.
    pub(super) fn configs(&self) -> Configs {
        match &self.0 {
            Source::Secret(configs) => configs.clone(),
            Source::Certificates(certificates) => certificates.current(),
        }
    }

    /// The name that the certificate of the peer at `address` must carry.
    pub(super) fn server_name(&self, address: &str) -> Result<ServerName<'static>> {
        let name = match &self.0 {
            Source::Secret(_) => secret::SERVER_NAME,
            Source::Certificates(_) => split_address(address).map_or("", |(host, _)| host),
        };
        ServerName::try_from(name.to_owned()).map_err(|_| {
            Error::config(
                "CONFIG_ADDRESS",
                format!("{address:?} is not host:port, such as \"db1.example:7001\""),
            )
        })
    }

    /// What a failure of the handshake, or of the first read after it, says about the peer; `None`
    /// when it says nothing (a lost connection, garbage).
    pub(super) fn refusal(&self, peer: &str, error: &io::Error) -> Option<Error> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {}
            rustls::Error::AlertReceived(alert) if is_about_certificates(*alert) => {}
            _ => return None,
        }
        Some(match &self.0 {
            Source::Secret(_) => Error::new(
                ErrorKind::Forbidden,
                "FORBIDDEN_SECRET",
                format!(
                    "the peer at {peer} has another secret than this node; give every node of the \
                     cluster the same secret"
                ),
            ),
            Source::Certificates(_) => Error::new(
                ErrorKind::Forbidden,
                "FORBIDDEN_CERTIFICATE",
                match error {
                    rustls::Error::AlertReceived(alert) => format!(
                        "the peer at {peer} does not accept this node's certificate ({alert:?}); \
                         sign every node's certificate with the same ca, for server and client \
                         use, with the host of its address as subject alternative name"
                    ),
                    error => format!(
                        "the certificate of the peer at {peer} is not acceptable ({error}); it \
                         must be signed by ca, for server and client use, and carry the host of \
                         its address as subject alternative name"
                    ),
                },
            ),
        })
    }
}

/// Our side speaks TLS and the peer does not, or the other way round.
pub(super) fn mismatch(peer: &str, we_use_tls: bool) -> Error {
    let message = if we_use_tls {
        format!(
            "the peer at {peer} does not use TLS but this node does; give every node of the \
             cluster the same secret (or certificates)"
        )
    } else {
        format!(
            "the peer at {peer} uses TLS but this node has no secret or certificates; give it \
             those of the cluster"
        )
    };
    Error::new(ErrorKind::Forbidden, "FORBIDDEN_TLS_MISMATCH", message)
}

/// Whether the peer answered with something that is not TLS at all.
pub(super) fn is_not_tls(error: &io::Error) -> bool {
    error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>())
        .is_some_and(|e| matches!(e, rustls::Error::InvalidMessage(_)))
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::DecryptError
            | A::UnknownCA
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::CertificateRequired
            | A::AccessDenied
    )
}
