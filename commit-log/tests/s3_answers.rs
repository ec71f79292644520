//! How the answers of a real S3 reach the log that moto never gives: 409 to a create-only put, 503, and a connection that is reset, also of
//! one part among others. The S3 here is a few lines.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    mem,
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use pagoda_commit_log::{Log, Lsn, Store, StoreError, StoreOptions};

/// What the server does with one put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Conflict,
    /// It is done, and then answered so.
    ConflictAfterLanding,
    SlowDown,
    Forbidden,
    /// The connection is reset amid the body.
    Reset,
    /// It is done, and then the connection is reset.
    ResetAfterLanding,
}

#[derive(Clone, Default)]
struct Server {
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Server {
    /// The next puts are answered so; later ones as they should be.
    fn start(answers: impl IntoIterator<Item = Answer>) -> (Self, Store) {
        let server = Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = server.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let server = accepting.clone();
                thread::spawn(move || server.serve(&connection.unwrap()));
            }
        });
        let bucket = AmazonS3Builder::new()
            .with_endpoint(format!("http://{address}"))
            .with_allow_http(true)
            .with_region("here")
            .with_bucket_name("bucket")
            .with_access_key_id("test")
            .with_secret_access_key("test");
        let options = StoreOptions { part_bytes: 5 << 20, ..StoreOptions::default() };
        (server, Store::new_with(Arc::new(bucket.build().unwrap()), "s3://bucket", options))
    }

    /// Answers requests until the client hangs up.
    fn serve(&self, connection: &TcpStream) -> Option<()> {
        // It reads no byte that is not asked for: what lies unread when a connection is closed has it reset.
        let mut reader = BufReader::with_capacity(1, connection);
        loop {
            let (mut line, mut request, mut length, mut creates) = (String::new(), String::new(), 0, false);
            while reader.read_line(&mut line).ok()? > 2 {
                let lower = line.trim().to_lowercase();
                if request.is_empty() {
                    request = line.trim().to_owned();
                }
                if let Some(value) = lower.strip_prefix("content-length: ") {
                    length = value.parse().ok()?;
                }
                creates |= lower.starts_with("if-none-match: *");
                line.clear();
            }
            let mut words = request.split_whitespace();
            let (method, path) = (words.next()?, words.next()?);
            let answer = if method == "PUT" { self.answers.lock().unwrap().pop_front() } else { None };
            let mut body = vec![0; length];
            match answer {
                Some(Answer::Reset) => return None,
                Some(Answer::ResetAfterLanding) => {
                    reader.read_exact(&mut body[..length - 1]).ok()?;
                    connection.peek(&mut body[length - 1..]).ok()?;
                    self.objects.lock().unwrap().insert(path.to_owned(), body);
                    return None;
                }
                _ => reader.read_exact(&mut body).ok()?,
            }
            let (status, body) = match method {
                "PUT" => (self.put(path, body, creates, answer), Vec::new()),
                _ => self.answer(method, path),
            };
            let headers = "ETag: \"x\"\r\nLast-Modified: Thu, 26 Nov 2026 10:00:00 GMT";
            let mut connection = connection;
            write!(connection, "HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
            if method != "HEAD" {
                connection.write_all(&body).ok()?;
            }
        }
    }

    fn put(&self, path: &str, body: Vec<u8>, creates: bool, answer: Option<Answer>) -> &'static str {
        let mut objects = self.objects.lock().unwrap();
        match answer {
            Some(Answer::Conflict) => return "409 Conflict",
            Some(Answer::SlowDown) => return "503 Slow Down",
            Some(Answer::Forbidden) => return "403 Forbidden",
            None if creates && objects.contains_key(path) => return "412 Precondition Failed",
            _ => objects.insert(path.to_owned(), body),
        };
        if answer.is_some() { "409 Conflict" } else { "200 OK" }
    }

    /// Answers what is no put.
    fn answer(&self, method: &str, path: &str) -> (&'static str, Vec<u8>) {
        let mut objects = self.objects.lock().unwrap();
        match method {
            "POST" if path.contains("?uploads") => ("200 OK", b"<Result><UploadId>1</UploadId></Result>".to_vec()),
            // What has gone up lies at paths of their own until it is put together.
            "POST" | "DELETE" => {
                let (path, _) = path.split_once('?').unwrap();
                let is_part = |(part, _): &(String, _)| part.starts_with(&format!("{path}?partNumber="));
                let (parts, others): (BTreeMap<_, _>, _) = mem::take(&mut *objects).into_iter().partition(is_part);
                *objects = others;
                let whole = parts.into_values().flatten().collect();
                if method == "POST" {
                    objects.insert(path.to_owned(), whole);
                }
                ("200 OK", b"<Result><ETag>x</ETag></Result>".to_vec())
            }
            _ if path.contains("list-type=2") => {
                ("200 OK", b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".to_vec())
            }
            _ => match objects.get(path) {
                Some(object) => ("200 OK", object.clone()),
                None => ("404 Not Found", Vec::new()),
            },
        }
    }
}

