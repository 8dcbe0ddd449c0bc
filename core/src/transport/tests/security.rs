//! Who may talk to whom, and what the others are told.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519,
};
use tempfile::TempDir;

use super::super::certificates::Certificates;
use super::*;

/// Waits until the server has recorded a refusal: it may learn of it after the client.
async fn refusal(server: &Server) -> Error {
    let recorded = async {
        loop {
            if let Some((address, error, _)) = server.last_refusal() {
                assert!(address.ip().is_loopback());
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    soon("the server records the refusal", recorded).await
}

async fn assert_refused(
    server: &Server,
    client: &Client,
    probe: &Probe,
    kind: ErrorKind,
    code: &str,
) -> (Error, Error) {
    let at_client = not_sent(call(client, server.local_addr(), ECHO, Bytes::new()).await);
    assert_eq!((at_client.kind(), at_client.code()), (kind, code), "{at_client:?}");
    let at_server = refusal(server).await;
    assert_eq!((at_server.kind(), at_server.code()), (kind, code), "{at_server:?}");
    let address = server.local_addr().to_string();
    let hello = client.hello(&address, FAILED);
    assert_eq!(not_sent(soon("hello", hello).await).code(), code);
    assert!(probe.order.lock().is_empty());
    (at_client, at_server)
}

#[tokio::test]
async fn a_wrong_secret_is_refused_with_a_clear_error_on_both_sides() {
    let probe = probe();
    let server = serve(secret("correct horse"), node("n1"), &probe).await;
    let stranger = client(secret("battery staple"));
    let (at_client, at_server) =
        assert_refused(&server, &stranger, &probe, ErrorKind::Forbidden, "FORBIDDEN_SECRET").await;
    assert!(at_client.message().contains(&server.local_addr().to_string()));
    assert!(at_client.message().contains("another secret"));
    assert!(at_server.message().contains("another secret"));
    assert!(!at_client.retryable());
    // A caller who gives up while attempts are paused still learns the reason.
    let address = server.local_addr().to_string();
    let tiny = Duration::from_millis(1);
    let call = stranger.call(&address, None, Lane::Data, ECHO, Bytes::new(), tiny);
    assert_eq!(not_sent(soon("call", call).await).code(), "FORBIDDEN_SECRET");
    assert_serves(&client(secret("correct horse")), server.local_addr()).await;
}

#[tokio::test]
async fn a_secret_is_not_mistaken_for_a_similar_one() {
    for other in ["S", "s ", "ss", "\0", "s\0"] {
        let probe = probe();
        let server = serve(secret("s"), node("n1"), &probe).await;
        let client = client(secret(other));
        assert_refused(&server, &client, &probe, ErrorKind::Forbidden, "FORBIDDEN_SECRET").await;
    }
}

#[tokio::test]
async fn plain_to_tls_is_refused_with_a_clear_error_on_both_sides() {
    let probe = probe();
    let server = serve(secret("s"), node("n1"), &probe).await;
    let kind = ErrorKind::Forbidden;
    let (at_client, at_server) =
        assert_refused(&server, &client(None), &probe, kind, "FORBIDDEN_TLS_MISMATCH").await;
    assert!(at_client.message().contains("has no secret or certificates"), "{at_client}");
    assert!(at_server.message().contains("does not use TLS"), "{at_server}");
}

#[tokio::test]
async fn tls_to_plain_is_refused_with_a_clear_error_on_both_sides() {
    let probe = probe();
    let server = serve(None, node("n1"), &probe).await;
    let kind = ErrorKind::Forbidden;
    let (at_client, at_server) =
        assert_refused(&server, &client(secret("s")), &probe, kind, "FORBIDDEN_TLS_MISMATCH").await;
    assert!(at_client.message().contains("does not use TLS"), "{at_client}");
    assert!(at_server.message().contains("uses TLS"), "{at_server}");
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_with_a_clear_error_on_both_sides() {
    let probe = probe();
    let server = serve(secret("s"), member("n1", 0xAA), &probe).await;
    let stranger = Client::new(secret("s"), member("n2", 0xBB));
    let (at_client, at_server) =
        assert_refused(&server, &stranger, &probe, ErrorKind::Forbidden, "FORBIDDEN_CLUSTER").await;
    for error in [at_client, at_server] {
        assert!(error.message().contains(&"aa".repeat(16)), "{error}");
        assert!(error.message().contains(&"bb".repeat(16)), "{error}");
    }
    let same = Client::new(secret("s"), member("n2", 0xAA));
    assert_serves(&same, server.local_addr()).await;
    let joining = Client::new(secret("s"), node("n3"));
    assert_serves(&joining, server.local_addr()).await;
}

struct NoAdmission;

impl Local for NoAdmission {
    fn node_id(&self) -> String {
        "n1".to_owned()
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        None
    }

    fn admit(&self, peer: &Peer) -> Result<()> {
        let message = format!("{} was removed from the cluster", peer.node_id);
        Err(Error::new(ErrorKind::Forbidden, "FORBIDDEN_REMOVED", message))
    }
}

#[tokio::test]
async fn the_reason_of_a_refused_admission_reaches_the_peer() {
    let probe = probe();
    let handler = Arc::new(ProbeHandler(probe.clone()));
    let server = Server::bind("127.0.0.1:0", None, Arc::new(NoAdmission), handler).await.unwrap();
    let (at_client, _) =
        assert_refused(&server, &client(None), &probe, ErrorKind::Forbidden, "FORBIDDEN_REMOVED")
            .await;
    assert!(at_client.message().contains("client was removed"), "{at_client}");
}

struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let dir = TempDir::new().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let cert = params.self_signed(&key).unwrap();
    fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", cert.der())).unwrap();
    Authority { dir, issuer: Issuer::new(params, key) }
}

impl Authority {
    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn sign(&self, name: &str, host: &str, usages: &[ExtendedKeyUsagePurpose]) -> [PathBuf; 2] {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["pem", "key"].map(|ext| self.dir.path().join(format!("{name}.{ext}")));
        fs::write(&files[0], pem("CERTIFICATE", cert.der())).unwrap();
        fs::write(&files[1], pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        files
    }

    fn tls(&self, name: &str, host: &str) -> Option<Arc<Tls>> {
        let [cert, key] = self.sign(name, host, &BOTH);
        own(&self.ca(), &cert, &key).unwrap()
    }
}

const BOTH: [ExtendedKeyUsagePurpose; 2] =
    [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

fn own(ca: &Path, cert: &Path, key: &Path) -> Result<Option<Arc<Tls>>> {
    Tls::from_config(&Security::Certificates {
        ca: ca.to_owned(),
        cert: cert.to_owned(),
        key: key.to_owned(),
    })
}

fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte))
            << (8 * (3 - three.len()));
        for i in 0..4 {
            let c = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] as char;
            text.push(if i <= three.len() { c } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[tokio::test]
async fn own_certificates_are_accepted_and_those_of_a_foreign_authority_refused() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let probe = probe();
    let server = serve(ours.tls("server", "127.0.0.1"), node("n1"), &probe).await;
    let code = "FORBIDDEN_CERTIFICATE";
    let foreign = client(theirs.tls("client", "127.0.0.1"));
    assert_refused(&server, &foreign, &probe, ErrorKind::Forbidden, code).await;
    // An authority of the same name is not the same authority.
    let namesake = client(authority("ours").tls("client", "127.0.0.1"));
    assert_refused(&server, &namesake, &probe, ErrorKind::Forbidden, code).await;
    assert_serves(&client(ours.tls("client", "127.0.0.1")), server.local_addr()).await;
}

#[tokio::test]
async fn a_client_certificate_of_a_foreign_authority_is_refused_by_the_server() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let probe = probe();
    let server = serve(ours.tls("server", "127.0.0.1"), node("n1"), &probe).await;
    // It trusts the server, so that the refusal comes from the server's side.
    let [cert, key] = theirs.sign("client", "127.0.0.1", &BOTH);
    let foreign = client(own(&ours.ca(), &cert, &key).unwrap());
    let kind = ErrorKind::Forbidden;
    assert_refused(&server, &foreign, &probe, kind, "FORBIDDEN_CERTIFICATE").await;
}

#[tokio::test]
async fn a_certificate_for_another_host_or_use_is_refused() {
    let ours = authority("ours");
    let code = "FORBIDDEN_CERTIFICATE";
    let good = ours.tls("client", "127.0.0.1");
    let probe = probe();
    let server = serve(ours.tls("server", "db.example"), node("n1"), &probe).await;
    let client_of_other_host = client(good.clone());
    assert_refused(&server, &client_of_other_host, &probe, ErrorKind::Forbidden, code).await;

    let server = serve(good, node("n1"), &probe).await;
    let [cert, key] = ours.sign("serving", "127.0.0.1", &[ExtendedKeyUsagePurpose::ServerAuth]);
    let only_serving = client(own(&ours.ca(), &cert, &key).unwrap());
    assert_refused(&server, &only_serving, &probe, ErrorKind::Forbidden, code).await;
}

#[tokio::test]
async fn changed_certificates_are_read_again() {
    let (old, new) = (authority("old"), authority("new"));
    let [cert, key] = old.sign("server", "127.0.0.1", &BOTH);
    let load = |every| Certificates::load_checked_every(&old.ca(), &cert, &key, every).unwrap();
    let tls = Tls::from_certificates(load(Duration::ZERO));
    let server = serve(Some(tls), node("n1"), &probe()).await;
    let address = server.local_addr();
    let renewed = client(new.tls("client", "127.0.0.1"));
    assert!(call(&renewed, address, ECHO, Bytes::new()).await.is_err());

    // Half of them replaced: what was read before stays in force.
    let [new_cert, new_key] = new.sign("server", "127.0.0.1", &BOTH);
    fs::copy(&new_cert, &cert).unwrap();
    assert_serves(&client(old.tls("client", "127.0.0.1")), address).await;

    fs::copy(&new_key, &key).unwrap();
    fs::copy(new.ca(), old.ca()).unwrap();
    let renewal = async { while call(&renewed, address, ECHO, Bytes::new()).await.is_err() {} };
    soon("the new certificates are in force", renewal).await;
}

#[test]
fn bad_certificate_files_are_config_errors_that_name_the_file() {
    let ours = authority("ours");
    let [cert, key] = ours.sign("node", "127.0.0.1", &BOTH);
    let [_, other_key] = ours.sign("other", "127.0.0.1", &BOTH);
    let file = |name: &str, content: &[u8]| {
        let path = ours.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let missing = ours.dir.path().join("missing.pem");
    let empty = file("empty.pem", b"");
    let binary = file("binary.pem", &[0xff; 100]);
    let torn = file("torn.pem", &fs::read(&cert).unwrap()[..80]);
    let not_der = file("not_der.pem", pem("CERTIFICATE", b"not a certificate").as_bytes());
    let bad_key = file("bad_key.pem", pem("PRIVATE KEY", b"not a key").as_bytes());
    let ca = ours.ca();
    let mut cases = vec![(&ca, &cert, &bad_key, &bad_key), (&ca, &cert, &other_key, &other_key)];
    for bad in [&missing, &empty, &binary, &torn, &not_der] {
        cases.extend([(bad, &cert, &key, bad), (&ca, bad, &key, bad), (&ca, &cert, bad, bad)]);
    }
    for (ca, cert, key, culprit) in cases {
        let error = own(ca, cert, key).err().unwrap();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Config, "CONFIG_CERTIFICATE"));
        let name = culprit.display().to_string();
        assert!(error.message().contains(&name), "{error} does not name {name}");
    }
    assert!(own(&ca, &cert, &key).unwrap().is_some());
}

#[test]
fn plain_is_no_tls() {
    assert!(Tls::from_config(&Security::Plain).unwrap().is_none());
}
