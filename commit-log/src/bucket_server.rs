//! [`BucketServer`]: a program on this machine that serves buckets over HTTP, for tests.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const STARTS_WITHIN: Duration = Duration::from_secs(90);

/// A running server; it ends with this value.
#[derive(Debug)]
pub(crate) struct BucketServer {
    process: Child,
    pub(crate) address: SocketAddrV4,
}

impl BucketServer {
    /// Starts a server at a free port, and waits until it has made a bucket, which an empty `PUT` of this path asks for.
    ///
    /// # Panics
    ///
    /// When the server does not start.
    pub(crate) fn start(command: impl FnOnce(SocketAddrV4) -> Command, bucket: &str) -> Self {
        let address = free_address().expect("a free port");
        let mut command = command(address);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut server =
            Self { process: process.unwrap_or_else(|e| panic!("{command:?} does not start: {e}")), address };
        let deadline = Instant::now() + STARTS_WITHIN;
        while !server.put(bucket).is_ok_and(|answer| answer.starts_with("HTTP/1.1 20")) {
            if let Ok(Some(status)) = server.process.try_wait() {
                panic!("{command:?} ended ({status}): is everything that it needs installed?");
            }
            assert!(Instant::now() < deadline, "{command:?} does not answer");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn put(&self, path: &str) -> io::Result<String> {
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let host = self.address;
        write!(connection, "PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for BucketServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free just now.
fn free_address() -> io::Result<SocketAddrV4> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}
