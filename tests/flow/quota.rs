//! Spent quotas: refused at once, probed rarely, and detected when available again.

use std::time::Duration;

use weir::internals::simulate::Outage;

use super::world::{Call, Setup, World, statuses};

const CODES: [(&str, &str); 6] = [
    ("insufficient_quota", "quota_insufficient"),
    ("billing_not_active", "quota_billing_inactive"),
    ("credit_balance_exhausted", "quota_credit"),
    ("organization_spend_limit_exceeded", "quota_organization_spend"),
    ("project_spend_limit_exceeded", "quota_project_spend"),
    ("organization_usage_limit_exceeded", "quota_usage_limit"),
];

#[tokio::test(start_paused = true)]
async fn each_billing_code_opens_the_breaker_and_it_closes_by_itself() {
    for (code, class) in CODES {
        let mut setup = Setup::default();
        setup.simulator.outages = vec![Outage::parse(&format!("5s+300s:{code}")).expect("an outage")];
        let world = World::new(setup);
        assert!(world.call(&Call::chat()).await.is_success());
        world.until(Duration::from_secs(10)).await;
        let before = world.simulator.stats().requests;
        let first = world.call(&Call::chat().timeout(600)).await;
        assert_eq!((first.status.as_u16(), first.attempts()), (429, 1), "{code}");
        assert_eq!(first.header("x-should-retry"), Some("false"));
        assert_eq!(first.header("x-weir-error-class"), Some(class));
        let answers = world.offer(1_000.0 / 240.0, 1_000, |_| Call::chat().timeout(600)).await;
        let probes = world.simulator.stats().requests - before - 1;
        println!("{code}: {probes} probes in 240 s, {:?}", statuses(&answers));
        assert!(probes <= 8, "{code}: {probes} probes in four minutes");
        assert_eq!(world.metrics.quota_probes.get(), probes, "{code}");
        assert!(
            answers.iter().all(|answer| answer.status == 429 && answer.took() < Duration::from_millis(200))
        );
        let said = |answer: &super::world::Answer| -> serde_json::Value {
            let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            serde_json::json!([body["error"]["code"], body["error"]["type"], body["error"]["message"]])
        };
        assert_eq!(said(&answers[500]), said(&first), "in the upstream's words");
        let scopes = world.scopes.snapshot();
        assert!(scopes.iter().any(|scope| &*scope.name == "gpt-4o-mini" && scope.quota_spent_for.is_some()));
        // The quota is available again at 305 s; the next probe detects it.
        world.until(Duration::from_secs(306)).await;
        let after = world.offer(2.0, 160, |_| Call::chat()).await;
        let back = after.iter().find(|answer| answer.is_success()).map(|answer| answer.began);
        assert!(back.is_some_and(|back| back <= Duration::from_secs(306 + 61)), "{code}: back at {back:?}");
        assert!(after.iter().rev().take(20).all(super::world::Answer::is_success), "{code}");
        assert!(world.scopes.snapshot().iter().all(|scope| scope.quota_spent_for.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn one_keys_quota_is_not_anothers() {
    let world = World::new(Setup::default());
    let poor = Call::chat().with("authorization", "Bearer sk-poor").simulate("error=insufficient_quota");
    assert_eq!(world.call(&poor).await.status, 429);
    let again = Call::chat().with("authorization", "Bearer sk-poor");
    assert_eq!(world.call(&again).await.header("x-weir-error-class"), Some("weir_billing_block"));
    assert!(world.call(&Call::chat().with("authorization", "Bearer sk-rich")).await.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_spent_inside_a_stream_is_found_too() {
    let world = World::new(Setup::default());
    let hidden = Call::response_stream().simulate("fault=hidden:insufficient_quota");
    let answer = world.call(&hidden).await;
    assert_eq!((answer.status.as_u16(), answer.attempts()), (200, 1));
    assert_eq!(answer.header("x-weir-error-class"), Some("quota_insufficient"));
    assert_eq!(world.call(&Call::chat()).await.header("x-weir-error-class"), Some("weir_billing_block"));
}
