//! Secrets, certificates and the proxy: read from their sources, and never shown.

use super::*;

#[test]
fn no_secret_shows_anywhere() {
    let sources = gateway().set("HTTPS_PROXY", "http://me:proxy-password@proxy.internal:3128");
    let config = read(GATEWAY, &sources).unwrap();
    let upstream = config.upstream.credential.as_ref().unwrap();
    assert_eq!(upstream.secret.expose(), "sk-upstream-0123456789");
    let proxy = config.upstream.proxy_credential.as_ref().unwrap();
    assert_eq!(proxy.secret.expose(), "me:proxy-password");
    let shown = format!("{config:?}\n{config:#?}\n{}", render::redacted(&config));
    for secret in sources.variables.values().filter(|value| !value.contains("://")) {
        assert!(!shown.contains(secret.as_str()), "{secret}");
    }
    assert!(!shown.contains("password"));
    assert!(shown.contains("credential = \"env:OPENAI_API_KEY\""));
    // The message about a literal secret does not repeat it.
    let said =
        complaints("upstream.credential = \"sk-literal\"\nadmin.token = [\"tok-literal\"]\n").join("\n");
    assert!(said.contains("env:NAME") && !said.contains("literal\""), "{said}");
}

#[test]
fn a_secret_in_a_file_is_trimmed_and_checked() {
    let text = "upstream.credential = \"file:/run/key\"\n";
    let config = read(text, &Fake::default().file("/run/key", b"  sk-from-file\n")).unwrap();
    assert_eq!(config.upstream.credential.unwrap().secret.expose(), "sk-from-file");
    for (content, said) in [
        (&b"\n"[..], "is empty"),
        (b"two words", "more than one word"),
        (b"\xff\xfe", "is not text"),
        ("schlüssel".as_bytes(), "more than one word of visible ASCII"),
    ] {
        let problems = read(text, &Fake::default().file("/run/key", content)).unwrap_err().to_string();
        assert!(problems.contains(said) && !problems.contains("schl"), "{problems}");
    }
}

#[test]
fn a_proxy_comes_from_the_environment_unless_the_upstream_is_exempt() {
    let proxied = || Fake::default().set("HTTPS_PROXY", "http://proxy:3128");
    let proxy =
        |text: &str, sources: &Fake| read(text, sources).unwrap().upstream.proxy.map(|url| url.to_string());
    assert_eq!(proxy("", &proxied()).as_deref(), Some("http://proxy:3128"));
    assert_eq!(proxy("", &proxied().set("NO_PROXY", "localhost, .openai.com")), None);
    assert_eq!(proxy("upstream.proxy = \"off\"", &proxied()), None);
    assert_eq!(proxy("upstream.proxy = \"http://other:1\"", &proxied()).as_deref(), Some("http://other:1"));
    assert_eq!(proxy("upstream.url = \"https://127.0.0.1:9\"", &proxied()), None);
    assert_eq!(proxy("upstream.url = \"http://stand-in:9\"", &proxied()), None);
    let said = read("", &Fake::default().set("https_proxy", "socks5://proxy")).unwrap_err().to_string();
    assert!(said.starts_with("environment https_proxy: has no scheme http or https"), "{said}");
}

#[test]
fn a_shared_listener_with_a_credential_refuses_strangers() {
    let sources = gateway();
    let open = "server.listen = \"0.0.0.0:8080\"\nupstream.credential = \"env:OPENAI_API_KEY\"\n";
    let said = read(open, &sources).unwrap_err().to_string();
    assert!(
        said.starts_with("weir.toml:1:17: server.listen: everybody who reaches this address could spend"),
        "{said}"
    );
    let told = format!("{open}server.allow_unknown_callers = true\n");
    assert!(read(&told, &sources).unwrap().serves_unknown_callers());
    let loopback = "upstream.credential = \"env:OPENAI_API_KEY\"\n";
    assert!(read(loopback, &sources).unwrap().serves_unknown_callers());
    let passing = "server.listen = \"0.0.0.0:8080\"\n";
    assert!(read(passing, &sources).unwrap().serves_unknown_callers());
}

#[test]
fn what_is_wrong_with_redis_url_is_said_without_the_url() {
    let sources =
        Fake::default().set("URL", "rediss://:a-literal-password@cache:port").set("PLAIN", "redis://cache");
    let complaint = |text: &str| read(text, &sources).expect_err("it is wrong").to_string();
    let said = complaint("replicas.redis = \"env:URL\"");
    assert!(said.contains("replicas.redis: env:URL can't be read"), "{said}");
    assert!(!said.contains("literal"), "{said}");
    let said = complaint("[replicas]\nredis = \"env:PLAIN\"\nroots = \"bundled\"\nnamespace = \"a b\"");
    assert!(
        said.contains("replicas.roots: has no effect") && said.contains("replicas.namespace: is no short"),
        "{said}"
    );
    let config = read("replicas.redis = \"env:PLAIN\"", &sources).unwrap();
    assert!(!format!("{config:?}").contains("cache"), "not even the host");
    assert_eq!((config.replicas.expected, config.replicas.interval), (2, Duration::from_secs(1)));
}

#[test]
fn a_certificate_must_be_one() {
    let authority = rcgen::generate_simple_self_signed(["weir.test".to_owned()]).unwrap();
    let text = "server.tls = { cert = \"/c\", key = \"/k\" }";
    let (cert, key) = (authority.cert.pem(), authority.signing_key.serialize_pem());
    let good = Fake::default().file("/c", cert.as_bytes()).file("/k", key.as_bytes());
    assert!(read(text, &good).is_ok());
    let swapped = Fake::default().file("/c", key.as_bytes()).file("/k", cert.as_bytes());
    let said = read(text, &swapped).unwrap_err().to_string();
    assert!(said.contains("/c holds no certificate") && said.contains("/k holds no private key"), "{said}");
    assert!(
        read(text, &Fake::default()).unwrap_err().to_string().contains("server.tls.cert: cannot read /c")
    );
}
