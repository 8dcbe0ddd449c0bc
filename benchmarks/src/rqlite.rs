//! rqlite under test: `rqlited` processes that this one starts, asked over HTTP as their users do.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use load::{CREATE, Caller, Error, INSERT, MAX_ID, Result, SELECT, Subject};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a node that is not ready yet is asked again.
const POLL: Duration = Duration::from_millis(20);

/// One `rqlited` or three; they end with this.
pub struct Rqlite {
    servers: Vec<Child>,
    addresses: Vec<String>,
}

impl Rqlite {
    /// Starts them and waits until each is ready. Two ports for each node.
    pub async fn open(dir: &Path, ports: &[u16]) -> Result<Rqlite> {
        let mut rqlite = Rqlite { servers: Vec::new(), addresses: Vec::new() };
        let join = ports.get(1).map(|port| format!("127.0.0.1:{port}"));
        for (number, pair) in ports.chunks_exact(2).enumerate() {
            let address = format!("127.0.0.1:{}", pair[0]);
            let mut command = Command::new("rqlited");
            command.args(["-node-id", &number.to_string(), "-http-addr", &address]);
            command.args(["-raft-addr", &format!("127.0.0.1:{}", pair[1])]);
            if let (Some(join), true) = (&join, number > 0) {
                command.args(["-join", join]);
            }
            command.arg(dir.join(format!("n{number}")));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            rqlite.servers.push(command.spawn().map_err(|e| format!("rqlited: {e}"))?);
            rqlite.addresses.push(address);
            rqlite.wait_until_ready(number).await?;
        }
        rqlite.caller(0).await?.execute(&[json!([CREATE])]).await?;
        Ok(rqlite)
    }

    async fn wait_until_ready(&self, number: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            let mut http = Http::new(&self.addresses[number]);
            match http.request("GET", "/readyz", "").await {
                Ok((200, _)) => return Ok(()),
                _ if started.elapsed() > PATIENCE => return Err("rqlited is not ready".into()),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }
}

impl Drop for Rqlite {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Subject for Rqlite {
    type Caller = Http;

    async fn caller(&self, node: usize) -> Result<Http> {
        let address = self.addresses.get(node).ok_or("there is no such node")?;
        Ok(Http::new(address))
    }

    async fn max_id(&self) -> Result<i64> {
        let mut http = self.caller(0).await?;
        let values = http.query("linearizable", &json!([MAX_ID])).await?;
        values.as_i64().ok_or_else(|| "not a number".into())
    }

    async fn database_bytes(&self) -> Result<u64> {
        let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let values = self.caller(0).await?.query("none", &json!([sql])).await?;
        values.as_u64().ok_or_else(|| "not a number".into())
    }

    async fn stop(&self, _node: usize) -> Result<()> {
        Err("not measured with rqlite".into())
    }

    async fn start(&self, _node: usize) -> Result<()> {
        Err("not measured with rqlite".into())
    }
}

/// One connection that is kept open, as every client library for HTTP does.
pub struct Http {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Http {
    fn new(address: &str) -> Http {
        Http { address: address.to_owned(), stream: None }
    }

    /// The status and the body of the answer.
    async fn request(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address).await?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.get_mut().write_all(head.as_bytes()).await?;
        let answer = read_answer(&mut stream).await?;
        self.stream = Some(stream);
        Ok(answer)
    }

    async fn post(&mut self, path: &str, statements: &[Value]) -> Result<Value> {
        let body = Value::from(statements.to_vec()).to_string();
        let (status, answer) = self.request("POST", path, &body).await?;
        let answer: Value = match status {
            200 => serde_json::from_slice(&answer)?,
            _ => return Err(format!("{status}: {}", String::from_utf8_lossy(&answer)).into()),
        };
        let failed =
            answer["results"].as_array().into_iter().flatten().find(|r| r["error"] != Value::Null);
        match failed {
            Some(result) => Err(result["error"].to_string().into()),
            None => Ok(answer),
        }
    }

    async fn execute(&mut self, statements: &[Value]) -> Result<()> {
        self.post("/db/execute?transaction", statements).await.map(drop)
    }

    /// The first value of the first row.
    async fn query(&mut self, level: &str, statement: &Value) -> Result<Value> {
        let path = format!("/db/query?level={level}");
        let answer = self.post(&path, std::slice::from_ref(statement)).await?;
        Ok(answer["results"][0]["values"][0][0].clone())
    }
}

/// Reads one answer of HTTP/1.1, in one piece or in chunks (RFC 9112, sections 6 and 7.1).
async fn read_answer(stream: &mut BufReader<TcpStream>) -> Result<(u16, Vec<u8>)> {
    let status_line = read_line(stream).await?;
    let status = status_line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| Error::from("not an answer of HTTP"))?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let line = read_line(stream).await?.to_ascii_lowercase();
        match line.split_once(':') {
            None if line.is_empty() => break,
            Some(("content-length", value)) => length = value.trim().parse()?,
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            _ => {}
        }
    }
    let mut body = Vec::new();
    if !chunked {
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
        return Ok((status, body));
    }
    loop {
        let size = usize::from_str_radix(read_line(stream).await?.trim(), 16)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).await?;
        read_line(stream).await?;
        if size == 0 {
            return Ok((status, body));
        }
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err("the connection was closed".into());
    }
    Ok(line.trim_end().to_owned())
}

/// JSON has no bytes: a row is as many letters.
fn text(row: Vec<u8>) -> String {
    row.into_iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

impl Caller for Http {
    async fn write(&mut self, row: Vec<u8>) -> Result<()> {
        self.post("/db/execute", &[json!([INSERT, text(row)])]).await.map(drop)
    }

    async fn batch(&mut self, rows: Vec<Vec<u8>>) -> Result<()> {
        let statements: Vec<_> = rows.into_iter().map(|row| json!([INSERT, text(row)])).collect();
        self.execute(&statements).await
    }

    async fn read(&mut self, level: &str, id: i64) -> Result<()> {
        let value = self.query(level, &json!([SELECT, id])).await?;
        match value.as_str() {
            Some(row) if row.len() == load::ROW_BYTES => Ok(()),
            _ => Err("a row is missing".into()),
        }
    }
}
