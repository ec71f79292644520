//! [`Moto`]: an S3 on this machine, for tests: moto's server, run by the Python that `$PAGODA_TEST_PYTHON` names.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use object_store::{aws::AmazonS3Builder, prefix::PrefixStore};

use crate::store::Store;

/// The bucket that is there from the start.
pub const BUCKET: &str = "pagoda";
const STARTS_WITHIN: Duration = Duration::from_secs(90);

/// A running server, empty but for [`BUCKET`]; it ends with this value.
#[derive(Debug)]
pub struct Moto {
    server: Child,
    address: SocketAddrV4,
}

impl Moto {
    /// Starts a server and waits until it answers. `None`, and a message, where `$PAGODA_TEST_PYTHON` is not set.
    ///
    /// # Panics
    ///
    /// When the variable is set and the server does not start.
    pub fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("PAGODA_TEST_PYTHON") else {
            println!("skipped: PAGODA_TEST_PYTHON names no Python with moto[server]");
            return None;
        };
        let address = free_address().expect("a free port");
        let server = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PAGODA_TEST_PYTHON starts");
        let mut moto = Self { server, address };
        moto.make_bucket();
        Some(moto)
    }

    /// The bucket, below a prefix.
    pub fn store(&self, prefix: &str) -> Store {
        let mut builder = AmazonS3Builder::new();
        for (key, value) in self.environment() {
            builder = builder.with_config(key.to_lowercase().parse().expect("a key of the S3 client"), value);
        }
        let bucket = builder.with_bucket_name(BUCKET).build().expect("a client of S3");
        Store::new(Arc::new(PrefixStore::new(bucket, prefix)), &format!("s3://{BUCKET}/{prefix}"))
    }

    /// What a process needs in its environment to open `s3://pagoda/...` here.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ]
    }

    fn make_bucket(&mut self) {
        let deadline = Instant::now() + STARTS_WITHIN;
        while !self.put(BUCKET).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if let Ok(Some(status)) = self.server.try_wait() {
                panic!("moto's server ended ({status}): is moto[server] installed?");
            }
            assert!(Instant::now() < deadline, "moto's server does not answer");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn put(&self, path: &str) -> io::Result<String> {
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let host = self.address;
        write!(connection, "PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A port that was free just now.
fn free_address() -> io::Result<SocketAddrV4> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}
