//! Keys that are valid one by one, and contradict each other.

use super::*;

/// An exchange's section with this URL.
fn exchange(url: &str, more: &str) -> String {
    let subject = "subject_token = \"env:OTHER_WEIR_KEY\"\n";
    format!("[[exchanges]]\nname = \"x\"\nurl = \"{url}\"\n{subject}{more}")
}

#[test]
fn contradictions_are_told() {
    let caller = "[[callers]]\nname = \"a\"\nkey = \"env:SEARCH_WEIR_KEY\"\n";
    for (text, said) in [
        ("admin.listen = \"127.0.0.1:8080\"", "server.listen 127.0.0.1:8080 are the same place"),
        ("admin.listen = \"0.0.0.0:8080\"", "are the same place"),
        ("upstream.url = \"http://localhost:8080\"", "go round in a circle"),
        ("retry.base = \"9s\"", "retry.base: the first backoff is above the greatest"),
        ("retry.floor = \"1s\"", "retry.floor: the least backoff is above the first"),
        ("retry.budget.capacity = 0", "the budget never pays for a retry"),
        ("retry.max_attempts = 1\nretry.repeatable = [\"POST /files\"]", "allows no retry"),
        ("breaker.probe_base = \"6s\"", "probe_base below probe_cap"),
        ("server.tls.key = \"/k\"", "server.tls.key: has no certificate"),
        ("server.tls.client_ca = \"/k\"", "has no effect with client_auth = \"none\""),
        ("upstream.tls.client_cert = \"/k\"", "has no private key"),
        ("upstream.url = \"http://x\"\nupstream.tls.server_name = \"x\"", "upstream.url is http"),
        ("upstream.project = \"p\"", "goes with upstream.credential only"),
        ("upstream.proxy_credential = \"env:OPENAI_API_KEY\"", "there is no proxy"),
        ("admission.max_waiting_per_caller = 300000", "more than admission.max_waiting allows"),
        ("replay.max_body = \"300MiB\"", "one body may be larger than all together"),
        ("server.allow_unknown_callers = false", "nobody could use Weir"),
        ("admin.token = \"env:SHORT\"", "shorter than 16 characters"),
        ("limits.families = [{ name = \"other\", models = [\"x\"] }]", "\"other\" means all other models"),
        ("limits.families = [{ name = \"a\", models = [] }]", "no model belongs to it"),
        (
            "[[limits.families]]\nname = \"a\"\nmodels = [\"x\"]\n[[limits.families]]\nname = \"a\"\nmodels = [\"x\"]",
            "\"x\" belongs to an earlier family",
        ),
        (
            &format!(
                "upstream.credential = \"env:OPENAI_API_KEY\"\n{caller}[[callers]]\nname = \"b\"\n\
                 keys = [\"env:OTHER_WEIR_KEY\", \"env:SEARCH_WEIR_KEY\"]\n"
            ),
            "callers[1].keys[1]: is the key of caller \"a\" (line 4) too",
        ),
        (
            &format!(
                "upstream.credential = \"env:OPENAI_API_KEY\"\n{caller}keys = [\"env:SEARCH_WEIR_KEY\"]\n"
            ),
            "callers[0].keys[0]: is the same key as key (line 4); leave one out",
        ),
        (
            "[[callers]]\nname = \"a\"\nkeys = [\"env:SHORT\"]\n",
            "callers[0].keys[0]: env:SHORT is shorter than 16",
        ),
        (
            "upstream.credential = \"exchange:x\"",
            "upstream.credential: there is no exchange \"x\"; add [[exchanges]]",
        ),
        ("trace.token = \"exchange:x\"", "trace.token: can't come from an exchange"),
        (
            &exchange("http://auth.test", ""),
            "weir.toml:3:7: exchanges[0].url: would send the subject token in the clear",
        ),
        (
            &exchange("https://auth.test", "grant = \"client-credentials\"\n"),
            "exchanges[0]: is missing: the grant",
        ),
        (&exchange("https://auth.test", "identity_provider_id = \"i\"\n"), "service_account_id go together"),
        (
            &format!("{}{}", exchange("https://a", ""), exchange("https://b", "")),
            "weir.toml:6:8: exchanges[1].name: \"x\" is the name of an earlier exchange (line 2)",
        ),
        (
            &format!("{caller}weight = 0\n"),
            "weir.toml:4:10: callers[0].weight: 0 is out of range; write a value from 1",
        ),
        (caller, "this Weir key would be sent to the API, which does not know it"),
        (
            &format!("upstream.credential = \"env:SEARCH_WEIR_KEY\"\n{caller}"),
            "is also a credential for the upstream",
        ),
        (
            &format!(
                "upstream.credential = \"env:OPENAI_API_KEY\"\n{caller}{}",
                caller.replace("\"a\"", "\"b\"")
            ),
            "is the key of caller \"a\" (line 4) too",
        ),
        ("[[callers]]\nname = \"a b\"\nheader = { name = \"x\", value = \"y\" }", "is not fit for a metric"),
        (
            "[[callers]]\nname = \"a\"\nheader = { name = \"x\", value = \"y\" }\nproject = \"p\"",
            "caller's own credential only",
        ),
        ("[[callers]]\nname = \"a\"\nsan = \"x\"", "nobody is asked for a certificate"),
        (
            "[[callers]]\nname = \"a\"\nheader = { name = \"x\", value = \"y\" }\nmax_waiting = 100001",
            "per_caller; write at most",
        ),
    ] {
        let problems = read(text, &gateway().set("SHORT", "short")).expect_err(text).to_string();
        assert!(problems.contains(said), "{text}\n{problems}");
    }
}

