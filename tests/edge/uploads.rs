//! Uploads that Weir forwards while they arrive.

use std::io::{BufReader, Write};

use crate::process::Weir;
use crate::wire;

const ACTIVE: &str = "weir_upstream_connections{state=\"active\"}";

/// A form is searched for a model only on endpoints that have one. Otherwise an upload of 60 MB
/// would be buffered first, which doubles its time.
#[test]
fn an_upload_that_names_no_model_passes_while_it_arrives() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "replay.max_body = \"64KiB\"\nreplay.prefix = \"4KiB\"\n");
    for path in ["/v1/files", "/v1/uploads/upload_1/parts", "/v1/containers/cntr_1/files"] {
        let mut stream = wire::connect(weir.address);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: weir\r\nContent-Type: multipart/form-data; boundary=b\r\n\
             Content-Length: 200000\r\n\r\n--b\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; 100_000]).unwrap();
        weir.wait_for(ACTIVE, 1.0);
        stream.write_all(&vec![b'x'; 99_995]).unwrap();
        assert_eq!(wire::read_answer(&mut BufReader::new(stream), "POST").unwrap().status(), 200);
        assert_eq!(seen.recv().unwrap().body.len(), 200_000);
        weir.wait_for_none(ACTIVE);
    }
}
