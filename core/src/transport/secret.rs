//! Mutual TLS from one shared secret: every node derives the same certificate authority from it.
//!
//! HKDF-SHA256(secret) gives the Ed25519 seed of the authority's key; name and key being fixed,
//! any node's authority verifies the certificates that any other node signed for itself. Whoever
//! can dial a node sees a certificate that the authority signed, so a guessable secret can be
//! searched for offline: the secret has to be long and random.

use hkdf::Hkdf;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::Sha256;

use super::tls::{Configs, provider};
use crate::error::{Error, Result};

/// The one name that every certificate made from a secret carries.
pub(super) const SERVER_NAME: &str = "node.quorumlite";

const AUTHORITY_NAME: &str = "quorumlite cluster authority";
const SALT: &[u8] = b"quorumlite transport 1";
const AUTHORITY_KEY_INFO: &[u8] = b"certificate authority ed25519 seed";
/// PKCS#8 version 1 around an Ed25519 seed (RFC 8410, section 7).
const PKCS8_ED25519_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The TLS configurations of a node that knows `secret`.
pub(super) fn configs(secret: &str) -> Result<Configs> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::config("CONFIG_SECRET", format!("no certificate can be made from the secret: {e}"))
    };
    let authority_key = authority_key(secret).map_err(|e| failed(&e))?;
    let authority_params = authority_params();
    let authority = authority_params.self_signed(&authority_key).map_err(|e| failed(&e))?;
    let issuer = Issuer::new(authority_params, authority_key);

    let leaf_key = KeyPair::generate_for(&PKCS_ED25519).map_err(|e| failed(&e))?;
    let leaf = leaf_params()
        .and_then(|params| params.signed_by(&leaf_key, &issuer))
        .map_err(|e| failed(&e))?;

    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).map_err(|e| failed(&e))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    Configs::new(provider(), roots, vec![leaf.der().clone()], key).map_err(|e| failed(&e))
}

fn authority_key(secret: &str) -> std::result::Result<KeyPair, rcgen::Error> {
    let mut pkcs8 = PKCS8_ED25519_PREFIX.to_vec();
    let mut seed = [0; 32];
    // 32 bytes are one block of HKDF-SHA256, which never fails.
    Hkdf::<Sha256>::new(Some(SALT), secret.as_bytes())
        .expand(AUTHORITY_KEY_INFO, &mut seed)
        .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    pkcs8.extend_from_slice(&seed);
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)
}

fn authority_params() -> CertificateParams {
    let mut params = validity_without_a_clock(CertificateParams::default());
    params.distinguished_name = named(AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params() -> std::result::Result<CertificateParams, rcgen::Error> {
    let params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    let mut params = validity_without_a_clock(params);
    params.distinguished_name = named("quorumlite node");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// Devices without a battery-backed clock start in 1970.
fn validity_without_a_clock(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}

fn named(common_name: &str) -> rcgen::DistinguishedName {
    let mut name = rcgen::DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