#[test]
fn a_pool_is_read_and_its_contradictions_are_told_at_once() {
    let one = |name: &str, rest: &str| {
        format!("[[upstreams]]\nname = \"{name}\"\nurl = \"https://{name}.example/openai/v1/\"\n{rest}\n")
    };
    let named = r#"names = [{ model = "gpt-5", name = "prod" }]"#;
    let config = read(&(one("a", named) + &one("b", "home = true\npriority = 2")), &Nothing).unwrap();
    let members = config.members();
    assert_eq!(
        (members[0].name.as_str(), members[1].names[0].name.as_str()),
        ("b", "prod"),
        "the home is first"
    );
    assert_eq!(members[1].url.to_string(), "https://a.example/openai/v1");
    assert_eq!(
        read("upstream.url = \"http://x/llm\"", &Nothing).unwrap().members()[0].url.to_string(),
        "http://x/llm"
    );
    let key = "credential = \"env:OPENAI_API_KEY\"";
    for (text, said) in [
        (
            format!("upstream.url = \"http://x\"\n{}", one("a", "")),
            "upstream.url: is not read beside [[upstreams]]",
        ),
        (format!("upstream.{key}\n{}", one("a", "")), "upstream.credential: is not read beside"),
        (one("a", "") + &one("a", ""), "upstreams[1].name: \"a\" is the name of an earlier upstream"),
        (one("a", "") + &one("a", ""), "its limits would count twice"),
        (one("a", "").replace("\"a\"", "\"a b\""), "is not fit for a metric"),
        (one("upstream", ""), "another meaning"),
        (one("a", "home = true") + &one("b", "home = true"), "\"a\" is the home already"),
        (
            one("a", r#"names = [{ model = "x", name = "y" }, { model = "y", name = "x" }]"#),
            "names are changed once",
        ),
        (one("a", r#"names = [{ model = "x", name = "x" }]"#), "names are changed once"),
        (
            one("a", r#"names = [{ model = "x", name = "y" }, { model = "x", name = "z" }]"#),
            "has a name already",
        ),
        (
            one("a", "models = [\"gpt-*\"]\nnames = [{ model = \"o3\", name = \"y\" }]"),
            "fits none of this upstream's models",
        ),
        (
            one("a", "models = [\"gpt-*\"]") + "[[limits.families]]\nname = \"o\"\nmodels = [\"o3\"]",
            "no upstream serves \"o3\"",
        ),
        (one("a", "project = \"p\""), "upstreams[0].project: goes with a credential only"),
        (
            one("a", key)
                + "[[callers]]\nname = \"c\"\nheader = { name = \"x\", value = \"y\" }\ncredential = \"env:SEARCH_WEIR_KEY\"",
            "callers[0].credential: is never sent",
        ),
        (one("a", "").replace("https://a.example", "http://127.0.0.1:8080"), "go round in a circle"),
        (one("a", "").replace("/v1/", "/../v1"), "upstreams[0].url: has a path with dots"),
    ] {
        let problems = read(&text, &gateway()).expect_err(&text).to_string();
        assert!(problems.contains(said), "{text}\n{problems}");
    }
    let two = one("a", "home = 3\npriority = -1") + &one("a", "models = [\"x y\"]");
    let problems = read(&two, &gateway()).expect_err("all are wrong").to_string();
    for key in ["upstreams[0].home", "upstreams[0].priority", "upstreams[1].name", "upstreams[1].models[0]"] {
        assert!(problems.contains(key), "{key}\n{problems}");
    }
}
