//! Tokens with a lifetime of ten seconds, under load: a valid one is always available.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::config::{self, sources::Nothing};
use crate::upstream::tls;

const LIFE: Duration = Duration::from_secs(10);

fn settings() -> Settings {
    let text = "[[exchanges]]\nname = \"x\"\nurl = \"https://auth.test\"\nsubject_token = \"env:JWT\"\n";
    config::parse("", text, &[], &Nothing).unwrap().exchanges.remove(0)
}

/// An endpoint that answers after `delay`, and fails if `fails` is true for the number of the try.
/// Each token contains its number.
fn endpoint(delay: Duration, fails: fn(u64) -> bool) -> (Arc<AtomicU64>, impl Fn() -> Asking + Send + Clone) {
    let tries = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&tries);
    let ask = move || -> Asking {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let asked = clock::now();
            clock::sleep(delay).await;
            if fails(number) {
                return Err(NoToken { problem: "503".to_owned(), lasting: false });
            }
            Ok(Token { secret: number.to_string().as_str().into(), asked, life: LIFE })
        })
    };
    (tries, ask)
}

type Asking = std::pin::Pin<Box<dyn Future<Output = Result<Token, NoToken>> + Send>>;

/// Sends a call every 50 ms for ten minutes; returns how many had no token, or an expired one.
async fn failed_calls(exchange: &Exchange) -> (u64, u64) {
    let began = clock::now();
    let (mut calls, mut failed) = (0, 0);
    while clock::now() < began + Duration::from_mins(10) {
        clock::sleep(Duration::from_millis(50)).await;
        let valid = exchange.state().token.as_ref().is_some_and(|token| token.ends() > clock::now());
        calls += 1;
        failed += u64::from(!valid);
    }
    (calls, failed)
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_with_tokens_of_ten_seconds_fail_no_call() {
    for (fails, tries) in [
        ((|_| false) as fn(u64) -> bool, 90..=105),
        // Every second try fails, or two of three: the remaining lifetime allows more tries.
        (|number| number % 2 == 1, 150..=220),
        (|number| number % 3 != 0, 220..=330),
    ] {
        let exchange = Exchange::new(settings());
        let (asked, ask) = endpoint(Duration::from_millis(40), fails);
        let rng = fastrand::Rng::with_seed(7);
        let task = clock::spawn(Arc::clone(&exchange).run(ask, Arc::default(), rng));
        exchange.tries.subscribe().changed().await.unwrap();
        let (calls, failed) = failed_calls(&exchange).await;
        assert_eq!((calls, failed), (12_000, 0));
        let asked = asked.load(Ordering::Relaxed);
        assert!(tries.contains(&asked), "{asked}");
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_token_is_used_to_its_end_and_tries_slow_down() {
    let exchange = Exchange::new(settings());
    let (asked, ask) = endpoint(Duration::ZERO, |number| number > 0);
    let task = clock::spawn(Arc::clone(&exchange).run(ask, Arc::default(), fastrand::Rng::with_seed(7)));
    exchange.tries.subscribe().changed().await.unwrap();
    let began = clock::now();
    clock::sleep_until(began + LIFE - Duration::from_millis(1)).await;
    let secret = |exchange: &Exchange| exchange.state().token.as_ref().map(|token| token.secret.clone());
    assert_eq!(secret(&exchange), Some("0".into()));
    clock::sleep_until(began + Duration::from_mins(10)).await;
    let asked = asked.load(Ordering::Relaxed);
    assert!((20..=50).contains(&asked), "{asked} tries in ten minutes");
    assert_eq!(exchange.state().problem.as_ref().map(|none| none.problem.as_str()), Some("503"));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_asks_at_once_and_only_once() {
    let exchange = Exchange::new(settings());
    let (asked, ask) = endpoint(Duration::from_millis(40), |_| false);
    let connector = || {
        let settings = tls::Settings { roots: tls::Roots::Bundled, ..tls::Settings::default() };
        let tls = tls::client_config(&settings).unwrap();
        Connector::new(tls, None, None)
    };
    let exchanges = Exchanges::new(connector(), connector());
    let run = Arc::clone(&exchange).run(ask, Arc::clone(&exchanges.renewed), fastrand::Rng::with_seed(7));
    let task = clock::spawn(run).abort_handle();
    exchanges.keep(Prepared(vec![Arc::new(Running { exchange, task })]));
    exchanges.renewed().await;
    // The token is too young to be renewed.
    exchanges.refused().await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    clock::sleep(LIFE / 2).await;
    tokio::join!(exchanges.refused(), exchanges.refused());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let text = "upstream.credential = \"exchange:x\"\n[[exchanges]]\nname = \"x\"\nurl = \"https://auth.test\"\nsubject_token = \"env:JWT\"\n";
    let mut config = config::parse("", text, &[], &Nothing).unwrap();
    let placeholder = config.upstream.credential.clone().unwrap();
    assert!(exchanges.has_another(&placeholder));
    exchanges.fill(&mut config);
    assert_eq!(config.upstream.credential.as_ref().unwrap().secret, "1".into());
    assert!(!exchanges.has_another(config.upstream.credential.as_ref().unwrap()));
    let expiries = exchanges.expiries(clock::now());
    assert!((expiries[0].expires_in_seconds - 9.96).abs() < 0.01, "{expiries:?}");
    // An exchange that is no longer configured ends.
    exchanges.keep(Prepared(Vec::new()));
    clock::sleep(Duration::from_mins(1)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}
