//! Certificates and keys of one control plane, made for one run, and the kubeconfig files that carry them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// Why certificates or kubeconfigs could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("cannot make the certificate of {name}: {source}")]
    Certificate { name: String, source: rcgen::Error },
    #[error("cannot write {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot write kubeconfig {path}: {source}")]
    Kubeconfig {
        path: PathBuf,
        source: serde_saphyr::SerializeError,
    },
}

/// The authority of one control plane. Clients, server and front proxy come from the same root.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Paths of a certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// The private key, PKCS#8.
    pub key: PathBuf,
}

impl Authority {
    /// A new root, written to `folder`/ca.crt.
    pub fn new(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Certificate {
            name: "the authority".into(),
            source,
        };
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "tiercel local control plane");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        fs::create_dir_all(folder).map_err(|source| Error::File {
            path: folder.to_owned(),
            source,
        })?;
        let authority = Self {
            folder: folder.to_owned(),
            issuer,
        };
        write_private(&authority.root(), &authority.issuer.pem())?;
        Ok(authority)
    }

    /// Path of the root certificate.
    pub fn root(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A serving certificate for `names` (DNS names and addresses).
    pub fn server(&self, file: &str, names: &[&str]) -> Result<Pair, Error> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let failed = |source| Error::Certificate {
            name: file.to_owned(),
            source,
        };
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(file, &params)
    }

    /// A client certificate: Kubernetes takes the user from the common name and the group from the organization.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Pair, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(file, &params)
    }

    /// The key pair that signs ServiceAccount tokens; `cert` is the public key.
    pub fn signing_keys(&self, file: &str) -> Result<Pair, Error> {
        let key = KeyPair::generate().map_err(|source| Error::Certificate {
            name: file.to_owned(),
            source,
        })?;
        self.write_pair(file, "pub", &key.public_key_pem(), &key.serialize_pem())
    }

    fn issue(&self, file: &str, params: &CertificateParams) -> Result<Pair, Error> {
        let failed = |source| Error::Certificate {
            name: file.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        self.write_pair(file, "crt", &cert.pem(), &key.serialize_pem())
    }

    fn write_pair(&self, file: &str, extension: &str, cert: &str, key: &str) -> Result<Pair, Error> {
        let pair = Pair {
            cert: self.folder.join(format!("{file}.{extension}")),
            key: self.folder.join(format!("{file}.key")),
        };
        write_private(&pair.cert, cert)?;
        write_private(&pair.key, key)?;
        Ok(pair)
    }
}

/// Who a kubeconfig speaks as.
#[derive(Debug, Clone, Copy)]
pub enum Identity<'a> {
    /// A client certificate.
    Certificate(&'a Pair),
    /// A bearer token.
    Token(&'a str),
}

/// Writes a kubeconfig with one context named `tiercel-local`.
pub fn write_kubeconfig(path: &Path, server: &str, root: &Path, identity: Identity<'_>) -> Result<(), Error> {
    let user = match identity {
        Identity::Certificate(pair) => {
            json!({"client-certificate": pair.cert, "client-key": pair.key})
        }
        Identity::Token(token) => json!({"token": token}),
    };
    let name = "tiercel-local";
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority": root}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    let text = serde_saphyr::to_string(&config).map_err(|source| Error::Kubeconfig {
        path: path.to_owned(),
        source,
    })?;
    write_private(path, &text)
}

fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
}
