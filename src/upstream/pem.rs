//! The PEM files that flags name: certificates and a private key, checked at start.
//!
//! An error ends a sentence that begins with the flag and the file's name. No piece of a file is
//! ever part of it: what does not parse may be a key all the same.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};

use super::tls::is_version_1;
use crate::util::io_error::describe;

/// A certificate.
pub type Certificate = CertificateDer<'static>;

/// A chain of certificates and the private key of the first one.
pub type Identity = CertifiedKey;

/// The bundle of a whole operating system has a quarter of a mebibyte.
const LIMIT: u64 = 16 << 20;

/// The certificates of authorities; at least one. Each one has been accepted by a
/// [`RootCertStore`].
pub fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let roots = certificates(&read(path)?)?;
    let mut store = RootCertStore::empty();
    for (number, root) in (1..).zip(&roots) {
        store
            .add(root.clone())
            .map_err(|reason| unusable(number, &reason))?;
    }
    Ok(roots)
}

/// What a client shows: its own certificate, then those that lead to the authority's.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = certificates(&read(path)?)?;
    for (number, certificate) in (1..).zip(&chain) {
        ParsedCertificate::try_from(certificate).map_err(|reason| unusable(number, &reason))?;
    }
    Ok(chain)
}

/// The first private key in PKCS#8, PKCS#1 or SEC1 form.
pub fn private_key(path: &Path) -> Result<Arc<dyn SigningKey>, String> {
    let text = read(path)?;
    let has = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    // One that is locked in the old way is not even well-formed to the parser.
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        let reason =
            "holds a key that is locked with a passphrase (openssl pkey -in FILE unlocks it)";
        return Err(reason.to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        Error::NoItemsFound => {
            "holds no private key (PEM is expected: -----BEGIN PRIVATE KEY-----)".to_owned()
        }
        error => not_pem(&error),
    })?;
    let loaded = default_provider().key_provider.load_private_key(key);
    loaded.map_err(|_| {
        "holds an unusable private key (RSA with 2048 to 4096 bits, ECDSA with P-256 or P-384, or \
         Ed25519 is expected)"
            .to_owned()
    })
}

/// Puts the two together, which must belong together.
pub fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
) -> Result<Arc<CertifiedKey>, String> {
    let identity = CertifiedKey::new(chain, key);
    identity
        .keys_match()
        .map_err(|_| "is not the key of the certificate, the first one in -client-cert")?;
    Ok(Arc::new(identity))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut text))
        .map_err(|error| format!("cannot be read: {}", describe(&error)))?;
    if text.len() as u64 > LIMIT {
        let most = LIMIT >> 20;
        return Err(format!(
            "is larger than {most} MiB, too much for certificates or a key"
        ));
    }
    Ok(text)
}

/// All certificates of a file; at least one.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(&error))?;
    if certificates.is_empty() {
        let reason = "holds no certificate (PEM is expected: -----BEGIN CERTIFICATE-----)";
        return Err(reason.to_owned());
    }
    Ok(certificates)
}

/// The certificate of that number in its file, from 1, is not one that can be used.
fn unusable(number: usize, reason: &rustls::Error) -> String {
    let reason = match reason {
        rustls::Error::InvalidCertificate(reason) if is_version_1(reason) => {
            "it is of X.509 version 1, and version 3 is needed".to_owned()
        }
        rustls::Error::InvalidCertificate(reason) => reason.to_string(),
        reason => reason.to_string(),
    };
    format!("holds an unusable certificate, number {number}: {reason}")
}

