//! The command line of the real binary: output and exit codes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

/// Runs `weir` with an environment of these variables alone.
fn weir(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().expect("the binary runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_help_text_is_as_recorded() {
    let commands = [
        "",
        "run",
        "check",
        "explain",
        "report",
        "status",
        "health",
        "reload",
        "demo",
        "what-if",
        "schema",
        "completions",
    ];
    let mut texts = String::new();
    for command in commands {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        let output = weir(&arguments, &[]);
        assert!(output.status.success(), "{command}");
        texts = format!("{texts}$ weir {}\n{}\n", arguments.join(" "), out(&output));
    }
    assert_eq!(texts, include_str!("golden/help.txt"), "the help texts are now:\n{texts}");
}

#[test]
fn a_bad_command_line_or_configuration_is_code_2() {
    for arguments in [&["--bogus"][..], &["check"], &["completions", "tcsh"], &["status", "--watch", "0"]] {
        let output = weir(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(out(&output).is_empty() && !err(&output).is_empty(), "{arguments:?}");
    }
    let output = weir(&["check", "tests/golden/mistakes.toml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(err(&output).replace("tests/golden/", ""), include_str!("golden/mistakes.txt"));
    let output = weir(&["--listen", "here"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).starts_with("option --listen: server.listen: \"here\" is not valid;"),
        "{}",
        err(&output)
    );
    let output = weir(&[], &[("RUST_LOG", "weir=debug,h2=trace")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("RUST_LOG: h2 may not be more verbose than"), "{}", err(&output));
    let output = weir(&[], &[("WEIR_CONFIG", "/nowhere.toml")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).starts_with("/nowhere.toml: cannot be read: "), "{}", err(&output));
}

/// A misspelled variable must be an error: ignored, Weir might use the public API.
#[test]
fn a_misspelled_variable_is_an_error_and_an_unrelated_one_is_not() {
    let file = std::env::temp_dir().join(format!("weir-empty-{}.toml", std::process::id()));
    std::fs::write(&file, "").expect("a file");
    let file = file.to_str().expect("a name");
    for (name, value, meant) in [
        ("WEIR_UPSTREAM", "http://127.0.0.1:9000", "WEIR_UPSTREAM__URL"),
        ("WEIR_UPSTREAM_URL", "http://127.0.0.1:9000", "WEIR_UPSTREAM__URL"),
        ("WEIR_LISTEN", "127.0.0.1:0", "WEIR_SERVER__LISTEN"),
        ("WEIR_PORT", "9000", "WEIR_SERVER__LISTEN"),
        ("WEIR_LIMITS_REQUESTS_PER_MINUTE", "60", "WEIR_LIMITS__REQUESTS_PER_MINUTE"),
        ("weir_log__level", "debug", "WEIR_LOG__LEVEL"),
    ] {
        let output = weir(&["check", file], &[(name, value)]);
        let expected =
            format!("environment {name}: Weir reads no variable of this name; did you mean {meant}?\n");
        assert_eq!((output.status.code(), err(&output)), (Some(2), expected), "{name}");
    }
    // Kubernetes sets these for services named weir and weir-admin; the last one is a secret's.
    let others = [
        ("WEIR_PORT", "tcp://10.0.0.1:8080"),
        ("WEIR_SERVICE_HOST", "10.0.0.1"),
        ("WEIR_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("WEIR_ADMIN_PORT", "tcp://10.0.0.1:8081"),
        ("WEIR_ADMIN_TOKEN", "an-admin-token"),
    ];
    let output = weir(&["check", file], &others);
    assert!(output.status.success(), "{}", err(&output));
    // A key that the file sets.
    let output = weir(&["check", "config/sidecar.toml"], &[("WEIR_LISTEN", "127.0.0.1:0")]);
    assert!(output.status.success(), "{}", err(&output));
    std::fs::remove_file(file).expect("the file");
    let output = weir(&[], &[("WEIR_CONFIG", "")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).contains("give --config or WEIR_CONFIG a file, or unset WEIR_CONFIG"),
        "{}",
        err(&output)
    );
}

/// After a failed reload the file has a mistake.
#[test]
fn a_running_weir_is_found_by_a_file_that_has_mistakes() {
    let file = std::env::temp_dir().join(format!("weir-mistake-{}.toml", std::process::id()));
    std::fs::write(&file, "bogus = 1\n[retry]\nbase = \"soon\"\n[admin]\nlisten = \"127.0.0.1:1\"\n")
        .expect("a file");
    for command in ["status", "health", "reload", "report"] {
        let output = weir(&[command], &[("WEIR_CONFIG", file.to_str().expect("a name"))]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(err(&output).starts_with("no Weir answers at 127.0.0.1:1: "), "{command}: {}", err(&output));
    }
    std::fs::write(&file, "[admin]\nlisten = \"here\"\n").expect("a file");
    let output = weir(&["status"], &[("WEIR_CONFIG", file.to_str().expect("a name"))]);
    std::fs::remove_file(&file).expect("the file");
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("admin.listen: \"here\" is not valid"), "{}", err(&output));
}

#[test]
fn the_shipped_files_pass_the_check() {
    for file in ["config/sidecar.toml", "config/reference.toml"] {
        let output = weir(&["check", file], &[]);
        assert_eq!(
            (output.status.code(), out(&output)),
            (Some(0), format!("{file}: valid\n")),
            "{}",
            err(&output)
        );
    }
    let missing = weir(&["check", "config/gateway.toml"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(err(&missing).lines().count(), 4, "{}", err(&missing));
    let form = weir(&["check", "--without-secrets", "config/gateway.toml"], &[]);
    assert!(form.status.success());
}

#[test]
fn check_against_a_version_names_the_keys_that_changed_and_a_former_name_is_warned_of() {
    let since = weir(&["check", "config/sidecar.toml", "--against", "0.0.1"], &[]);
    assert!(
        out(&since).starts_with("estimate.pricing: was admission.estimate before 0.1.0\n"),
        "{}",
        out(&since)
    );
    assert!(out(&since).ends_with("config/sidecar.toml: valid\n"), "{}", out(&since));
    let current = weir(&["check", "config/sidecar.toml", "--against", env!("CARGO_PKG_VERSION")], &[]);
    assert!(out(&current).starts_with("No key has changed since "), "{}", out(&current));
    for wrong in ["9.0", "newest"] {
        let output = weir(&["check", "config/sidecar.toml", "--against", wrong], &[]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
    let output = weir(&["check", "config/sidecar.toml"], &[("WEIR_ADMISSION__ESTIMATE", "max")]);
    assert!(output.status.success());
    assert_eq!(
        err(&output),
        "warning: environment WEIR_ADMISSION__ESTIMATE: admission.estimate: is called estimate.pricing since 0.1.0; \
         rename it: the next version does not read it\n"
    );
}

#[test]
fn check_prints_the_effective_configuration_without_secrets() {
    let variables = [
        ("OPENAI_API_KEY", "sk-upstream-0123456789"),
        ("WEIR_ADMIN_TOKEN", "admin-token-0123456789"),
        ("SEARCH_WEIR_KEY", "weir-search-0123456789"),
        ("BATCH_WEIR_KEY", "weir-batch-0123456789"),
        ("WEIR_SERVER__WORKERS", "3"),
    ];
    let output = weir(&["check", "--print", "config/gateway.toml"], &variables);
    assert!(output.status.success(), "{}", err(&output));
    let printed = out(&output);
    assert!(
        printed.contains("workers = 3\n") && printed.contains("key = \"env:SEARCH_WEIR_KEY\"\n"),
        "{printed}"
    );
    assert!(!printed.contains("0123456789"), "{printed}");
}

#[test]
fn the_schema_is_json_and_the_reference_is_the_shipped_one() {
    let schema: serde_json::Value = serde_json::from_str(&out(&weir(&["schema"], &[]))).expect("JSON");
    assert_eq!(schema["properties"]["retry"]["properties"]["base"]["default"], "500ms");
    assert_eq!(out(&weir(&["schema", "--reference"], &[])), include_str!("../config/reference.toml"));
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = weir(&["completions", shell], &[]);
        assert!(output.status.success() && out(&output).contains("simulate"), "{shell}");
    }
}

#[test]
fn an_unreachable_weir_is_code_1_with_its_address() {
    // Port 1 of loopback: nothing that a test machine runs listens there.
    for arguments in [["status", "--admin", "127.0.0.1:1"], ["report", "--admin", "127.0.0.1:1"]] {
        let output = weir(&arguments, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).starts_with("no Weir answers at 127.0.0.1:1: "), "{}", err(&output));
    }
}

/// A server for one request on loopback. Returns the request.
fn answering(answer: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut buffer).expect("a request");
            request.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(answer.as_bytes()).expect("a reader");
        String::from_utf8_lossy(&request).into_owned()
    });
    (address, server)
}

#[test]
fn status_bears_the_token_and_prints_json_as_it_comes() {
    let body = "{\"ready\":true}";
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (address, server) = answering(answer.clone());
    let output = weir(
        &["status", "--json", "--config", "config/gateway.toml", "--admin", &address],
        &[("WEIR_ADMIN_TOKEN", "admin-token-0123456789")],
    );
    assert_eq!(out(&output), format!("{body}\n"), "{}", err(&output));
    let request = server.join().expect("it answered");
    assert!(request.starts_with("GET /status HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer admin-token-0123456789\r\n"), "{request}");

    let (address, server) = answering(answer);
    assert!(weir(&["status", "--json", "--admin", &address], &[]).status.success());
    assert!(!server.join().expect("it answered").contains("authorization"));
}

#[test]
fn a_report_is_printed_as_it_comes_and_a_refusal_is_code_1() {
    let (address, server) = answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc\n".to_owned());
    assert_eq!(out(&weir(&["report", "last", "--admin", &address], &[])), "abc\n");
    let request = server.join().expect("it answered");
    assert!(request.starts_with("GET /reports/last HTTP/1.1\r\n"), "{request}");

    let (address, server) = answering("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_owned());
    assert_eq!(weir(&["report", "--admin", &address], &[]).status.code(), Some(1));
    server.join().expect("it answered");
}
