//! Who may take part, as the user of a node sees it: what is refused, what both sides are told, and
//! that the cluster goes on.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorumlite::{Config, Consistency, Error, ErrorKind, Node, Role, params};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519,
};
use support::{Cluster, SECRET, equal_content, eventually, free_address, integer, member, query};
use tempfile::TempDir;

/// A refusal must not use up the 30 seconds that the configurations here give.
const QUICKLY: Duration = Duration::from_secs(15);

/// A node that uses plain TCP.
fn unprotected(dir: &Path, id: &str, listen: &str, join: &[&str]) -> Config {
    Config::new(dir.join(id))
        .node_id(id)
        .listen(listen)
        .join(join.iter().copied())
        .timeout(Duration::from_secs(30))
}

async fn refused(config: Config, code: &str) -> Error {
    let started = Instant::now();
    let e = Node::open(config).await.expect_err("the node must be refused");
    assert_eq!((e.kind(), e.code()), (ErrorKind::Forbidden, code), "{e:?}");
    assert!(!e.retryable(), "{e:?}");
    assert!(started.elapsed() < QUICKLY, "it took {:?}", started.elapsed());
    e
}

/// What the member says of the peer that it turned away last, once that contains `reason`.
async fn last_refusal(member: &Node, reason: &str) -> String {
    eventually("the refusal in the member's status", || async {
        member.status().unwrap().last_refusal.filter(|r| r.contains(reason))
    })
    .await
}

/// All nodes are members, and each writes what all others then read.
async fn assert_goes_on(nodes: &[Node]) {
    for node in nodes {
        node.execute("CREATE TABLE IF NOT EXISTS goes_on(a)", ()).await.unwrap();
        node.execute("INSERT INTO goes_on VALUES (1)", ()).await.unwrap();
        assert_eq!(node.status().unwrap().members.len(), nodes.len());
    }
    equal_content(&nodes.iter().collect::<Vec<_>>()).await;
}

