//! [`FailingS3`]: a proxy in front of moto's server through which a share of the calls fail, in the ways in which those of a real S3 do.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use pagoda_commit_log::moto::Moto;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How long a call hangs that gets no answer: longer than a put of the tests takes, shorter than a client waits.
const HANGS: Duration = Duration::from_millis(500);

/// What happens to a call that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is refused and does nothing.
    Status(u16, &'static str),
    /// It is done, and the connection breaks before its reply.
    ReplyLost,
    /// It does nothing, and the connection breaks after a while.
    Hangs,
}

const FAULTS: [Fault; 4] =
    [Fault::Status(503, "SlowDown"), Fault::Status(429, "TooManyRequests"), Fault::ReplyLost, Fault::Hangs];

/// The proxy. It ends with the test's process.
pub(crate) struct FailingS3 {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    percent: AtomicU32,
    rng: Mutex<ChaCha8Rng>,
    /// How many calls met which fault.
    met: [AtomicUsize; FAULTS.len()],
}

struct Request {
    head: Vec<String>,
    body: Vec<u8>,
}

impl FailingS3 {
    /// Begins without failures.
    pub(crate) fn start(moto: &Moto, seed: u64) -> Self {
        let [(_, endpoint), ..] = moto.environment();
        let shared = Shared {
            upstream: endpoint.trim_start_matches("http://").to_owned(),
            percent: AtomicU32::new(0),
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            met: Default::default(),
        };
        let (shared, listener) = (Arc::new(shared), TcpListener::bind("127.0.0.1:0").unwrap());
        let proxy = Self { address: listener.local_addr().unwrap(), shared: shared.clone() };
        thread::spawn(move || {
            for connection in listener.incoming() {
                let shared = shared.clone();
                // A client that hangs up is none of the proxy's faults.
                thread::spawn(move || shared.serve(&connection?));
            }
        });
        proxy
    }

    /// From now on so many of a hundred calls fail.
    pub(crate) fn fail(&self, percent: u32) {
        self.shared.percent.store(percent, Ordering::SeqCst);
    }

    /// How many calls met each kind of fault.
    pub(crate) fn met(&self) -> Vec<(String, usize)> {
        FAULTS.iter().zip(&self.shared.met).map(|(f, n)| (format!("{f:?}"), n.load(Ordering::SeqCst))).collect()
    }

    /// What a process needs in its environment to open `s3://pagoda/...` through this.
    pub(crate) fn environment(&self, moto: &Moto) -> impl Iterator<Item = (&'static str, String)> {
        let endpoint = format!("http://{}", self.address);
        moto.environment().into_iter().map(move |(k, v)| (k, if k == "AWS_ENDPOINT" { endpoint.clone() } else { v }))
    }
}

impl Shared {
    fn serve(&self, connection: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(connection);
        let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
        match self.fault() {
            None => {
                let reply = self.forward(&request)?;
                (&*connection).write_all(&reply)
            }
            Some(Fault::Status(status, code)) => {
                let body = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
                let length = body.len();
                write!(
                    &*connection,
                    "HTTP/1.1 {status} {code}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                )
            }
            Some(Fault::ReplyLost) => self.forward(&request).map(drop),
            Some(Fault::Hangs) => {
                thread::sleep(HANGS);
                Ok(())
            }
        }
    }

    fn fault(&self) -> Option<Fault> {
        let mut rng = self.rng.lock().unwrap();
        if rng.random_range(0..100) >= self.percent.load(Ordering::SeqCst) {
            return None;
        }
        let which = rng.random_range(0..FAULTS.len());
        self.met[which].fetch_add(1, Ordering::SeqCst);
        Some(FAULTS[which])
    }

    /// One call, one connection.
    fn forward(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(&self.upstream)?;
        upstream.set_nodelay(true)?;
        let kept = request.head.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let head: String = kept.map(|line| format!("{line}\r\n")).collect();
        upstream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
        upstream.write_all(&request.body)?;
        let mut reply = Vec::new();
        upstream.read_to_end(&mut reply)?;
        Ok(reply)
    }
}

impl Request {
    /// None: the client has hung up.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            head.push(line.to_owned());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { head, body }))
    }
}