/// The parser's own words quote the line that it stumbled over.
fn not_pem(error: &Error) -> String {
    let reason = match error {
        Error::MissingSectionEnd { .. } => "the line with -----END is missing",
        Error::IllegalSectionStart { .. } => "a line with -----BEGIN is broken",
        Error::Base64Decode(_) => "what stands between two lines is not base64",
        _ => "it cannot be parsed",
    };
    format!("is not well-formed PEM: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::NamedTempFile;

    /// A certificate authority made for this test; its key was thrown away.
    const ROOT: &str = include_str!("../../tests/data/root.pem");

    /// A certificate and its RSA key (PKCS#1) in one file, made for this test: nothing
    /// trusts them.
    const RSA: &str = include_str!("../../tests/data/client.pem");

    /// A client's certificate in the old form; its key was thrown away.
    const VERSION_1: &str = include_str!("../../tests/data/version-1.pem");

    fn file(content: &str) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn message<T>(result: Result<T, String>) -> String {
        result.err().unwrap_or_default()
    }

    /// What is said of a chain and a key that are given as `-client-cert` and `-client-key`.
    fn belong_together(certificates: &str, key: &str) -> Result<(), String> {
        let chain = chain(file(certificates).path())?;
        let key = private_key(file(key).path())?;
        identity(chain, key).map(drop)
    }

    fn section(label: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    struct Made {
        certificate: String,
        key: KeyPair,
    }

    fn made() -> Made {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["client".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Made { certificate, key }
    }

    #[test]
    fn reads_extra_roots_and_checks_them() {
        let number_of = |content: &str| roots(file(content).path()).map(|roots| roots.len());
        assert_eq!(number_of(ROOT).unwrap(), 1);
        let two = format!("# two\n{ROOT}\nand again\n{ROOT}");
        assert_eq!(number_of(&two).unwrap(), 2);
        let none = "holds no certificate (PEM is expected: -----BEGIN CERTIFICATE-----)";
        assert_eq!(message(number_of("")), none);
        assert_eq!(message(number_of("hello")), none);
    }

    #[test]
    fn reads_keys_in_all_three_forms() {
        let made = made();
        let pkcs8 = made.key.serialize_pem();
        assert_eq!(belong_together(&made.certificate, &pkcs8), Ok(()));
        // RFC 5958: a P-256 key in PKCS#8 ends with the key in SEC1 form, of that length.
        let der = made.key.serialize_der();
        let sec1 = section("EC PRIVATE KEY", &der[der.len() - 0x6d..]);
        assert_eq!(belong_together(&made.certificate, &sec1), Ok(()));
        let with_parameters = format!("{}{sec1}", section("EC PARAMETERS", b"whatever"));
        assert_eq!(belong_together(&made.certificate, &with_parameters), Ok(()));
        assert_eq!(belong_together(RSA, RSA), Ok(()));
        // A chain; what does not come first is not looked at for the key.
        let chain = format!("{}{ROOT}", made.certificate);
        assert_eq!(belong_together(&chain, &pkcs8), Ok(()));
        let windows = format!("{chain}{pkcs8}").replace('\n', "\r\n");
        assert_eq!(belong_together(&windows, &windows), Ok(()));
    }

    #[test]
    fn says_what_is_wrong_with_certificates() {
        let cut = ROOT.split("-----END").next().unwrap();
        let empty = section("CERTIFICATE", &[0, 0, 0]);
        let table = [
            (
                cut.to_owned(),
                "is not well-formed PEM: the line with -----END is missing",
            ),
            (
                ROOT.replace("CATE-----\n", "CATE-----"),
                "is not well-formed PEM: a line with -----BEGIN is broken",
            ),
            (
                ROOT.replacen("\nM", "\n!", 1),
                "is not well-formed PEM: what stands between two lines is not base64",
            ),
            (
                format!("{ROOT}\n{empty}"),
                "holds an unusable certificate, number 2: BadEncoding",
            ),
        ];
        for (content, wanted) in table {
            assert_eq!(message(roots(file(&content).path())), wanted);
            assert_eq!(message(chain(file(&content).path())), wanted);
        }
    }

    #[test]
    fn an_authority_may_be_of_version_1_and_a_client_may_not() {
        assert!(roots(file(VERSION_1).path()).is_ok());
        assert_eq!(
            message(chain(file(VERSION_1).path())),
            "holds an unusable certificate, number 1: it is of X.509 version 1, and version 3 \
             is needed"
        );
    }

    #[test]
    fn says_what_is_wrong_with_a_key_and_never_what_it_is() {
        let made = made();
        let certificate = &made.certificate;
        let key = made.key.serialize_pem();
        let none = "holds no private key (PEM is expected: -----BEGIN PRIVATE KEY-----)";
        let locked =
            "holds a key that is locked with a passphrase (openssl pkey -in FILE unlocks it)";
        let unusable = "holds an unusable private key (RSA with 2048 to 4096 bits, ECDSA with \
                        P-256 or P-384, or Ed25519 is expected)";
        let other = "is not the key of the certificate, the first one in -client-cert";
        let table = [
            (String::new(), none),
            (certificate.clone(), none),
            (section("ENCRYPTED PRIVATE KEY", b"x"), locked),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n\
                 -----END RSA PRIVATE KEY-----\n"
                    .to_owned(),
                locked,
            ),
            (section("PRIVATE KEY", b"x"), unusable),
            (section("RSA PRIVATE KEY", b"x"), unusable),
            (
                key.replace("KEY-----\n", "KEY-----"),
                "is not well-formed PEM: a line with -----BEGIN is broken",
            ),
            (
                key.split("-----END").next().unwrap().to_owned(),
                "is not well-formed PEM: the line with -----END is missing",
            ),
            (KeyPair::generate().unwrap().serialize_pem(), other),
            (RSA.to_owned(), other),
        ];
        for (content, wanted) in table {
            assert_eq!(
                belong_together(certificate, &content),
                Err(wanted.to_owned())
            );
        }
        let wrong_order = format!("{ROOT}{certificate}");
        assert_eq!(belong_together(&wrong_order, &key), Err(other.to_owned()));
    }

    #[test]
    fn a_key_does_not_show_where_it_is_printed() {
        let key = private_key(file(RSA).path()).unwrap();
        let identity = identity(chain(file(RSA).path()).unwrap(), key).unwrap();
        let printed = format!("{:?}", identity.key);
        assert_eq!(printed, "RsaSigningKey { algorithm: RSA }");
    }
}