async fn close(nodes: &[Node]) {
    for node in nodes {
        node.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_and_both_sides_say_so() {
    let cluster = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let join = [cluster.addresses[1].as_str()];
    let config = member(dir.path(), "n4", &free_address(), &join);
    let e = refused(config.clone().secret("battery staple"), "FORBIDDEN_SECRET").await;
    assert!(e.message().contains(join[0]), "{e}");
    assert!(e.message().contains("give every node of the cluster the same secret"), "{e}");
    let told = last_refusal(&cluster.nodes[1], "another secret").await;
    assert!(told.starts_with("127.0.0.1:"), "{told}");
    for text in [e.message(), &told, &format!("{config:?}")] {
        assert!(!text.contains("battery") && !text.contains(SECRET), "{text}");
    }
    assert_goes_on(&cluster.nodes).await;

    // With the right one the same directory joins.
    let fourth = Node::open(config).await.unwrap();
    let mut all = cluster.nodes.clone();
    all.push(fourth.clone());
    assert_goes_on(&all).await;
    fourth.close().await.unwrap();
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_back_with_a_wrong_secret_is_refused() {
    let cluster = Cluster::start().await;
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    cluster.nodes[2].close().await.unwrap();
    let e = refused(cluster.config(2).secret("battery staple"), "FORBIDDEN_SECRET").await;
    assert!(e.message().contains("give every node of the cluster the same secret"), "{e}");
    for member in &cluster.nodes[..2] {
        last_refusal(member, "another secret").await;
        member.execute("CREATE TABLE IF NOT EXISTS t(a)", ()).await.unwrap();
    }
    let back = cluster.open(2).await.unwrap();
    assert_goes_on(&[cluster.nodes[0].clone(), cluster.nodes[1].clone(), back.clone()]).await;
    back.close().await.unwrap();
    close(&cluster.nodes[..2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_secret_is_refused_by_a_cluster_that_has_one() {
    let cluster = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let join = [cluster.addresses[0].as_str()];
    let config = unprotected(dir.path(), "n4", &free_address(), &join);
    let e = refused(config, "FORBIDDEN_TLS_MISMATCH").await;
    assert!(e.message().contains("this node has no secret or certificates"), "{e}");
    let told = last_refusal(&cluster.nodes[0], "does not use TLS").await;
    assert!(told.starts_with("127.0.0.1:"), "{told}");
    assert_goes_on(&cluster.nodes).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_secret_is_refused_by_a_cluster_that_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let first = free_address();
    let mut nodes = Vec::new();
    for (id, listen) in [("n1", first.clone()), ("n2", free_address()), ("n3", free_address())] {
        let join: &[&str] = if id == "n1" { &[] } else { &[&first] };
        nodes.push(Node::open(unprotected(dir.path(), id, &listen, join)).await.unwrap());
    }
    let config = member(dir.path(), "n4", &free_address(), &[&first]);
    let e = refused(config, "FORBIDDEN_TLS_MISMATCH").await;
    assert!(e.message().contains("does not use TLS but this node does"), "{e}");
    let told = last_refusal(&nodes[0], "uses TLS").await;
    assert!(told.starts_with("127.0.0.1:"), "{told}");
    assert_goes_on(&nodes).await;
    close(&nodes).await;
}

/// A directory with a cluster, and data, of its own.
async fn own_cluster(config: Config) -> (String, String) {
    let node = Node::open(config).await.unwrap();
    node.execute("CREATE TABLE mine(a)", ()).await.unwrap();
    node.execute("INSERT INTO mine VALUES (42)", ()).await.unwrap();
    let hash = node.content_hash().await.unwrap().hash;
    let cluster_id = node.status().unwrap().cluster_id;
    node.close().await.unwrap();
    (cluster_id, hash)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_cluster_is_refused_and_keeps_its_data() {
    let cluster = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let alone = member(dir.path(), "n4", &address, &[]);
    let standalone = Config::new(dir.path().join("standalone"));
    for (without_join, config) in [
        (alone, member(dir.path(), "n4", &address, &[&cluster.addresses[0]])),
        (standalone, member(dir.path(), "standalone", &address, &[&cluster.addresses[0]])),
    ] {
        let (cluster_id, hash) = own_cluster(without_join.clone()).await;
        // A standalone directory has made a name for itself.
        let config = match Node::open(without_join.clone()).await.unwrap() {
            node if without_join.dir().ends_with("standalone") => {
                let id = node.status().unwrap().node_id;
                node.close().await.unwrap();
                config.node_id(id)
            }
            node => {
                node.close().await.unwrap();
                config
            }
        };
        let e = refused(config, "FORBIDDEN_CLUSTER").await;
        assert!(e.message().contains("check the addresses in join"), "{e}");
        assert!(e.message().contains(&cluster_id), "{e}");
        let told = last_refusal(&cluster.nodes[0], &cluster_id).await;
        assert!(told.starts_with("127.0.0.1:"), "{told}");

        let node = Node::open(without_join).await.unwrap();
        assert_eq!(node.status().unwrap().cluster_id, cluster_id);
        assert_eq!(node.content_hash().await.unwrap().hash, hash);
        node.execute("INSERT INTO mine VALUES (43)", ()).await.unwrap();
        node.close().await.unwrap();
    }
    assert_goes_on(&cluster.nodes).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_member_starts_again_though_nobody_answers_at_its_join_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    own_cluster(member(dir.path(), "n1", &address, &[])).await;
    // Nobody there; another one there that speaks something else; itself.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_address = other.local_addr().unwrap().to_string();
    let join = [free_address(), other_address, address.clone()];
    let join: Vec<&str> = join.iter().map(String::as_str).collect();
    let node = Node::open(member(dir.path(), "n1", &address, &join)).await.unwrap();
    node.execute("INSERT INTO mine VALUES (43)", ()).await.unwrap();
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_node_at_the_join_address_is_reported_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    let config = member(dir.path(), "n1", &free_address(), &[&silent_address])
        .timeout(Duration::from_secs(3));
    let e = Node::open(config).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Unavailable, "JOIN_FAILED"), "{e:?}");
    assert!(e.message().contains(&silent_address), "{e}");

    let chatty = TcpListener::bind("127.0.0.1:0").unwrap();
    let chatty_address = chatty.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in chatty.incoming() {
            let Ok(mut stream) = stream else { return };
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = std::io::Write::write_all(&mut stream, answer);
        }
    });
    let join = [chatty_address.as_str()];
    let e =
        refused(member(dir.path(), "n1", &free_address(), &join), "FORBIDDEN_TLS_MISMATCH").await;
    assert!(e.message().contains(&chatty_address), "{e}");
    let config = unprotected(dir.path(), "n1", &free_address(), &join);
    let e = refused(config, "FORBIDDEN_PROTOCOL").await;
    assert!(e.message().contains("is not a quorumlite node"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_tcp_beyond_loopback_needs_to_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let port = address.rsplit_once(':').unwrap().1;
    let config = unprotected(dir.path(), "n1", &format!("0.0.0.0:{port}"), &[]).advertise(&address);
    let e = Node::open(config.clone()).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Config, "CONFIG_INSECURE"), "{e:?}");
    for mend in ["secret=", "ca, cert and", "insecure=True"] {
        assert!(e.message().contains(mend), "{e}");
    }
    assert!(!config.dir().exists(), "a refused configuration must not leave a directory");

    // A secret, or saying so, mends it.
    let protected = Node::open(config.clone().secret(SECRET)).await.unwrap();
    protected.close().await.unwrap();
    let first = Node::open(config.insecure(true)).await.unwrap();
    let second = unprotected(dir.path(), "n2", &free_address(), &[&address]);
    let second = Node::open(second).await.unwrap();
    assert_goes_on(&[first.clone(), second.clone()]).await;
    close(&[second, first]).await;
}

struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let cert = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", cert.der())).unwrap();
        Authority { dir, issuer: Issuer::new(params, key) }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Certificate and key of a node at 127.0.0.1.
    fn sign(&self, name: &str) -> [PathBuf; 2] {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["pem", "key"].map(|ext| self.dir.path().join(format!("{name}.{ext}")));
        fs::write(&files[0], pem("CERTIFICATE", cert.der())).unwrap();
        fs::write(&files[1], pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        files
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte))
            << (8 * (3 - three.len()));
        for i in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] as char;
            text.push(if i <= three.len() { symbol } else { '=' });
        }
    }
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn own_certificates_make_a_cluster_and_a_foreign_authority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let certified = |authority: &Authority, id: &str, listen: &str, join: &[&str]| {
        let [cert, key] = authority.sign(id);
        unprotected(dir.path(), id, listen, join).certificates(authority.ca(), cert, key)
    };
    let first = free_address();
    let mut nodes = vec![Node::open(certified(&ours, "n1", &first, &[])).await.unwrap()];
    for id in ["n2", "n3"] {
        let config = certified(&ours, id, &free_address(), &[&first]);
        nodes.push(Node::open(config).await.unwrap());
    }
    assert_goes_on(&nodes).await;

    // By the joiner: the members' certificates are not from its own authority.
    let foreign = Authority::new("theirs");
    let config = certified(&foreign, "n4", &free_address(), &[&first]);
    let e = refused(config, "FORBIDDEN_CERTIFICATE").await;
    assert!(e.message().contains("must be signed by ca"), "{e}");
    assert!(e.message().contains(&first), "{e}");
    last_refusal(&nodes[0], "certificate").await;
    // By the member: the joiner trusts the cluster's authority, which does not vouch for it.
    let [cert, key] = foreign.sign("n4");
    let config = unprotected(dir.path(), "n4", &free_address(), &[&first]).certificates(
        ours.ca(),
        cert,
        key,
    );
    let e = refused(config, "FORBIDDEN_CERTIFICATE").await;
    assert!(e.message().contains("sign every node's certificate with the same ca"), "{e}");
    let told = last_refusal(&nodes[0], "must be signed by ca").await;
    assert!(told.starts_with("127.0.0.1:"), "{told}");
    // By secret.
    let config = member(dir.path(), "n4", &free_address(), &[&first]);
    refused(config, "FORBIDDEN_SECRET").await;
    assert_goes_on(&nodes).await;
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_or_of_another_machine_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = member(dir.path(), "n1", &address, &[]);
    let e = Node::open(config.clone()).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Config, "CONFIG_ADDRESS_IN_USE"), "{e:?}");
    assert!(e.message().contains(&address), "{e}");
    assert!(e.message().contains("give this node another port in listen"), "{e}");
    // Reserved for documentation (RFC 5737): no machine has it.
    let e = Node::open(member(dir.path(), "n1", "192.0.2.1:7001", &[])).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Config, "CONFIG_ADDRESS"), "{e:?}");
    // Nothing is left behind that keeps the node from opening once the address is free.
    drop(taken);
    let node = Node::open(config).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_opened_without_its_cluster_says_what_is_missing() {
    let cluster = Cluster::start().await;
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    cluster.nodes[2].close().await.unwrap();
    let e = Node::open(Config::new(cluster.data_dir(2))).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Config, "CONFIG_NEEDS_LISTEN"), "{e:?}");
    let e = Node::open(cluster.config(2).node_id("n7")).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Config, "CONFIG_NODE_ID"), "{e:?}");
    let back = cluster.open(2).await.unwrap();
    back.execute("CREATE TABLE t(a)", ()).await.unwrap();
    back.execute("INSERT INTO t VALUES (?)", params![7]).await.unwrap();
    let rows = query(&cluster.nodes[0], "SELECT a FROM t", Consistency::Linearizable).await;
    assert_eq!(integer(&rows.unwrap()), 7);
    back.close().await.unwrap();
    close(&cluster.nodes[..2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_option_is_refused_with_its_mend() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let base = || Config::new(&path);
    let node = || base().listen("127.0.0.1:7001");
    let file = dir.path().join("file.pem");
    fs::write(&file, "no certificate").unwrap();
    let missing = dir.path().join("missing.pem");
    let own = Authority::new("ours");
    let [cert, key] = own.sign("n1");
    let [_, other_key] = own.sign("n2");
    let long = "x".repeat(65);
    let listen = free_address();
    let alias = listen.replace("127.0.0.1", "localhost");
    #[rustfmt::skip]
    let table: Vec<(Config, &str, &str)> = vec![
        (Config::new(""), "CONFIG_DIRECTORY", "name a directory"),
        (Config::new(&file), "CONFIG_DIRECTORY", "name a directory"),
        (Config::new(file.join("below")), "CONFIG_DIRECTORY", "name a directory"),
        (base().node_id(""), "CONFIG_NODE_ID", "1 to 64 of the characters"),
        (base().node_id(&long), "CONFIG_NODE_ID", "1 to 64 of the characters"),
        (base().node_id("a b"), "CONFIG_NODE_ID", "1 to 64 of the characters"),
        (base().node_id("n\n1"), "CONFIG_NODE_ID", "1 to 64 of the characters"),
        (base().node_id("knoten-ä"), "CONFIG_NODE_ID", "1 to 64 of the characters"),
        (base().timeout(Duration::ZERO), "CONFIG_TIMEOUT", "more than 0 and at most 86400"),
        (base().timeout(Duration::from_secs(86_401)), "CONFIG_TIMEOUT", "at most 86400 seconds"),
        (base().timeout(Duration::MAX), "CONFIG_TIMEOUT", "at most 86400 seconds"),
        (base().max_log_bytes(0), "CONFIG_LIMIT", "at least 1048576"),
        (base().max_log_bytes(1_048_575), "CONFIG_LIMIT", "at least 1048576"),
        (base().secret(""), "CONFIG_SECRET", "use a long random text"),
        (node().secret(""), "CONFIG_SECRET", "use a long random text"),
        // Options of a cluster without a port.
        (base().advertise("127.0.0.1:1"), "CONFIG_NEEDS_LISTEN", "advertise was given without listen; add listen="),
        (base().join(["127.0.0.1:1"]), "CONFIG_NEEDS_LISTEN", "join was given without listen; add listen="),
        (base().secret("s"), "CONFIG_NEEDS_LISTEN", "secret or certificates was given without listen"),
        (base().certificates(own.ca(), &cert, &key), "CONFIG_NEEDS_LISTEN", "add listen="),
        (base().insecure(true), "CONFIG_NEEDS_LISTEN", "insecure was given without listen"),
        (base().role(Role::Learner), "CONFIG_NEEDS_LISTEN", "role=\"learner\" was given without listen"),
        // Addresses.
        (base().listen(""), "CONFIG_ADDRESS", "listen=\"\" is not host:port, such as"),
        (base().listen("127.0.0.1"), "CONFIG_ADDRESS", "is not host:port, such as"),
        (base().listen(":7001"), "CONFIG_ADDRESS", "is not host:port, such as"),
        (base().listen("127.0.0.1:"), "CONFIG_ADDRESS", "is not host:port, such as"),
        (base().listen("127.0.0.1:65536"), "CONFIG_ADDRESS", "is not host:port, such as"),
        (base().listen("127.0.0.1:-1"), "CONFIG_ADDRESS", "is not host:port, such as"),
        (base().listen("::1:7001"), "CONFIG_ADDRESS", "is not host:port, such as"),
        (base().listen("[::1:7001"), "CONFIG_ADDRESS", "is not host:port, such as"),
        (node().advertise("127.0.0.1:0"), "CONFIG_ADDRESS", "advertise=\"127.0.0.1:0\" is not host:port"),
        (node().advertise("n1"), "CONFIG_ADDRESS", "advertise=\"n1\" is not host:port"),
        (node().join(["127.0.0.1:7002", "n2"]), "CONFIG_ADDRESS", "join=\"n2\" is not host:port"),
        (node().join(["127.0.0.1:0"]), "CONFIG_ADDRESS", "join=\"127.0.0.1:0\" is not host:port"),
        (base().listen("0.0.0.0:7001").secret("s"), "CONFIG_ADVERTISE", "add advertise=\"host:port\""),
        (base().listen("[::]:7001").secret("s"), "CONFIG_ADVERTISE", "add advertise=\"host:port\""),
        // Protection.
        (base().listen("192.0.2.1:7001"), "CONFIG_INSECURE", "add secret="),
        (base().listen("[2001:db8::1]:7001"), "CONFIG_INSECURE", "add secret="),
        (base().listen("db1.example:7001"), "CONFIG_INSECURE", "insecure=True"),
        (base().listen("0.0.0.0:7001").advertise("127.0.0.1:7001"), "CONFIG_INSECURE", "ca, cert and key"),
        (node().certificates(&missing, &cert, &key), "CONFIG_CERTIFICATE", "missing.pem"),
        (node().certificates(own.ca(), &missing, &key), "CONFIG_CERTIFICATE", "missing.pem"),
        (node().certificates(own.ca(), &cert, &missing), "CONFIG_CERTIFICATE", "missing.pem"),
        (node().certificates(&file, &cert, &key), "CONFIG_CERTIFICATE", "no certificate in PEM form"),
        (node().certificates(own.ca(), &file, &key), "CONFIG_CERTIFICATE", "no certificate in PEM form"),
        (node().certificates(own.ca(), &cert, &file), "CONFIG_CERTIFICATE", "no unencrypted private key"),
        (node().certificates(own.ca(), &cert, other_key), "CONFIG_CERTIFICATE", "does not belong to the certificate"),
        (member(dir.path(), "alone", &listen, &[&listen]), "CONFIG_JOIN", "names only this node itself"),
        (member(dir.path(), "alone", &listen, &[&alias, &listen]), "CONFIG_JOIN", "leave join out"),
        // A first node that could never serve.
        (node().listen(free_address()).role(Role::Learner), "CONFIG_ROLE", "give it join, or leave role out"),
    ];
    for (config, code, mend) in table {
        let e = Node::open(config.clone()).await.expect_err(mend);
        assert_eq!((e.kind(), e.code()), (ErrorKind::Config, code), "{config:?}: {e:?}");
        assert!(e.message().contains(mend), "{config:?}: {e}");
        assert!(!e.retryable(), "{e:?}");
    }
    for (name, code) in [("eventual", "CONFIG_CONSISTENCY"), ("", "CONFIG_CONSISTENCY")] {
        let e = name.parse::<Consistency>().unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Config, code));
        assert!(e.message().contains("use one of \"none\""), "{e}");
    }
    let e = "observer".parse::<Role>().unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Config, "CONFIG_ROLE"));
    assert!(e.message().contains("use \"voter\" or \"learner\""), "{e}");

    // None of this spoiled the directory for a right configuration.
    let node = Node::open(base()).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    node.close().await.unwrap();
}
