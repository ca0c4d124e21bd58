//! An authority of the moment, and what it certifies: for servers that are spoken to over TLS.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key: files of PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key of it.
    pub key: PathBuf,
}

/// An authority, and the file that others know it by.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
    file: PathBuf,
}

impl Authority {
    /// A new one, whose files stand in a directory and begin with a name.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let file = directory.join(format!("{name}.pem"));
        write(&file, &params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, directory: directory.to_owned(), file })
    }

    /// The file that clients know it by.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A certificate for servers on loopback.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn server(&self, name: &str) -> Result<Pair> {
        self.certify(name, server_params(name)?)
    }

    /// The same, which ran out long ago.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn expired_server(&self, name: &str) -> Result<Pair> {
        let mut params = server_params(name)?;
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        self.certify(name, params)
    }

    /// A certificate for a client of that name.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn client(&self, name: &str) -> Result<Pair> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.certify(name, params)
    }

    /// The same for a client in these groups, which holds until the end of that year.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn client_until(&self, name: &str, groups: &[&str], year: i32) -> Result<Pair> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        self.certify(name, params)
    }

    fn certify(&self, name: &str, params: CertificateParams) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = Pair {
            certificate: self.directory.join(format!("{name}.crt")),
            key: self.directory.join(format!("{name}.key")),
        };
        write(&pair.certificate, &certificate.pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

fn server_params(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

impl Pair {
    /// What a server shows with it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(&self.certificate)?.collect::<Result<_, _>>()?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&self.key)?)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Writes a new key that certifies nothing: to sign tokens with, for example; and what they are
/// checked with.
///
/// # Errors
/// When a file cannot be written.
pub fn write_key(secret: &Path, public: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    write(secret, &key.serialize_pem())?;
    write(public, &key.public_key_pem())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
