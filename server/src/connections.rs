//! [`accepted`]: the connections that the server takes: so many at once, and none of whom says nothing.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// What a client has to say first: `PRI * HTTP/2.0...` (RFC 9113, 3.4), of so many bytes.
const PREFACE_BYTES: usize = 24;
/// How long it is before the next try after a connection could not be accepted, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections are taken, and how patiently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Connections at once; further ones wait until one ends.
    pub(crate) connections_max: usize,
    /// How long a client may take until it has said that it speaks HTTP/2. After that, pings tell whether it is there still.
    pub(crate) preface: Duration,
}

/// A connection that counts until it is dropped.
pub(crate) struct Connection {
    tcp: TcpStream,
    /// Bytes of the preface that are still to come, and how long they may take.
    awaited: Option<(usize, Pin<Box<Sleep>>)>,
    _place: OwnedSemaphorePermit,
}

/// The connections of a listener. Never fails: where one cannot be accepted, the next is waited for.
pub(crate) fn accepted(listener: TcpListener, patience: Patience) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(patience.connections_max));
    stream::unfold((listener, places), move |(listener, places)| async move {
        let place = places.clone().acquire_owned().await.ok()?;
        let tcp = accept(&listener).await;
        let awaited = Some((PREFACE_BYTES, Box::pin(sleep(patience.preface))));
        Some((Ok(Connection { tcp, awaited, _place: place }), (listener, places)))
    })
}

/// The next connection, however long it takes until one can be accepted.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                // A reply is small, and written at once.
                let _ = tcp.set_nodelay(true);
                return tcp;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "connections cannot be accepted for the moment");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = to.filled().len();
        let read = Pin::new(&mut this.tcp).poll_read(cx, to);
        let Some((bytes, patience)) = &mut this.awaited else { return read };
        *bytes = bytes.saturating_sub(to.filled().len() - before);
        if *bytes == 0 {
            this.awaited = None;
        } else if read.is_pending() {
            ready!(patience.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.tcp.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::StreamExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn who_does_not_say_the_preface_in_time_is_let_go_and_who_did_may_be_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = pin!(accepted(listener, Patience { connections_max: 8, preface: SHORT }));
        for (said, is_let_go) in [(0, true), (PREFACE_BYTES - 1, true), (PREFACE_BYTES, false)] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(&vec![b'x'; said]).await.unwrap();
            let mut connection = connections.next().await.unwrap().unwrap();
            let mut heard = vec![0; said];
            connection.read_exact(&mut heard).await.unwrap();
            let mut next = [0];
            let waited = timeout(4 * SHORT, connection.read(&mut next)).await;
            let error = waited.ok().map(|read| read.unwrap_err().kind());
            assert_eq!(error, is_let_go.then_some(io::ErrorKind::TimedOut), "after {said} bytes");
        }
    }

    #[tokio::test]
    async fn a_connection_too_many_waits_until_another_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = pin!(accepted(listener, Patience { connections_max: 1, preface: LONG }));
        let _clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let first = connections.next().await;
        assert!(timeout(SHORT, connections.next()).await.is_err());
        drop(first);
        assert!(timeout(LONG, connections.next()).await.unwrap().is_some());
    }
}
