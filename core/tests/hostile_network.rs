//! Whatever comes to the ports of a running cluster, all nodes go on writing, nobody loses the
//! leadership and memory stays bounded. All traffic stays on 127.0.0.1.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use quorumlite::{Config, Consistency, Node, params};
use support::{PATIENCE, equal_content, eventually, free_address, integer, member, query};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The longest that a write may take while the attacks go on: far less than any call's deadline.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// What the process may grow by, hostile side included.
const GROWTH: u64 = 256 * 1024 * 1024;
/// Idle connections to each port: more than a node keeps of those that have not said hello.
const IDLE: usize = 150;

/// The tests measure the memory and the pace of one process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

// ---- the cluster -------------------------------------------------------------------------------

type Form = fn(&Path, &str, &str, &[&str]) -> Config;

fn plain(dir: &Path, id: &str, listen: &str, join: &[&str]) -> Config {
    Config::new(dir.join(id))
        .node_id(id)
        .listen(listen)
        .join(join.iter().copied())
        .timeout(Duration::from_secs(30))
}

#[derive(Default)]
struct Pace {
    writes: AtomicI64,
    longest_us: AtomicU64,
}

/// Three nodes with a steady writer on each.
struct Target {
    dir: TempDir,
    form: Form,
    addresses: Vec<String>,
    nodes: Vec<Node>,
    paces: Vec<Arc<Pace>>,
    writers: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    term: u64,
    leader: Option<String>,
    memory: u64,
}

impl Target {
    async fn start(form: Form) -> Target {
        let dir = tempfile::tempdir().unwrap();
        let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
        let mut nodes = Vec::new();
        for (i, listen) in addresses.iter().enumerate() {
            let join: &[&str] = if i == 0 { &[] } else { &[&addresses[0]] };
            let id = format!("n{}", i + 1);
            nodes.push(Node::open(form(dir.path(), &id, listen, join)).await.unwrap());
        }
        nodes[0].execute("CREATE TABLE t(node INTEGER, sequence INTEGER)", ()).await.unwrap();
        equal_content(&nodes.iter().collect::<Vec<_>>()).await;
        let (stop, stopped) = watch::channel(false);
        let paces: Vec<Arc<Pace>> = (0..3).map(|_| Arc::default()).collect();
        let writers = nodes.iter().zip(&paces).enumerate().map(|(i, (node, pace))| {
            tokio::spawn(write(node.clone(), i as i64, pace.clone(), stopped.clone()))
        });
        let writers = writers.collect();
        let status = nodes[0].status().unwrap();
        BUILD.get_or_init(|| (status.apply_level, status.fingerprint.clone()));
        let (term, leader) = (status.term, status.leader_id);
        let mut target =
            Target { dir, form, addresses, nodes, paces, writers, stop, term, leader, memory: 0 };
        target.assert_goes_on("the start", 20).await;
        target.memory = resident_bytes();
        target
    }

