//! TLS towards endpoints: which certificates to trust, and what went wrong in plain words.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage,
    RootCertStore, SignatureScheme,
};

use super::failure::{Failure, TlsFault};

/// Trusts the bundled roots (Mozilla's) and `extra` ones, and shows `identity` where it is
/// asked for one. TLS 1.2 and 1.3, HTTP/1.1.
///
/// # Errors
/// `extra` holds something that is not a certificate.
pub fn client_config(
    extra: impl IntoIterator<Item = CertificateDer<'static>>,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<Arc<ClientConfig>, Box<dyn std::error::Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(extra.into_iter().collect(), &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The usual verification, and one thing more: a certificate that has been given as
/// trusted is trusted when a server shows it itself: an authority's (that is what
/// `openssl req -x509` makes) or one of an authority that is not trusted or not known. curl
/// and browsers accept them, too. Validity, purpose and name are checked all the same.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(
        trusted: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        for certificate in &trusted {
            roots.add(certificate.clone())?;
        }
        let usual =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()?;
        Ok(Self { usual, trusted })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_trusted = self.trusted.iter().any(|trusted| trusted == end_entity);
        // Then its issuers do not matter, nor what is wrong with them.
        let intermediates = if is_trusted { &[] } else { intermediates };
        let result = self.usual.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match result {
            // The certificate's own validity and purpose are checked first: these errors
            // mean that there is nothing wrong with them.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            )) if is_trusted => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// What an error of TLS says about the endpoint.
#[must_use]
pub fn failure(error: &rustls::Error) -> Failure {
    Failure::Tls(match error {
        rustls::Error::InvalidCertificate(error) => TlsFault::Certificate(certificate_fault(error)),
        rustls::Error::AlertReceived(alert) => TlsFault::Alert(alert_fault(*alert)),
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => TlsFault::NotSpoken,
        other => TlsFault::Other(other.to_string()),
    })
}

/// Stands behind "the endpoint's certificate".
fn certificate_fault(error: &CertificateError) -> String {
    use CertificateError as Error;
    let fault = match error {
        Error::Expired | Error::ExpiredContext { .. } => "has expired",
        Error::NotValidYet | Error::NotValidYetContext { .. } => "is not valid yet",
        Error::NotValidForNameContext { expected, .. } => {
            return format!("is not valid for {}", expected.to_str());
        }
        error if is_version_1(error) => "is of X.509 version 1, and version 3 is needed",
        Error::UnknownIssuer | Error::Other(_) => {
            "is from an unknown authority (-ca-file adds one)"
        }
        Error::Revoked => "has been revoked",
        other => return format!("is not valid: {other}"),
    };
    fault.to_owned()
}

/// Whether the certificate is of X.509 version 1: what older versions of `openssl x509 -req`
/// make by default. rustls has no variant for that, only the words of a library of its own.
pub(super) fn is_version_1(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if other.to_string() == "UnsupportedCertVersion")
}

/// What an endpoint's alert is about (RFC 8446 6.2): mostly the client certificate.
fn alert_fault(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let fault = match alert {
        Alert::CertificateRequired => {
            "it asks for a client certificate (-client-cert, -client-key)"
        }
        Alert::UnknownCA => {
            "it does not know the authority of the client certificate (-client-cert)"
        }
        Alert::CertificateExpired => {
            "the client certificate is not valid at this time (-client-cert)"
        }
        Alert::CertificateRevoked => "the client certificate has been revoked (-client-cert)",
        // Before TLS 1.3 there was no alert for a certificate that is missing.
        Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::AccessDenied => {
            return format!(
                "{alert:?} (the client certificate, or that there is none: -client-cert)"
            );
        }
        Alert::HandshakeFailure => {
            return format!("{alert:?} (it may ask for a client certificate: -client-cert)");
        }
        other => return format!("{other:?}"),
    };
    fault.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_about_the_client_certificate_names_the_flag() {
        use AlertDescription as Description;
        let table = [
            (
                Description::CertificateRequired,
                "TLS refused by the endpoint: it asks for a client certificate (-client-cert, -client-key)",
            ),
            (
                Description::UnknownCA,
                "TLS refused by the endpoint: it does not know the authority of the client certificate (-client-cert)",
            ),
            (
                Description::CertificateExpired,
                "TLS refused by the endpoint: the client certificate is not valid at this time (-client-cert)",
            ),
            (
                Description::CertificateRevoked,
                "TLS refused by the endpoint: the client certificate has been revoked (-client-cert)",
            ),
            (
                Description::BadCertificate,
                "TLS refused by the endpoint: BadCertificate (the client certificate, or that there is none: -client-cert)",
            ),
            (
                Description::AccessDenied,
                "TLS refused by the endpoint: AccessDenied (the client certificate, or that there is none: -client-cert)",
            ),
            (
                Description::HandshakeFailure,
                "TLS refused by the endpoint: HandshakeFailure (it may ask for a client certificate: -client-cert)",
            ),
            (
                Description::ProtocolVersion,
                "TLS refused by the endpoint: ProtocolVersion",
            ),
        ];
        for (alert, wanted) in table {
            let failure = failure(&rustls::Error::AlertReceived(alert));
            assert_eq!(failure.to_string(), wanted);
        }
    }

    #[test]
    fn an_error_of_rustls_is_a_fault_of_the_certificate_or_something_else() {
        let table = [
            (
                CertificateError::Expired.into(),
                TlsFault::Certificate("has expired".to_owned()),
            ),
            (
                CertificateError::NotValidYet.into(),
                TlsFault::Certificate("is not valid yet".to_owned()),
            ),
            (
                CertificateError::UnknownIssuer.into(),
                TlsFault::Certificate(
                    "is from an unknown authority (-ca-file adds one)".to_owned(),
                ),
            ),
            (
                CertificateError::Revoked.into(),
                TlsFault::Certificate("has been revoked".to_owned()),
            ),
            (
                CertificateError::BadEncoding.into(),
                TlsFault::Certificate("is not valid: BadEncoding".to_owned()),
            ),
            (
                rustls::Error::DecryptError,
                TlsFault::Other(rustls::Error::DecryptError.to_string()),
            ),
        ];
        for (error, fault) in table {
            assert_eq!(failure(&error), Failure::Tls(fault), "{error:?}");
        }
    }
}
