//! An OTLP/HTTP receiver: accepts posts to `/v1/traces`, and responds with one status.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::upstream::read_request;

#[derive(Default)]
struct Received {
    messages: Vec<ExportTraceServiceRequest>,
    raw: Vec<u8>,
    authorization: Option<String>,
}

pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    pub(crate) fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let received = Arc::<Mutex<Received>>::default();
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.expect("connections arrive"));
                let Some(request) = read_request(&mut stream) else { continue };
                assert_eq!(request.line, "POST /v1/traces HTTP/1.1");
                assert_eq!(request.header("content-type").as_deref(), Some("application/x-protobuf"));
                let message = ExportTraceServiceRequest::decode(request.body.as_slice());
                let mut kept = kept.lock().expect("nobody panicked");
                kept.messages.push(message.expect("it is an OTLP message"));
                kept.authorization = request.header("authorization");
                kept.raw.extend(request.body);
                drop(kept);
                let head = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 0\r\n\r\n");
                stream.get_mut().write_all(head.as_bytes()).expect("it is read");
            }
        });
        Self { address, received }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The spans, once there are at least `count` of them.
    pub(crate) fn spans(&self, count: usize, within: Duration) -> Vec<Span> {
        let until = Instant::now() + within;
        loop {
            let spans = self.now();
            if spans.len() >= count {
                assert_eq!(spans.len(), count, "{spans:?}");
                return spans;
            }
            assert!(Instant::now() < until, "only {} spans came", spans.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The service name in the resource.
    pub(crate) fn service(&self) -> Option<String> {
        let received = self.received.lock().expect("nobody panicked");
        let resource = received.messages.first()?.resource_spans.first()?.resource.clone()?;
        let name = resource.attributes.into_iter().find(|attribute| attribute.key == "service.name")?;
        if let Value::StringValue(name) = name.value?.value? { Some(name) } else { None }
    }

    pub(crate) fn authorization(&self) -> Option<String> {
        self.received.lock().expect("nobody panicked").authorization.clone()
    }

    /// All received bytes.
    pub(crate) fn raw(&self) -> Vec<u8> {
        self.received.lock().expect("nobody panicked").raw.clone()
    }

    fn now(&self) -> Vec<Span> {
        let received = self.received.lock().expect("nobody panicked");
        let resources = received.messages.iter().flat_map(|message| &message.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}