    fn cluster_id(&self) -> Vec<u8> {
        let id = self.nodes[0].status().unwrap().cluster_id;
        (0..16).map(|i| u8::from_str_radix(&id[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    /// From now on each node carries out some more writes; nothing has changed.
    async fn assert_goes_on(&self, after: &str, writes: i64) {
        let count = || self.paces.iter().map(|pace| pace.writes.load(Ordering::SeqCst));
        let before: Vec<i64> = count().collect();
        eventually(&format!("writes on all nodes after {after}"), || async {
            count().zip(&before).all(|(now, before)| now >= before + writes).then_some(())
        })
        .await;
        for (node, pace) in self.nodes.iter().zip(&self.paces) {
            let longest = Duration::from_micros(pace.longest_us.load(Ordering::SeqCst));
            assert!(longest < LONGEST_WRITE, "{after}: a write on {node:?} took {longest:?}");
            let status = node.status().unwrap();
            assert_eq!((status.term, &status.leader_id), (self.term, &self.leader), "{after}");
        }
        if self.memory > 0 {
            let grown = resident_bytes().saturating_sub(self.memory);
            assert!(grown < GROWTH, "{after}: the process grew by {grown} bytes");
        }
    }

    /// Ends the writers; every node then holds every write once.
    async fn finish(mut self) {
        self.assert_goes_on("everything", 10).await;
        self.stop.send_replace(true);
        for writer in self.writers.drain(..) {
            writer.await.unwrap();
        }
        equal_content(&self.nodes.iter().collect::<Vec<_>>()).await;
        for node in &self.nodes {
            for (i, pace) in self.paces.iter().enumerate() {
                let sql =
                    format!("SELECT count(*), count(DISTINCT sequence) FROM t WHERE node = {i}");
                let rows = query(node, &sql, Consistency::None).await.unwrap();
                let written = pace.writes.load(Ordering::SeqCst);
                assert_eq!(integer(&rows), written);
                assert_eq!(rows.get(0).unwrap()[1].as_i64(), Some(written));
            }
        }
        for node in &self.nodes {
            node.close().await.unwrap();
        }
    }
}

async fn write(node: Node, id: i64, pace: Arc<Pace>, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let sequence = pace.writes.load(Ordering::SeqCst);
        let started = Instant::now();
        node.execute("INSERT INTO t VALUES (?, ?)", params![id, sequence]).await.expect("a write");
        let micros = started.elapsed().as_micros() as u64;
        pace.longest_us.fetch_max(micros, Ordering::SeqCst);
        pace.writes.fetch_add(1, Ordering::SeqCst);
    }
}

/// What this process occupies in memory; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

// ---- hostile bytes -----------------------------------------------------------------------------

/// Marsaglia, "Xorshift RNGs" (2003): the same garbage in every run.
struct Garbage(u64);

impl Garbage {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// A ClientHello that a TLS 1.3 server accepts (RFC 8446, section 4.1.2).
fn client_hello() -> Vec<u8> {
    fn u16_prefixed(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
    }
    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &u16_prefixed(content)].concat()
    }
    const X25519: [u8; 2] = [0x00, 0x1d];
    let key_share = [&X25519[..], &u16_prefixed(&[9; 32])].concat();
    let extensions = [
        extension(0x002b, &[2, 0x03, 0x04]), // supported_versions: 1.3
        extension(0x000a, &u16_prefixed(&X25519)), // supported_groups
        extension(0x000d, &u16_prefixed(&[0x08, 0x07, 4, 3])), // signatures: Ed25519, ECDSA
        extension(0x0033, &u16_prefixed(&key_share)), // key_share
    ]
    .concat();
    let mut body = vec![0x03, 0x03];
    body.extend([7; 32]); // random
    body.push(0); // no session id
    body.extend(u16_prefixed(&[0x13, 0x01, 0x13, 0x02])); // AES-GCM
    body.extend([1, 0]); // no compression
    body.extend(u16_prefixed(&extensions));
    let length = (body.len() as u32).to_be_bytes();
    let handshake = [&[1][..], &length[1..], &body].concat();
    [&[0x16, 0x03, 0x01][..], &u16_prefixed(&handshake)].concat()
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// What the nodes under attack say of their build: their level and their fingerprint.
static BUILD: OnceLock<(u32, String)> = OnceLock::new();

/// The first message of a node: magic, versions, cluster, name, lane, build.
fn hello(cluster_id: &[u8], lane: u8) -> Vec<u8> {
    let mut message = vec![0x0d];
    message.extend(0x514c_5450_u32.to_le_bytes());
    message.extend([0x10, 1, 0x18, 1]);
    if !cluster_id.is_empty() {
        message.extend([0x22, cluster_id.len() as u8]);
        message.extend(cluster_id);
    }
    message.extend(b"\x2a\x07hostile");
    message.extend([0x30, lane]);
    let (level, fingerprint) = BUILD.get().expect("a target was started");
    message.push(0x38);
    message.extend(varint(u64::from(*level)));
    message.extend([0x42, fingerprint.len() as u8]);
    message.extend(fingerprint.as_bytes());
    framed(&message)
}

fn request(id: u64, method: u8, body: &[u8]) -> Vec<u8> {
    let head = [&[0x08][..], &varint(id), &[0x10, 1, 0x18, method, 0x2a]].concat();
    framed(&[&head[..], &varint(body.len() as u64), body].concat())
}

const PING: u8 = 35;
/// The leading byte of a response's body, and of its error.
const BODY: u8 = 0x2a;
const ERROR: u8 = 0x22;

async fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address).await.expect("the port is open")
}

/// Sends what the node takes; it may close at any point.
async fn send(address: &str, bytes: &[u8]) -> TcpStream {
    let mut tcp = connect(address).await;
    let _ = timeout(Duration::from_secs(2), tcp.write_all(bytes)).await;
    tcp
}

async fn frame(tcp: &mut TcpStream) -> Vec<u8> {
    let read = async {
        let length = tcp.read_u32().await.expect("a frame");
        let mut frame = vec![0; length as usize];
        tcp.read_exact(&mut frame).await.expect("a frame");
        frame
    };
    timeout(PATIENCE, read).await.expect("a frame in time")
}

/// Calls a method and returns whether the answer is a body or an error.
async fn call(tcp: &mut TcpStream, id: u64, method: u8, body: &[u8]) -> u8 {
    tcp.write_all(&request(id, method, body)).await.expect("a request is taken");
    let head = [&[0x08][..], &varint(id), &[0x10, 2]].concat();
    loop {
        // The node's keep-alive pings come in between.
        if let Some(rest) = frame(tcp).await.strip_prefix(&head[..]) {
            return rest.first().copied().unwrap_or(BODY);
        }
    }
}

/// A peer whose hello the node has accepted.
async fn introduced(address: &str, cluster_id: &[u8], lane: u8) -> TcpStream {
    let mut tcp = send(address, &hello(cluster_id, lane)).await;
    frame(&mut tcp).await;
    let answer = call(&mut tcp, 1, PING, &[]).await;
    assert_eq!(answer, if cluster_id.is_empty() { ERROR } else { BODY });
    tcp
}

/// The node ends each of these connections by itself.
async fn assert_cut_off(connections: Vec<TcpStream>) {
    for mut tcp in connections {
        let mut sink = [0; 4096];
        let end = async { while matches!(tcp.read(&mut sink).await, Ok(n) if n > 0) {} };
        timeout(PATIENCE, end).await.expect("the node ends the connection");
    }
}

// ---- attacks -----------------------------------------------------------------------------------

async fn garbage(addresses: &[String], seed: u64) {
    let mut garbage = Garbage(seed);
    for round in 0..60 {
        for address in addresses {
            let length = 1 << (garbage.next() % 17);
            let mut bytes = garbage.bytes(length);
            match round % 4 {
                // Looks like TLS at first.
                0 => bytes.splice(0..0, [0x16, 0x03, 0x01, 0x02, 0x00]).for_each(drop),
                // Looks like one of our frames at first.
                1 => bytes.splice(0..0, (length as u32).to_be_bytes()).for_each(drop),
                _ => {}
            }
            drop(send(address, &bytes).await);
        }
    }
}

/// A ClientHello cut off anywhere, or whole with something else behind it.
async fn client_hellos(addresses: &[String]) {
    let whole = client_hello();
    let mut garbage = Garbage(99);
    for address in addresses {
        for length in (1..whole.len()).step_by(7) {
            drop(send(address, &whole[..length]).await);
        }
        for behind in [garbage.bytes(1000), vec![0x16; 3000], whole.clone(), vec![0x17, 3, 3, 0, 9]]
        {
            drop(send(address, &[&whole[..], &behind].concat()).await);
        }
    }
}

/// Connections that end at once, half of them by a reset.
async fn come_and_go(addresses: &[String]) {
    for i in 0..200 {
        for address in addresses {
            let tcp = connect(address).await;
            if i % 2 == 0 {
                tcp.set_zero_linger().unwrap();
            }
        }
    }
}

/// Connections that begin like a node's, and then say no more.
async fn half_open(addresses: &[String]) -> Vec<TcpStream> {
    let (tls, frame) = (client_hello(), hello(&[], 1));
    let mut held = Vec::new();
    for address in addresses {
        for bytes in [&tls[..1], &tls[..40], &tls[..], &frame[..1], &frame[..4], &frame[..10]] {
            held.push(send(address, bytes).await);
        }
    }
    held
}

async fn idle(addresses: &[String]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for address in addresses {
        for _ in 0..IDLE {
            held.push(connect(address).await);
        }
    }
    held
}

/// Hellos and frames that are none, to a node without TLS.
async fn bad_frames(addresses: &[String], cluster_id: &[u8]) {
    let oversized = 0xffff_ffff_u32.to_be_bytes();
    let good = hello(cluster_id, 1);
    let mut wrong_magic = good.clone();
    wrong_magic[5] ^= 1;
    let wrong_cluster = hello(&[0xee; 16], 1);
    let hellos: [&[u8]; 9] = [
        &oversized,
        &[0; 4],
        &[0; 4096],
        &framed(&[0xff; 100]),
        &framed(b"\x0d"),
        &65_537_u32.to_be_bytes(),
        &wrong_magic,
        &wrong_cluster,
        &hello(cluster_id, 77),
    ];
    for address in addresses {
        for bytes in hellos {
            let mut refused = send(address, bytes).await;
            // Its answer, if there is one, need not be read.
            let _ = timeout(Duration::from_millis(5), refused.read_u8()).await;
        }
        for lane in [1, 2, 3] {
            for bytes in [&oversized[..], &framed(&[0xff; 100]), &framed(b"\x08")] {
                let mut tcp = introduced(address, cluster_id, lane).await;
                tcp.write_all(bytes).await.unwrap();
                assert_cut_off(vec![tcp]).await;
            }
        }
    }
}

/// Requests whose bodies are no messages, from a peer that knows the cluster and from one that does
/// not; each is answered, and none changes anything.
async fn bad_requests(addresses: &[String], cluster_id: &[u8]) {
    for address in addresses {
        for claimed in [cluster_id, &[]] {
            let mut tcp = introduced(address, claimed, 2).await;
            for (id, method) in (100..).zip(0..60) {
                let answer = call(&mut tcp, id, method, &[0xff; 50]).await;
                let fine = method == PING && !claimed.is_empty();
                assert_eq!(answer, if fine { BODY } else { ERROR }, "method {method}");
            }
        }
    }
}

/// Peers that were accepted, ask and ask, and never read an answer.
async fn never_reading(addresses: &[String], cluster_id: &[u8]) -> Vec<TcpStream> {
    let asking: Vec<u8> = (0..100).flat_map(|id| request(id, PING, &[7; 1000])).collect();
    let mut held = Vec::new();
    for address in addresses {
        for _ in 0..3 {
            let mut tcp = introduced(address, cluster_id, 2).await;
            let mut rounds = 0;
            while rounds < 100
                && timeout(Duration::from_millis(200), tcp.write_all(&asking)).await.is_ok()
            {
                rounds += 1;
            }
            held.push(tcp);
        }
    }
    held
}

/// Peers that were accepted and then say no more, some of them in the middle of a large frame.
async fn falling_silent(addresses: &[String], cluster_id: &[u8]) -> Vec<TcpStream> {
    const LARGE: u32 = 31 * 1024 * 1024;
    let mut held = Vec::new();
    for address in addresses {
        for lane in [1, 2, 3, 2, 3] {
            held.push(introduced(address, cluster_id, lane).await);
            let mut tcp = introduced(address, cluster_id, lane).await;
            if lane != 1 {
                tcp.write_all(&LARGE.to_be_bytes()).await.unwrap();
            }
            tcp.write_all(&[0, 0, 0]).await.unwrap();
            held.push(tcp);
        }
    }
    held
}

/// A node joins while idle connections take the places of those that have not said hello.
async fn join_through_a_crowd(target: &mut Target) {
    let crowd = idle(&target.addresses).await;
    let address = free_address();
    let join = [target.addresses[0].as_str(), target.addresses[1].as_str()];
    let config = (target.form)(target.dir.path(), "n4", &address, &join);
    let fourth = Node::open(config).await.expect("a node joins through a crowd");
    assert_eq!(fourth.status().unwrap().members.len(), 4);
    target.nodes.push(fourth);
    assert_cut_off(crowd).await;
}

// ---- the tests ---------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_a_secret_goes_on_under_attack() {
    let _one = ONE_AT_A_TIME.lock().await;
    let mut target = Target::start(member).await;
    let ports = target.addresses.clone();
    let held = half_open(&ports).await;
    target.assert_goes_on("half-open connections", 5).await;
    garbage(&ports, 1).await;
    target.assert_goes_on("garbage", 5).await;
    client_hellos(&ports).await;
    target.assert_goes_on("broken TLS", 5).await;
    come_and_go(&ports).await;
    target.assert_goes_on("connections that come and go", 5).await;
    join_through_a_crowd(&mut target).await;
    target.assert_goes_on("a crowd of idle connections", 5).await;
    assert_cut_off(held).await;
    target.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_tls_goes_on_under_attack() {
    let _one = ONE_AT_A_TIME.lock().await;
    let target = Target::start(plain).await;
    let (ports, cluster_id) = (target.addresses.clone(), target.cluster_id());
    let mut held = half_open(&ports).await;
    target.assert_goes_on("half-open connections", 5).await;
    held.extend(falling_silent(&ports, &cluster_id).await);
    target.assert_goes_on("peers that fall silent", 5).await;
    let deaf = never_reading(&ports, &cluster_id).await;
    target.assert_goes_on("peers that never read", 5).await;
    garbage(&ports, 2).await;
    target.assert_goes_on("garbage", 5).await;
    client_hellos(&ports).await;
    target.assert_goes_on("TLS where none is spoken", 5).await;
    bad_frames(&ports, &cluster_id).await;
    target.assert_goes_on("bad frames", 5).await;
    bad_requests(&ports, &cluster_id).await;
    target.assert_goes_on("bad requests", 5).await;
    assert_cut_off(held).await;
    drop(deaf);
    target.finish().await;
}
