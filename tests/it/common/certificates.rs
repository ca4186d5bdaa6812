//! Certificates made on the spot: an authority and what it signs.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use std::{path::PathBuf, sync::Arc};
use tempfile::TempDir;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    directory: TempDir,
}

/// What a server shows, or a client.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    /// As a server: whose certificates clients must have.
    clients_of: Option<CertificateDer<'static>>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            directory: TempDir::new().unwrap(),
        }
    }

    /// The file for `-ca-file`.
    pub fn file(&self) -> PathBuf {
        let path = self.directory.path().join("ca.pem");
        std::fs::write(&path, self.certificate.pem()).unwrap();
        path
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(names, |_| {})
    }

    /// The authority as a server: it shows the very certificate that is trusted.
    pub fn itself(names: &[&str]) -> (Self, Identity) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let pair = KeyPair::from_pem(&key.serialize_pem()).unwrap();
        let identity = Identity::new(&certificate, pair);
        let authority = Self {
            issuer: Issuer::new(params, key),
            certificate,
            directory: TempDir::new().unwrap(),
        };
        (authority, identity)
    }

    /// One that is no longer good.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        self.sign(names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::new(&certificate, key)
    }
}

impl Identity {
    fn new(certificate: &Certificate, key: KeyPair) -> Self {
        Self {
            chain: vec![certificate.der().clone()],
            key,
            clients_of: None,
            versions: vec![&TLS13, &TLS12],
        }
    }

    /// As a server: with the authority's certificate behind its own.
    pub fn showing_its_authority(&self, authority: &Authority) -> Self {
        let authority = authority.certificate.der().clone();
        Self {
            chain: vec![self.chain[0].clone(), authority],
            key: KeyPair::from_pem(&self.key.serialize_pem()).unwrap(),
            clients_of: None,
            versions: self.versions.clone(),
        }
    }

    /// As a server: it shows a certificate of X.509 version 1.
    pub fn showing_version_1(mut self) -> Self {
        let old = include_bytes!("../../data/version-1.pem");
        self.chain = vec![CertificateDer::from_pem_slice(old).unwrap()];
        self
    }

    /// As a server: clients must have a certificate of this authority.
    pub fn asking(mut self, authority: &Authority) -> Self {
        self.clients_of = Some(authority.certificate.der().clone());
        self
    }

    /// As a server: an old one.
    pub fn only_tls_1_2(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        let text = BASE64_STANDARD.encode(&self.chain[0]);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    /// The key in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = match &self.clients_of {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        // Whether it can be used is the client's to find out.
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let certified = CertifiedKey::new(self.chain.clone(), key);
        Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
    }
}