#[tokio::test]
async fn a_409_over_a_free_slot_is_read_back_and_tried_again() {
    let (server, store) = Server::start([Answer::Conflict; 3]);
    let log = Log::open(store, "log").await.unwrap();
    assert_eq!(log.append(Bytes::from_static(b"one")).await.unwrap(), Lsn(1));
    assert_eq!(log.append(Bytes::from_static(b"two")).await.unwrap(), Lsn(2));
    assert_eq!(server.objects.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_409_to_a_put_that_landed_is_success() {
    let (server, store) = Server::start([Answer::ConflictAfterLanding]);
    let log = Log::open(store, "log").await.unwrap();
    assert_eq!(log.append(Bytes::from_static(b"one")).await.unwrap(), Lsn(1));
    assert_eq!(server.objects.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_503_is_tried_again() {
    let (_server, store) = Server::start([Answer::SlowDown; 2]);
    let log = Log::open(store, "log").await.unwrap();
    assert_eq!(log.append(Bytes::from_static(b"one")).await.unwrap(), Lsn(1));
}

#[tokio::test]
async fn a_403_is_no_permission_and_not_tried_again() {
    let (server, store) = Server::start([Answer::Forbidden]);
    let error = store.put_create("a", Bytes::from_static(b"one")).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }) && !error.may_pass(), "{error:?}");
    assert!(server.objects.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_put_that_breaks_off_is_tried_again_and_the_log_finds_its_own() {
    for (answer, created) in [(Answer::Reset, true), (Answer::ResetAfterLanding, false)] {
        let (server, store) = Server::start([answer]);
        let put = store.put_create("a", vec![1; 100_000].into()).await;
        match put {
            Ok(()) => assert!(created),
            // Whose it is only the bytes can tell.
            Err(StoreError::AlreadyExists { .. }) => assert!(!created),
            Err(error) => panic!("{answer:?}: {error:?}"),
        }
        assert_eq!(store.get("a").await.unwrap().len(), 100_000);
        server.answers.lock().unwrap().extend([answer]);
        let log = Log::open(store, "log").await.unwrap();
        assert_eq!(log.append(vec![1; 100_000].into()).await.unwrap(), Lsn(1));
        assert_eq!(server.objects.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_part_that_breaks_off_is_put_again_and_nothing_is_left_of_an_object_whose_part_is_refused() {
    let (server, store) = Server::start([Answer::SlowDown, Answer::Reset]);
    let whole: Bytes = (0..12_u32 << 20).map(|n| (n >> 16) as u8).collect();
    let paths = || server.objects.lock().unwrap().keys().cloned().collect::<Vec<_>>();
    store.put_vouched("a", whole.clone()).await.unwrap();
    assert!(store.get("a").await.unwrap() == whole);
    assert_eq!(paths(), ["/bucket/a"]);
    server.answers.lock().unwrap().extend([Answer::Forbidden; 3]);
    let error = store.put_vouched("b", whole.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert_eq!(paths(), ["/bucket/a"]);
}
